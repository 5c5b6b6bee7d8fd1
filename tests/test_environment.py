"""scripts/environment.sh, with programs in place of Python."""

import os
import pathlib
import shutil
import stat
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
READS = (
    "scripts/environment.sh",
    "constraints.txt",
    "setup.py",
    "embedded/pyproject.toml",
)
MAKES_A_VENV = 7


@pytest.fixture
def install(tmp_path):
    """Runs the script in a folder of its own with a Python of a version."""
    for name in READS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python"

    def run(version=None):
        if version:
            python.write_text(
                f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}" && exit\n'
                f"exit {MAKES_A_VENV}\n"
            )
            python.chmod(python.stat().st_mode | stat.S_IXUSR)
        return subprocess.run(
            [tmp_path / READS[0]],
            env={**os.environ, "PYTHON": os.fspath(python)},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize("version", ["Python 3.11.7", "Python 3.12.0"])
def test_a_supported_python_makes_the_environment(install, version):
    result = install(version)
    assert result.returncode == MAKES_A_VENV
    assert result.stdout == f"environment: making .venv with {version}\n"


@pytest.mark.parametrize(
    "version", ["Python 2.7.18", "Python 3.1.5", "Python 3.10.13", "Python 3.13.0"]
)
def test_another_python_is_refused_in_one_line(install, tmp_path, version):
    result = install(version)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"environment: needs Python 3.11 or 3.12, and {tmp_path}/python is {version}: "
        "set PYTHON to one\n"
    )
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_does_not_run_is_refused(install, tmp_path):
    result = install()
    assert result.returncode == 1
    assert result.stderr == (
        f"environment: needs Python 3.11 or 3.12, and {tmp_path}/python does not run: "
        "set PYTHON to one\n"
    )
