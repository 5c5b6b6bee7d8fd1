"""The plugin and the embedded t5x as installed packages, far from this repository."""

import os
import shutil
import subprocess
import sys

import pytest

import gin_runs

PROJECTS = {
    "": ["gbt_t5x", "tasks", "README.md", "setup.py"],
    "embedded": ["t5x", "pyproject.toml"],
}
# What `python -m MODULE` runs, if it is the installed one.
RUN = """
import runpy, sys
import gbt_t5x, t5x
folder = sys.argv.pop(1)
for package in (gbt_t5x, t5x):
    assert package.__file__.startswith(folder), package.__file__
runpy.run_module(sys.argv.pop(1), alter_sys=True, run_name="__main__")
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder of what pip makes of the sources."""
    folder = tmp_path_factory.mktemp("packages")
    for project, parts in PROJECTS.items():
        copy = tmp_path_factory.mktemp("source")
        for part in parts:
            source = gin_runs.ROOT / project / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / part)
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-build-isolation"]
        subprocess.run([*pip, "--no-deps", f"--target={folder}", copy], check=True)
    return folder


def test_a_run_from_an_empty_folder(packages, tmp_path):
    """By a file of the user's, which includes those of both packages by name."""
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "mine.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "from t5x.examples.t5 import network\n"
        "include 'gbt_t5x/gin/quickstart_baseline.gin'\n"
        "include 'gbt_t5x/gin/guidance/adafactor.gin'\n"
        "include 'gbt_t5x/gin/guidance/next_batch.gin'\n"
        "META_LEARNING_RATE = 1e-3\n" + "\n".join(gin_runs.TINY)
    )

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(packages), *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(packages)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    run("t5x.train", "--gin_file=mine.gin", "--gin.MODEL_DIR='run'")
    assert (folder / "run/checkpoint_2").is_dir()
    table = run("gbt_t5x.studies.compare", "run", "--figure", "run.png")
    assert "beta1 at step 2" in table
    assert (folder / "run.png").is_file()
    sizes = ("seeds", "directions", "translation", "pretraining", "finetuning", "trial")
    sizes += ("trials", "guided_trials", "evaluations", "other_trials")
    rows = [*(f"{name},0\n" for name in sizes), "columns,alpha\n"]
    (folder / "size.csv").write_text("".join(["name,value\n", *rows]))
    run("gbt_t5x.studies.paper", "--from", ".", "--page", "page/paper.html")
    assert "not measured" in (folder / "page/paper.html").read_text()
