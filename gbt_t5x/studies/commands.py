"""What the commands have in common: options, one-line errors, progress.

An error of what was asked ends a command with `error: ...` on stderr and status 1, one of
how it was asked with status 2.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import math
import os
import pathlib
import re
import sys
import time
from typing import Any, NoReturn, TextIO

# TensorFlow only opens files here: no log lines about its kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parser(
    name: str, description: str, example: str, package: str = "gbt_t5x.studies"
) -> argparse.ArgumentParser:
    """The parser of `python -m gbt_t5x.studies.NAME`.

    Args:
        name: of the module.
        description: what the command does.
        example: a command line, after the name, or several lines of them; a line that
            goes on the one before begins with spaces.
        package: that the module is in.
    """
    prog = f"python -m {package}.{name}"
    command = re.sub(r"^(?!\s)", f"{prog} ", example, flags=re.MULTILINE)
    lines = "".join(f"\n  {line}" for line in command.splitlines())
    return _Parser(
        prog=prog,
        description=description,
        epilog=f"example:{lines}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parse_with_gin(
    options: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
    """Parses a command line that may have --gin.NAME=VALUE anywhere.

    Returns:
        The options, and the bindings as `NAME = VALUE`.
    """
    arguments = sys.argv[1:] if argv is None else argv
    bindings = []
    for argument in arguments:
        if argument.startswith("--gin."):
            name, equals, value = argument.removeprefix("--gin.").partition("=")
            if not equals:
                options.error(f"{argument} is not --gin.NAME=VALUE")
            bindings.append(f"{name} = {value}")
    others = [a for a in arguments if not a.startswith("--gin.")]
    return options.parse_intermixed_args(others), bindings


def number(kind: type, above: int = 0) -> Callable[[str], Any]:
    """The type of an option: a finite number above another.

    Args:
        kind: int or float.
        above: what it must exceed.
    """
    what = "a whole number" if kind is int else "a number"

    def parse(argument: str) -> Any:
        try:
            found = kind(argument)
        except ValueError:
            found = math.nan
        if not above < found < math.inf:
            raise argparse.ArgumentTypeError(f"{argument} is not {what} above {above}")
        return found

    return parse


def add_figure(options: argparse.ArgumentParser, default: str = "") -> None:
    """Adds --figure FILE, which is None by default; `default` says what that means."""
    options.add_argument(
        "--figure",
        type=_figure,
        metavar="FILE",
        help="draws there, as PNG or SVG by the file's suffix"
        + (f"; default: {default}" if default else ""),
    )


def _figure(argument: str) -> pathlib.Path:
    path = pathlib.Path(argument)
    if path.suffix not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"{argument} must end in .png or .svg")
    return path


def add_format(options: argparse.ArgumentParser, *styles: str) -> None:
    """Adds --format, whose default is the first style."""
    options.add_argument(
        "--format", choices=styles, default=styles[0], help=f"default: {styles[0]}"
    )


def labelled(argument: str) -> tuple[str, str]:
    """Label and folder of `[LABEL=]DIR`; without a label it is the folder's name.

    >>> labelled("base=runs/1"), labelled("runs/a=b"), labelled("runs/guided/")
    (('base', 'runs/1'), ('a=b', 'runs/a=b'), ('guided', 'runs/guided/'))
    """
    label, _, folder = argument.partition("=")
    if not folder or "/" in label:  # a DIR with = in its path
        label, folder = "", argument
    return label or os.path.basename(folder.rstrip("/")) or folder, folder


def all_labelled(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """`labelled` of each.

    Raises:
        ValueError: two have one label.
    """
    found = [labelled(argument) for argument in arguments]
    first: dict[str, str] = {}
    for label, folder in found:
        if label in first:
            raise ValueError(
                f"labels are not distinct: write LABEL=DIR: {first[label]} and {folder} "
                f"are both {label}"
            )
        first[label] = folder
    return found


def run(main: Callable[..., Any], *arguments: Any) -> None:
    """Runs what a command does; an error of it is one line.

    Raises:
        SystemExit: with status 1, of a ValueError or OSError; 130 at Ctrl-C.
    """
    try:
        main(*arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        raise SystemExit(130) from error


def say(line: str) -> None:
    """Writes a line on stderr, whole though other threads write too."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Progress:
    """A line on stderr about long work: parts done, and the time left.

    The time left takes for each part the mean of those that were done here.
    """

    def __init__(self, parts: int, noun: str, jobs: int = 1, after: float = 0.0):
        """Begins.

        Args:
            parts: how many there are.
            noun: what they are, in the plural.
            jobs: how many are worked on at once.
            after: seconds that pass before the first line.
        """
        self._first_line = now() + after
        self._parts, self._noun, self._jobs = parts, noun, jobs
        self._done = 0
        self._seconds: list[float] = []

    def done(self, what: str, seconds: float | None = None) -> None:
        """Says that a part is done.

        Args:
            what: the part, and how it went.
            seconds: what it took; None if it had been done before.
        """
        self._done += 1
        if seconds is not None:
            self._seconds.append(seconds)
            what += f" in {duration(seconds)}"
        if now() < self._first_line:
            return
        so_far = f"{self._done}/{self._parts} {self._noun}{self._left()}"
        say(f"[{so_far}] {what}")

    def _left(self) -> str:
        left = self._parts - self._done
        if not left or not self._seconds:
            return ""
        each = sum(self._seconds) / len(self._seconds)
        return f", about {duration(each * -(-left // self._jobs))} left"


def duration(seconds: float) -> str:
    """Seconds as text.

    >>> duration(7.2), duration(125), duration(7380)
    ('7 s', '2 min 5 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def now() -> float:
    """A clock for durations."""
    return time.monotonic()


@contextlib.contextmanager
def whole(file: pathlib.Path) -> Iterator[TextIO]:
    """Opens a file to be written, whole or not at all, and makes its folder.

    Lines end as they are written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as f:
        yield f
    partial.replace(file)
