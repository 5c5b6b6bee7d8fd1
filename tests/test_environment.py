"""scripts/environment.sh, with programs in place of Python."""

import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
READS = (
    "scripts/environment.sh",
    "constraints.txt",
    "constraints_dev.txt",
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

    def run(version=None, *arguments):
        if version:
            python.write_text(
                f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}" && exit\n'
                f"exit {MAKES_A_VENV}\n"
            )
            python.chmod(python.stat().st_mode | stat.S_IXUSR)
        return subprocess.run(
            [tmp_path / READS[0], *arguments],
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


PYTHON = """#!/bin/sh
# Stands for Python: makes a .venv of itself, and records what pip is asked for.
case "$*" in
--version) echo Python 3.11.7 ;;
"-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
"-m pip install"*)
    echo "$*" >>pip.log
    if [ -e broken ]; then
        echo "some line"
        echo "ERROR: No matching distribution found for a==1"
        exit 1
    fi ;;
"-m compileall"*)
    echo "$*" >compiled.log
    exit 1 ;; # as where a package has a template that is no Python
-) exit 1 ;; # no T5X is there
esac
"""


@pytest.fixture
def environment(install, tmp_path):
    """Runs the script; returns what it said, and the lists that pip was given."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    log = tmp_path / "pip.log"

    def run(*arguments):
        log.unlink(missing_ok=True)
        result = install(None, *arguments)
        asked = log.read_text() if log.exists() else ""
        return result, re.findall(r"--requirement (\S+)", asked)

    return run


TRAIN, BOTH = ["constraints.txt"], ["constraints.txt", "constraints_dev.txt"]


def test_only_what_is_asked_for_is_installed_and_once(environment, tmp_path):
    for arguments, expected in (
        ((), TRAIN),
        ((), []),
        (("--dev",), BOTH),
        (("--dev",), []),
        ((), []),  # there is more than is asked for
    ):
        result, lists = environment(*arguments)
        assert result.returncode == 0, result.stderr
        assert lists == expected, arguments
    with (tmp_path / "constraints.txt").open("a") as f:
        f.write("another==1\n")
    assert environment()[1] == BOTH  # what is there for --dev stays


def test_a_failed_install_is_one_line_and_begins_anew(environment, tmp_path):
    (tmp_path / "broken").touch()
    result, _ = environment()
    assert result.returncode == 1
    assert result.stderr == (
        "environment: pip failed (ERROR: No matching distribution found for a==1): see "
        ".venv/install.log, then run this again\n"
    )
    (tmp_path / "broken").unlink()
    result, lists = environment()
    assert result.returncode == 0 and lists == TRAIN
    assert "removing .venv: its install did not finish" in result.stdout


def test_an_environment_of_the_users_stays(environment, tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    mine = tmp_path / ".venv" / "bin" / "mine"
    mine.touch()
    for _ in range(2):
        result, lists = environment()
        assert result.returncode == 1 and not lists
        assert result.stderr == (
            "environment: .venv was not made by this script, and stays: move it away, "
            "and run this again\n"
        )
        assert [p.name for p in tmp_path.rglob(".venv/**/*")] == ["bin", "mine"]


def test_packages_are_compiled_where_python_would_not_keep_it(
    environment, tmp_path, monkeypatch
):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    assert environment()[0].returncode == 0
    compiled = tmp_path / "compiled.log"
    assert not compiled.exists()
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    result, lists = environment("--dev")
    assert result.returncode == 0 and lists == BOTH
    assert compiled.read_text() == "-m compileall -qq -j 0 .venv/lib\n"
    assert "compiling the packages" in result.stdout
    assert not environment("--dev")[1]  # the stamp is there


@pytest.mark.parametrize("arguments", [["--all"], ["--dev", "--dev"]])
def test_unknown_arguments_are_refused(environment, arguments):
    result, lists = environment(*arguments)
    assert result.returncode == 1 and not lists
    assert "only --dev is known" in result.stderr


def test_another_system_is_refused_in_one_line(install, tmp_path, monkeypatch):
    uname = tmp_path / "uname"
    uname.write_text("#!/bin/sh\necho Darwin arm64\n")
    uname.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    result = install("Python 3.11.7")
    assert result.returncode == 1
    assert result.stderr == (
        "environment: needs Linux on x86-64, and this is Darwin arm64\n"
    )
