"""What stands in a run's folder is whole, or is not used; one process trains there."""

import fcntl
import functools
import os
import pathlib
import random
import shutil
import subprocess
import threading

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import pytest
from t5x import utils

from gbt_t5x import checksums, integrity, run_folder
from gbt_t5x.studies import launch
import gin_runs
import saved_run
import tiny

DATA_FILE = "state/ocdbt.process_0/d/*"
DATASET_FILE = "dataset/*.data*"
DAMAGES = {
    "data_file_deleted": (DATA_FILE, None),
    "data_file_cut": (DATA_FILE, lambda content: content[:10]),
    "metadata_empty": ("state/_METADATA", lambda content: b""),
    "step_metadata_empty": ("_CHECKPOINT_METADATA", lambda content: b""),
    "manifest_deleted": ("state/manifest.ocdbt", None),
    "dataset_missing": ("dataset", None),
    "dataset_emptied": ("dataset/train_ds*", None),
    "dataset_cut": (DATASET_FILE, lambda content: content[: len(content) // 2]),
    "dataset_flipped": (
        DATASET_FILE,
        lambda content: content[:99] + b"?" + content[100:],
    ),
    "data_description_cut": ("dataset/*.json", lambda content: content[:-1]),
    "state_missing": ("state", None),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "run"
    saved_run.make(folder)
    return folder


@pytest.fixture
def model_dir(original, tmp_path):
    return pathlib.Path(shutil.copytree(original, tmp_path / "run"))


def damage(folder: pathlib.Path, pattern: str, change) -> None:
    """Of all that match: a store may hold files, and parts, that nothing refers to."""
    for path in list(folder.glob(pattern)):
        if change:
            path.write_bytes(change(path.read_bytes()))
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def flip(path: pathlib.Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def assert_set_aside(model_dir: pathlib.Path, caplog) -> None:
    """The newest checkpoint is, with all that is in it, and one line says so."""
    content = sorted(p.name for p in (model_dir / "checkpoint_4").rglob("*"))
    caplog.clear()
    saved_run.configuration(model_dir)
    lines = [r.getMessage() for r in caplog.records if "damaged" in r.getMessage()]
    assert len(lines) == 1 and "\n" not in lines[0]
    assert "checkpoint_4 is damaged (" in lines[0]
    assert "is now damaged-checkpoint_4, and the run goes on from step 2" in lines[0]
    assert integrity.steps(str(model_dir)) == [2]
    aside = model_dir / "damaged-checkpoint_4"
    assert sorted(p.name for p in aside.rglob("*")) == content


def test_checksums_are_those_of_sha256sum(original):
    for step in saved_run.STEPS:
        folder = original / f"checkpoint_{step}"
        sums = subprocess.run(["sha256sum", "-c", "--strict", checksums.FILE], cwd=folder)
        assert sums.returncode == 0
        lines = (folder / checksums.FILE).read_text().splitlines()
        files = [p for p in folder.rglob("*") if p.is_file()]
        assert len(lines) == len(files) - 1
        assert integrity.check(str(folder)) == integrity.Report(None, True)


@pytest.mark.parametrize("fault", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside(fault, model_dir, caplog):
    damage(model_dir / "checkpoint_4", *DAMAGES[fault])
    assert_set_aside(model_dir, caplog)


def test_a_checkpoint_that_was_saved_without_a_position(model_dir, tmp_path):
    """T5X makes the folder in any case, and Orbax says in it that it is whole."""
    folder = model_dir / "checkpoint_4"
    (folder / checksums.FILE).unlink()
    damage(folder, *DAMAGES["dataset_emptied"])
    assert [path.name for path in (folder / "dataset").iterdir()] == [
        "commit_success.txt"
    ]
    cfg = utils.RestoreCheckpointConfig(path=str(folder), mode="specific")
    assert run_folder.restore_config(cfg) is cfg
    saved_run.configuration(model_dir, has_position=False)
    assert integrity.steps(str(model_dir)) == [2, 4]
    saved_run.configuration(model_dir)
    assert integrity.steps(str(model_dir)) == [2]
    folder = model_dir / "damaged-checkpoint_4"
    (folder / "dataset" / "commit_success.txt").unlink()
    assert not integrity.check(str(folder), needs_position=False).damage
    (folder / "dataset").rmdir()
    found = integrity.check(str(folder), needs_position=False).damage
    assert found == "dataset is missing, or was empty and lost in a copy: make it"


def test_a_run_goes_on_from_the_newest_whole_checkpoint(model_dir, caplog):
    damage(model_dir / "checkpoint_4", *DAMAGES["data_file_cut"])
    assert_set_aside(model_dir, caplog)
    run = saved_run.Run(model_dir)
    assert list(run.manager.all_steps()) == [2]
    assert saved_run.equal(run.restore(), saved_run.state_at(2))
    run.save(saved_run.state_at(4))
    run.close()
    assert saved_run.equal(saved_run.Run(model_dir).restore(), saved_run.state_at(4))


@pytest.mark.parametrize("fault", DAMAGES)
def test_damage_is_found_without_checksums(fault, original, tmp_path):
    """A process that was killed just after it saved has not written them."""
    folder = pathlib.Path(shutil.copytree(original / "checkpoint_4", tmp_path / "copy"))
    (folder / checksums.FILE).unlink()
    assert integrity.check(str(folder)) == integrity.Report(None, False)
    damage(folder, *DAMAGES[fault])
    found = integrity.check(str(folder)).damage
    assert found and "\n" not in found


def test_a_checkpoint_without_checksums_is_read_before_the_run_goes_on(model_dir, caplog):
    (model_dir / "checkpoint_4" / checksums.FILE).unlink()
    saved_run.configuration(model_dir)
    assert "checkpoint_4 has no checksums: all of it was read" in caplog.text
    damage(model_dir / "checkpoint_4", *DAMAGES["data_file_cut"])
    assert_set_aside(model_dir, caplog)


def test_an_empty_folder_is_set_aside(model_dir, caplog):
    shutil.rmtree(model_dir / "checkpoint_4")
    (model_dir / "checkpoint_4").mkdir()
    assert_set_aside(model_dir, caplog)


def test_a_second_damaged_checkpoint_gets_a_free_name(model_dir):
    (model_dir / "damaged-checkpoint_4").mkdir()
    damage(model_dir / "checkpoint_4", *DAMAGES["data_file_cut"])
    saved_run.configuration(model_dir)
    assert (model_dir / "damaged-checkpoint_4.2" / "state").is_dir()


def test_no_flipped_bit_is_restored(original, tmp_path):
    folder = pathlib.Path(shutil.copytree(original / "checkpoint_4", tmp_path / "copy"))
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    bits = [path.stat().st_size * 8 for path in files]
    rng = random.Random(0)
    for path in [*files, *rng.choices(files, weights=bits, k=30)]:
        bit = rng.randrange(path.stat().st_size * 8)
        flip(path, bit)
        found = integrity.check(str(folder)).damage
        assert found and (path.name in found or path.name == checksums.FILE), path
        flip(path, bit)
    assert not integrity.check(str(folder)).damage


def test_no_run_begins_anew_because_no_checkpoint_is_whole(model_dir):
    shutil.rmtree(model_dir / "checkpoint_4" / "state")
    (model_dir / "checkpoint_2" / "state" / "_METADATA").write_bytes(b"")
    before = sorted(model_dir.rglob("*"))
    with pytest.raises(
        ValueError, match="(?s)no checkpoint in MODEL_DIR=.*_METADATA"
    ) as e:
        saved_run.configuration(model_dir)
    assert "checkpoint_4: state" in str(e.value) and "\n" not in str(e.value)
    assert sorted(model_dir.rglob("*")) == before


@pytest.mark.parametrize("name", ["checkpoint_4", "damaged-checkpoint_4"])
def test_no_run_begins_anew_beside_a_damaged_checkpoint(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"no checkpoint in MODEL_DIR=.*{name}"):
        saved_run.configuration(tmp_path)
    assert (tmp_path / name).is_dir()


def test_checkpoints_of_other_runs_are_verified_and_stay(model_dir, tmp_path):
    damage(model_dir / "checkpoint_4", *DAMAGES["data_file_cut"])
    before = sorted(model_dir.rglob("*"))
    newest = utils.RestoreCheckpointConfig(path=str(model_dir), mode="latest")
    cfg = utils.CheckpointConfig(save=None, restore=newest)
    for verify in (
        lambda: run_folder.restore_config(newest),
        lambda: run_folder.checkpoint_config(cfg, str(tmp_path / "new")),
    ):
        with pytest.raises(
            ValueError, match="d/.* differs .*RestoreCheckpointConfig.path"
        ):
            verify()
    # The remedy that it names.
    other = utils.RestoreCheckpointConfig(
        path=str(model_dir / "checkpoint_2"), mode="specific"
    )
    assert run_folder.restore_config(other) is other
    assert sorted(model_dir.rglob("*")) == before


def test_all_checkpoints_that_are_evaluated_are_verified(model_dir):
    damage(model_dir / "checkpoint_2", *DAMAGES["data_file_cut"])
    cfg = utils.RestoreCheckpointConfig(path=str(model_dir), mode="all")
    with pytest.raises(ValueError, match="checkpoint_2 is damaged: "):
        run_folder.restore_config(cfg)
    newest = utils.RestoreCheckpointConfig(path=str(model_dir), mode="latest")
    assert run_folder.restore_config(newest) is newest


def test_a_run_that_does_not_save_changes_nothing(model_dir, tmp_path):
    cfg = utils.CheckpointConfig(save=None)
    run_folder.checkpoint_config(cfg, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    damage(model_dir / "checkpoint_4", *DAMAGES["data_file_cut"])
    before = sorted(model_dir.rglob("*"))
    with pytest.raises(ValueError, match="checkpoint_4 is damaged: .*from step 2"):
        run_folder.checkpoint_config(cfg, str(model_dir))
    assert sorted(model_dir.rglob("*")) == before


def test_a_bucket_gets_finite_states_and_no_files_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = threading.enumerate()
    save = utils.SaveCheckpointConfig(period=2)
    cfg = run_folder.checkpoint_config(utils.CheckpointConfig(save=save), "gs://b/run")
    *_, before_saving = cfg.save.state_transformation_fns
    arrays = saved_run.state_at(6).state_dict()
    before_saving(arrays, None)
    run_folder.check_groups("gs://b/run", ["a", "b"])
    assert set(threading.enumerate()) <= set(threads)
    arrays["state"]["hyperparams"]["alpha"] = np.float32(np.nan)
    with pytest.raises(ValueError, match="last finite checkpoint: there is none"):
        before_saving(arrays, None)
    assert not list(tmp_path.iterdir())


def test_the_refusal_of_a_state_names_a_whole_checkpoint(model_dir):
    run = saved_run.Run(model_dir)
    damage(model_dir / "checkpoint_4", *DAMAGES["data_file_cut"])
    arrays = saved_run.state_at(6).state_dict()
    arrays["state"]["hyperparams"]["alpha"] = np.float32(np.nan)
    with pytest.raises(ValueError, match="finite checkpoint: .*_2"):
        run.save(saved_run.state_at(6).restore_state(arrays))
    run.close()


def test_the_refusal_names_a_checkpoint_without_a_position(model_dir):
    newest = model_dir / "checkpoint_4"
    (newest / checksums.FILE).unlink()
    damage(newest, *DAMAGES["dataset_emptied"])
    refusal = run_folder._BeforeSaving(str(model_dir))._refusal(6, ["target/w"])
    assert f"finite checkpoint: {newest}. " in refusal


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_not_saved(bad, model_dir):
    run = saved_run.Run(model_dir)
    state = saved_run.state_at(6)
    arrays = state.state_dict()
    arrays["state"]["hyperparams"]["alpha"] = np.float32(bad)
    before = sorted(model_dir.rglob("*"))
    message = "step 6 is not finite, .*hyperparams/alpha.*finite checkpoint: .*_4"
    with pytest.raises(ValueError, match=message) as error:
        run.save(state.restore_state(arrays))
    run.close()
    assert sorted(model_dir.rglob("*")) == before
    assert launch.is_divergence(str(error.value))


def test_optimizers_may_hold_an_infinite_number():
    state = {
        "target": {"w": np.ones(3, np.float32)},
        "state": {"param_states": {"best_value": np.float32(np.inf)}},
    }
    assert run_folder.not_finite(state) == []
    state["state"]["param_states"]["m"] = np.array([np.inf], np.float32)
    state["target"]["w"][1] = np.nan
    assert run_folder.not_finite(state) == ["state/param_states/m", "target/w"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    message = f"MODEL_DIR='{tmp_path}/file/run' cannot be written: .* Set it to a folder"
    with pytest.raises(ValueError, match=message):
        run_folder._open(f"{tmp_path}/file/run", True, None)


def test_a_sensitivity_that_is_not_finite_is_saved():
    """It is begun anew in the next step, as in a run that saves nothing there."""
    bad = np.array([np.nan, np.inf], np.float32)
    of_kind = {"alpha": {"w": bad}}
    state = {"target": {"w": np.ones(2)}, "state": {"sensitivity": {"params": of_kind}}}
    assert run_folder.not_finite(state) == []
    state["state"]["hyperparams"] = of_kind
    assert run_folder.not_finite(state) == ["state/hyperparams/alpha/w"]


def test_old_checkpoints_go_with_their_checksums(tmp_path):
    run = saved_run.Run(tmp_path, keep=1)
    for step in (2, 4, 6):
        run.save(saved_run.state_at(step))
        run.wait_for_checksums()  # which could be written while the folder is removed
    run.close()
    assert sorted(os.listdir(tmp_path)) == ["checkpoint_6", "run.lock"]
    assert integrity.check(str(tmp_path / "checkpoint_6")).has_checksums


def test_a_second_process_cannot_train_in_the_folder(model_dir):
    with open(model_dir / "run.lock", "w+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("process 7 on host\n")
        other.flush()
        before = sorted(model_dir.rglob("*"))
        with pytest.raises(ValueError, match=r"another process .*\(process 7 on host\)"):
            saved_run.configuration(model_dir)
        # Evaluation reads what a run in progress has saved.
        cfg = utils.RestoreCheckpointConfig(path=str(model_dir), mode="all")
        assert run_folder.restore_config(cfg) is cfg
        assert sorted(model_dir.rglob("*")) == before
    saved_run.configuration(model_dir)
    assert f"process {os.getpid()} on " in (model_dir / "run.lock").read_text()


def test_a_folder_that_cannot_be_locked_is_trained_in(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError("No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    saved_run.configuration(tmp_path)
    assert "run.lock cannot be locked (No locks available)" in caplog.text


@pytest.fixture
def broadcast(monkeypatch):
    """What the first of two processes sends, and which have asked for it."""
    sent: list[int] = []
    asked: list[int] = []

    def broadcast_one_to_all(value):
        asked.append(jax.process_index())
        if jax.process_index() == 0:
            sent.append(int(value))
        return sent[-1]

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast_one_to_all)
    return sent, asked


def test_all_processes_stop_if_the_first_finds_a_fault(tmp_path, monkeypatch, broadcast):
    (tmp_path / "checkpoint_4").mkdir()
    sent, _ = broadcast
    for process, message in ((0, "no checkpoint in MODEL_DIR"), (1, "process 0 found")):
        monkeypatch.setattr(jax, "process_index", lambda p=process: p)
        with pytest.raises(ValueError, match=message):
            saved_run.configuration(tmp_path)
    (tmp_path / "checkpoint_4").rmdir()
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    saved_run.configuration(tmp_path)
    assert sent == [1, 0]

    def unreadable(*_):
        raise PermissionError("Permission denied")

    monkeypatch.setattr(integrity, "steps", unreadable)
    with pytest.raises(PermissionError):
        saved_run.configuration(tmp_path)
    assert sent == [1, 0, 1]


def test_processes_that_see_other_files_meet_as_often(model_dir, monkeypatch, broadcast):
    """As on NFS, where a file is seen later by one host than by another."""
    _, asked = broadcast
    steps = integrity.steps
    for process in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda p=process: p)
        saved_run.configuration(model_dir)
        monkeypatch.setattr(integrity, "steps", lambda _: [])
    assert steps(str(model_dir)) == [2, 4]
    assert asked == [0, 1]


def test_sensitivities_in_another_dtype_are_refused(tmp_path):
    """What the error says to set goes on."""
    next_batch = (
        "guided_trainer.GuidedTrainer.guidance_dataset_cfg = None",
        "DISCOUNT = 0.0",
        gin_runs.TINY_NETWORK,
    )
    run = functools.partial(
        gin_runs.train, "gin/quickstart_guided.gin", tmp_path / "run", *next_batch
    )
    run("SENSITIVITY_DTYPE = 'bfloat16'")
    with pytest.raises(
        ValueError, match="checkpoint_2 keeps sensitivities in bfloat16, "
    ):
        run("TRAIN_STEPS = 4")
    step, state = run("TRAIN_STEPS = 4", "SENSITIVITY_DTYPE = 'bfloat16'")
    assert step == 4
    kept = jax.tree.leaves(state._optimizer.state.sensitivity)
    assert all(x.dtype == jnp.bfloat16 for x in kept)


def test_a_run_goes_on_with_its_groups_alone(model_dir, tmp_path):
    """λ is in the order of their names, which no checkpoint has."""
    run_folder.check_groups(str(model_dir), ["any", "names"])  # nobody knows which
    assert not (model_dir / "groups.json").exists()
    (model_dir / "groups.json").write_text('["decoder", "encoder"]')
    run_folder.check_groups(str(model_dir), ["decoder", "encoder"])
    message = (
        r"have 2 groups of parameters, decoder, encoder among them, and this run has 3, "
        r"attention, mlp, rest among them: set GROUPS as it was, or MODEL_DIR"
    )
    with pytest.raises(ValueError, match=message):
        run_folder.check_groups(str(model_dir), ["attention", "mlp", "rest"])
    with pytest.raises(ValueError, match="2 groups .*, no other among them"):
        run_folder.check_groups(str(model_dir), ["decoder", "encoder", "rest"])
    run_folder.check_groups(str(model_dir), ["decoder", "encoder"])

    fresh = tmp_path / "fresh"  # nothing is learned there yet
    for names in (["a", "b"], ["c", "d"]):
        run_folder.check_groups(str(fresh), names)
    assert (fresh / "groups.json").read_text() == '["c", "d"]'
    for folder, names in ((None, ["a"]), (str(tmp_path / "no_groups"), [])):
        run_folder.check_groups(folder, names)
    assert not (tmp_path / "no_groups").exists()


def test_the_trainer_compares_its_groups(model_dir, monkeypatch):
    """That of train, T5X's too, has MODEL_DIR by the name summary_dir."""
    compared = []
    monkeypatch.setattr(run_folder, "check_groups", lambda *args: compared.append(args))
    definition = tiny.guided(groups=(("encoder", "encoder/.*"), ("rest", ".*")))
    with tiny.make_trainer(definition, summary_dir=str(model_dir)):
        assert compared == [(str(model_dir), ["encoder", "rest"])]
