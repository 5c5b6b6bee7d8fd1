"""What the commands have in common, and what they import."""

import argparse
import pkgutil
import re
import subprocess
import sys

import pytest

from gbt_t5x import studies
from gbt_t5x.studies import commands
import gin_runs

COMMANDS = [
    *("compare", "paper", "rivals", "schedules", "scores", "search", "sources"),
    "transfer",
]
HEAVY = ("jax", "t5x", "seqio", "tensorflow", "matplotlib", "tensorboard")


@pytest.fixture
def parser():
    made = commands.parser("name", "Does it.", "a b --gin.N=1\nc")
    made.add_argument("words", nargs="*")
    made.add_argument("--number", type=int)
    commands.add_figure(made)
    return made


def test_commands_are_those_that_the_package_names():
    folder = gin_runs.ROOT / "gbt_t5x/studies"
    found = [
        module.name
        for module in pkgutil.iter_modules(studies.__path__)
        for file in [
            f"{module.name}/__main__.py" if module.ispkg else f"{module.name}.py"
        ]
        if "\ndef main(" in (folder / file).read_text()
    ]
    assert found == COMMANDS
    assert re.findall(r"^    (\w+)  ", studies.__doc__, re.M) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_takes_no_time(name):
    """Of the modules above only tensorboard is imported, by those that read curves."""
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['{name}', '--help']\n"
        f"try: runpy.run_module('gbt_t5x.studies.{name}', run_name='__main__')\n"
        f"finally: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert f"example:\n  python -m gbt_t5x.studies.{name} " in done.stdout
    imported = done.stderr.splitlines()[-1]
    reads_curves = name not in ("schedules", "scores")
    assert imported == ("['tensorboard']" if reads_curves else "[]")


def test_help_shows_each_example(parser):
    lines = parser.format_help().splitlines()[-2:]
    command = "  python -m gbt_t5x.studies.name"
    assert lines == [f"{command} a b --gin.N=1", f"{command} c"]


def test_an_example_may_take_two_lines():
    lines = commands.parser("name", "", "a \\\n    b\nc").format_help().splitlines()[-3:]
    command = "  python -m gbt_t5x.studies.name"
    assert lines == [f"{command} a \\", "      b", f"{command} c"]


def test_gin_settings_may_stand_anywhere(parser, capsys):
    arguments = ["a", "--gin.N=1", "--number", "3", "b", "--gin.F.x={'a': 1}"]
    options, bindings = commands.parse_with_gin(parser, arguments)
    assert (options.words, options.number) == (["a", "b"], 3)
    assert bindings == ["N = 1", "F.x = {'a': 1}"]
    for wrong, message in {
        "--gin.N": "--gin.N is not --gin.NAME=VALUE (see ",
        "--other=1": "unrecognized arguments: --other=1 (see ",
        "--num=1": "unrecognized arguments: --num=1 (see ",
    }.items():
        with pytest.raises(SystemExit, match="2"):
            commands.parse_with_gin(parser, [wrong])
        assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_figure_is_a_png_or_svg(parser):
    assert parser.parse_args(["--figure", "a/b.svg"]).figure.name == "b.svg"
    with pytest.raises(argparse.ArgumentTypeError, match="must end in .png or .svg"):
        commands._figure("a.jpg")


def test_an_error_is_one_line(capsys):
    def fail():
        raise ValueError("one\n  and two")

    with pytest.raises(SystemExit, match="^1$"):
        commands.run(fail)
    assert capsys.readouterr().err == "error: one and two\n"


def test_progress_says_what_is_left(capsys):
    progress = commands.Progress(5, "runs", jobs=2)
    progress.done("a was done before")
    progress.done("b", 60.0)
    progress.done("c", 80.0)
    progress.done("d", 70.0)
    progress.done("e", 70.0)
    assert capsys.readouterr().err.splitlines() == [
        "[1/5 runs] a was done before",
        "[2/5 runs, about 2 min 0 s left] b in 1 min 0 s",
        "[3/5 runs, about 1 min 10 s left] c in 1 min 20 s",
        "[4/5 runs, about 1 min 10 s left] d in 1 min 10 s",
        "[5/5 runs] e in 1 min 10 s",
    ]
