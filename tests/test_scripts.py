"""What the scripts of demos and checks say of wrong arguments, and what they remove."""

import os
import subprocess

import pytest
import soak

DEMOS = {
    "quickstart": "baseline",
    "translate_demo": "baseline",
    "finetune_demo": "pretrained",
}


def demo(name, folder, *arguments, **env):
    return subprocess.run(
        [f"scripts/{name}.sh", *arguments],
        env=os.environ | {f"{name.upper()}_DIR": os.fspath(folder), **env},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", DEMOS)
@pytest.mark.parametrize("argument", ["--help", "TRAIN_STEPS=3", "--gin.TRAIN_STEPS"])
def test_demos_know_what_they_take(name, argument, tmp_path):
    (tmp_path / DEMOS[name]).mkdir()
    result = demo(name, tmp_path, "--gin.TRAIN_STEPS=3", argument)
    assert f"\nCommand: scripts/{name}.sh [--gin.NAME=VALUE ...]" in result.stdout
    if argument == "--help":
        assert (result.returncode, result.stderr) == (0, "")
    else:
        assert result.returncode == 2
        assert result.stderr == f"{name}.sh: unknown argument {argument}\n"
    assert (tmp_path / DEMOS[name]).is_dir()


def test_a_demo_that_fails_leaves_the_runs_of_before(tmp_path):
    results = tmp_path / "baseline" / "checkpoint_3"
    results.mkdir(parents=True)
    for _ in range(2):
        result = demo("quickstart", tmp_path, "--gin.TRAIN_STEP=3")
        assert result.returncode == 1
        assert "nothing refers to these macros: TRAIN_STEP, near" in result.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["baseline"]
        assert results.is_dir()


@pytest.mark.parametrize("repeats", ["two", "0", "-1"])
def test_repeats_are_a_number(repeats, tmp_path):
    result = demo("finetune_demo", tmp_path, REPEATS=repeats)
    assert result.returncode == 2
    assert f"REPEATS is {repeats}, which is no number of 1 or more" in result.stderr


def test_the_soak_removes_no_files_but_its_own(tmp_path, monkeypatch, capsys):
    file = tmp_path / "thesis.txt"
    file.touch()
    with pytest.raises(SystemExit):
        soak.main([str(tmp_path)])
    assert f"{tmp_path} has files that are not of this script" in capsys.readouterr().err
    assert file.exists()

    monkeypatch.setattr(soak, "checks", lambda args: [])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    mine = tmp_path / "mine"
    soak.main([str(mine)])
    (mine / "log").touch()
    soak.main([str(mine)])
    assert {path.name for path in mine.iterdir()} == {"soak"}
