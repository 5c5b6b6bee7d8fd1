"""Commands of the documents are ones that their programs understand."""

import functools
import re
import shlex
import subprocess
import sys

import pytest

import gin_runs

BLOCK = re.compile(r"(?:(?<=\n\n)|^)((?:    .*\n|\n)+)")
PROGRAM = re.compile(r"(?:\.venv/bin/)?python (?=-m |scripts/)|scripts/\w+\.sh")
DOCUMENTS = ["README.md", "CONTRIBUTING.md"] + sorted(
    str(path.relative_to(gin_runs.ROOT)) for path in gin_runs.ROOT.glob("docs/**/*.md")
)


def commands_of(document):
    """The command lines of its indented blocks, without the interpreter."""
    text = (gin_runs.ROOT / document).read_text()
    for block in BLOCK.findall(text):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if PROGRAM.match(line.strip()):
                yield re.sub(r"^\S*python ", "", line.strip())


COMMANDS = list(dict.fromkeys(c for d in DOCUMENTS for c in commands_of(d)))


@functools.cache
def help_of(*program):
    done = subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=gin_runs.ROOT,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return done.stdout


def check(command):
    words = shlex.split(command)
    if words[0].endswith(".sh"):
        assert (gin_runs.ROOT / words[0]).exists()
        return
    program = words[:2] if words[0] == "-m" else words[:1]
    options = [word for word in words[len(program) :] if word.startswith("-")]
    if program[-1].startswith("t5x."):
        files = [x.partition("=")[2] for x in options if x.startswith("--gin_file=")]
        bindings = [x[len("--gin.") :] for x in options if x.startswith("--gin.")]
        assert len(files) + len(bindings) == len(options)
        # Another process may hold the lock of that folder.
        bindings = [x for x in bindings if not x.startswith("MODEL_DIR=")]
        with gin_runs.arguments(
            files[0], *(f"include {file!r}" for file in files[1:]), *bindings
        ):
            return
    known = help_of(*program)
    for option in options:
        name = "--gin" if option.startswith("--gin.") else option.partition("=")[0]
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", known), f"no option {name}"


def test_there_are_commands():
    assert len(COMMANDS) > 20
    assert {c.split()[1] for c in COMMANDS if c.startswith("-m")} >= {
        *("t5x.train", "t5x.eval", "t5x.infer"),
        *("gbt_t5x.studies.rivals", "gbt_t5x.tasks.check", "gbt_t5x.verify"),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command):
    check(command)


@pytest.mark.parametrize(
    "wrong",
    [
        "scripts/absent.sh",
        "-m gbt_t5x.studies.rivals quickstart --budget 1",
        "-m t5x.train --gin_file=gin/absent.gin",
        '-m t5x.train --gin_file=gin/quickstart_guided.gin --gin.HYPERPARAM=\\"alpha\\"',
    ],
)
def test_a_wrong_command_is_found(wrong):
    with pytest.raises((AssertionError, OSError, ValueError)):
        check(wrong)
