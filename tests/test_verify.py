"""python -m gbt_t5x.verify, on checkpoints of both formats."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gbt_t5x import checksums, integrity, verify
import saved_run
from test_finetuning import write_legacy

ARRAYS = {
    "target/a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "target/zeros": np.zeros((4, 4), np.float32),
    "state/step": np.int32(7),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "run"
    saved_run.make(folder)
    return folder


@pytest.fixture
def legacy(tmp_path):
    write_legacy(tmp_path / "checkpoint_7", ARRAYS, old=False)
    return tmp_path / "checkpoint_7"


def lines_of(capsys, *folders: pathlib.Path) -> tuple[int, list[str]]:
    status = verify.main([str(folder) for folder in folders])
    return status, capsys.readouterr().out.splitlines()


def test_every_checkpoint_of_a_run_has_a_line(run, tmp_path, capsys):
    status, lines = lines_of(capsys, run)
    assert status == 0 and len(lines) == 2
    assert lines[1].startswith(f"whole    {run}/checkpoint_4  checksums  (")
    copy = pathlib.Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "checkpoint_2" / "state" / "_METADATA").write_bytes(b"")
    (copy / "checkpoint_4" / checksums.FILE).unlink()
    status, lines = lines_of(capsys, copy)
    assert status == 1
    assert lines[0].startswith(f"DAMAGED  {copy}/checkpoint_2  state/_METADATA differs")
    assert "no checksums, all was read" in lines[1]


def test_a_folder_without_checkpoints_is_named(tmp_path, capsys):
    status, lines = lines_of(capsys, tmp_path, tmp_path / "checkpoint_3")
    assert status == 1 and [line.split()[0] for line in lines] == ["MISSING"] * 2
    assert verify.main([]) == 2
    assert "gbt_t5x.verify FOLDER" in capsys.readouterr().out


def test_arrays_that_are_not_finite_are_named(tmp_path, capsys):
    arrays = ARRAYS | {"target/bad": np.array([[1.0, np.nan]], np.float32)}
    write_legacy(tmp_path / "checkpoint_7", arrays, old=True)
    status, lines = lines_of(capsys, tmp_path)
    assert status == 0
    assert "1 arrays are not finite, such as target/bad" in lines[0]


def test_a_missing_chunk_is_damage_unless_there_is_a_fill_value(legacy, capsys):
    assert lines_of(capsys, legacy)[0] == 0
    (legacy / "target.zeros" / "0.0").unlink()
    status, lines = lines_of(capsys, legacy)
    assert status == 1
    assert "array target/zeros: NOT_FOUND" in lines[0] and "0.0" in lines[0]
    zarray = legacy / "target.zeros" / ".zarray"
    zarray.write_text(zarray.read_text().replace('"fill_value":null', '"fill_value":0'))
    assert lines_of(capsys, legacy)[0] == 0
    zarray.unlink()
    assert lines_of(capsys, legacy)[0] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"optimizer", b"optimixer"),
        lambda content: content.replace(b"kvstore", b"kvsuore"),
    ],
    ids=["empty", "cut", "renamed", "an array's place renamed"],
)
def test_a_damaged_msgpack_file_is_named(change, legacy):
    file = legacy / "checkpoint"
    file.write_bytes(change(file.read_bytes()))
    assert integrity.check(str(legacy)).damage.startswith("checkpoint ")


def test_a_bucket_is_not_looked_at(capsys):
    status, (line,) = lines_of(capsys, "gs://bucket/checkpoint_5")
    assert status == 1
    assert "is no folder on a local disk: copy it to one" in line


def test_a_position_of_two_that_is_missing_is_damage(tmp_path):
    positions = [tmp_path / f"process_{i}" / f"train_ds-00{i}-of-002" for i in range(2)]
    for path in positions:
        path.parent.mkdir()
        path.write_text("{}")  # as Grain has it
    integrity._read_dataset(str(tmp_path))
    positions[1].unlink()
    with pytest.raises(integrity._Damage, match="^train_ds-001-of-002 is missing$"):
        integrity._read_dataset(str(tmp_path))


def test_an_array_is_read_in_parts(legacy, monkeypatch):
    monkeypatch.setattr(integrity, "_SLAB", 16)
    sizes: list[int] = []
    assert not integrity.check(str(legacy), sizes.append).damage
    assert sorted(sizes) == [12, 12, 16, 16, 16, 16]


def test_the_command_starts_without_jax_and_tensorflow(legacy):
    code = (
        "import sys; from gbt_t5x import verify; status = verify.main(sys.argv[1:]);"
        "print({'jax', 'tensorflow', 't5x'} & set(sys.modules)); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, str(legacy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
