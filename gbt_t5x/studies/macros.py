"""Reads the macros of gin files, and imports nothing that they configure."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import pathlib
import tokenize
from typing import Any

from gin import config_parser


@dataclasses.dataclass(frozen=True)
class _Reference:
    """`%NAME` or `@NAME`, not evaluated."""

    text: str


class _Delegate(config_parser.ParserDelegate):
    def macro(self, macro_name: str) -> _Reference:
        return _Reference(f"%{macro_name}")

    def configurable_reference(self, name: str, evaluate: bool) -> _Reference:
        return _Reference(f"@{name}{'()' * evaluate}")


def read(gin_files: Sequence[str], bindings: Sequence[str] = ()) -> Mapping[str, Any]:
    """The macros of gin files, of what they include, and of bindings.

    >>> read(["gbt_t5x/gin/quickstart_guided.gin"], ["TRAIN_STEPS = 9"])["TRAIN_STEPS"]
    9

    Args:
        gin_files: as of `--gin_file`: paths, or from a package as gbt_t5x/gin/NAME.gin.
        bindings: as `NAME = VALUE`, which come last.

    Returns:
        Macro -> value, of the last binding; a reference to another macro has its value,
        one to a function is its text, as `@models.Model()`.

    Raises:
        ValueError: a file is not found, or is no gin.
    """
    found: dict[str, Any] = {}
    texts = [(name, _open(name)) for name in gin_files]
    for where, text in [*texts, *((binding, binding) for binding in bindings)]:
        found |= dict(_bound(text, where))

    def value(name: str, seen: frozenset[str] = frozenset()) -> Any:
        of_name = found[name]
        if not isinstance(of_name, _Reference):
            return of_name
        other = of_name.text.removeprefix("%")
        if other == of_name.text or other in seen or other not in found:
            return of_name.text
        return value(other, seen | {name})

    return {name: value(name) for name in found}


@functools.cache
def digest(gin_files: tuple[str, ...]) -> str | None:
    """A digest of all that gin files and what they include say, but for comments.

    None if one of them is not found here, or is no gin.
    """
    try:
        said = [*map(repr, itertools.chain.from_iterable(map(_said, gin_files)))]
    except (ValueError, SyntaxError, tokenize.TokenError):
        return None
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def _said(name: str) -> Iterator[Any]:
    """The statements of a gin file, without their places."""
    for statement in config_parser.ConfigParser(_open(name), _Delegate()):
        if isinstance(statement, config_parser.IncludeStatement):
            yield from _said(statement.filename)
        else:
            yield statement._replace(location=None)


def of_both(bindings: Sequence[str], gin_file: str, other: str) -> list[str]:
    """The bindings that another gin file takes too: not those of macros it lacks.

    >>> files = [f"gbt_t5x/gin/quickstart_{x}.gin" for x in ("guided", "baseline")]
    >>> of_both(["HYPERPARAMS = ('alpha',)", "TRAIN_STEPS = 9"], *files)
    ['TRAIN_STEPS = 9']

    Args:
        bindings: as `NAME = VALUE`; what is no macro of `gin_file` is kept.
        gin_file: a path, as for `read`.
        other: the other's.
    """
    lacks = read([gin_file]).keys() - read([other]).keys()
    return [b for b in bindings if name_of(b) not in lacks]


def name_of(binding: str) -> str:
    """What `NAME = VALUE` binds."""
    return binding.partition("=")[0].strip()


def find(name: str) -> pathlib.Path:
    """The path of a gin file, which may be named from a package.

    Raises:
        ValueError: there is none.
    """
    path = pathlib.Path(name)
    package, _, rest = name.partition("/")
    if not path.is_file() and rest and package.isidentifier():
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            if (pathlib.Path(folder) / rest).is_file():
                return pathlib.Path(folder) / rest
    if not path.is_file():
        raise ValueError(f"no gin file {name}, here or in a package")
    return path


def _open(name: str) -> str:
    return find(name).read_text(encoding="utf-8")


def _bound(text: str, where: str) -> Iterator[tuple[str, Any]]:
    """Macros in the order of their bindings."""
    try:
        for statement in config_parser.ConfigParser(text, _Delegate()):
            if isinstance(statement, config_parser.IncludeStatement):
                yield from _bound(_open(statement.filename), statement.filename)
            elif isinstance(statement, config_parser.BindingStatement):
                if not statement.arg_name and "." not in statement.selector:
                    scope = f"{statement.scope}/" if statement.scope else ""
                    yield scope + statement.selector, statement.value
    except (SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"{where} is no gin: {error}") from error
