"""Span corruption on CPython's own documentation: English text on every machine.

The text is the docstrings of the standard library's source files and the topics of
`pydoc`: about 2 million characters, which differ a little between Python versions. A
document is a source file or a topic. Each goes to one split by a hash of its name, and a
paragraph that stands in several documents is kept in the first only.
"""

import ast
from collections.abc import Iterator
import contextlib
import functools
import gc
import inspect
import pathlib
import pydoc_data.topics
import sysconfig
from typing import NamedTuple
import warnings

import seqio
import tensorflow as tf

from gbt_t5x.tasks import span_corruption, splits as splits_lib

TASK = "cpython_docs_span_corruption"
VOCABULARY = seqio.ByteVocabulary(extra_ids=100)  # 359 ids; sentinels are the last 100
_SPLIT_PERCENT = {"guidance": 5, "validation": 5}  # training has the rest
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo"}
_SHORTEST = 40  # characters; shorter docstrings are mostly labels


class Documented(NamedTuple):
    """A module, class or function of a source file, and its docstring."""

    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docstring: str


def _documented(node: ast.AST) -> Iterator[Documented]:
    """A module, and the classes and functions in it."""
    for child in getattr(node, "body", ()):
        if isinstance(child, ast.ClassDef | ast.If | ast.Try):
            yield from _documented(child)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Documented(child, inspect.cleandoc(_docstring(child)))
    if isinstance(node, ast.Module | ast.ClassDef):
        yield Documented(node, inspect.cleandoc(_docstring(node)))


def _docstring(node) -> str:
    return ast.get_docstring(node, clean=False) or ""


def sources() -> Iterator[tuple[str, list[Documented]]]:
    """(path, what it documents) of every source file, in order of path."""
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    with _no_garbage_collection():
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root)
            if _LEFT_OUT.isdisjoint(name.parts):
                with warnings.catch_warnings(action="ignore"):
                    tree = ast.parse(path.read_bytes())
                yield name.as_posix(), list(_documented(tree))


def _documents() -> Iterator[tuple[str, list[str]]]:
    """(name, paragraphs) of every source file and topic, in order of name."""
    for path, documented in sources():
        yield path, [docstring for _, docstring in documented]
    for topic, text in sorted(pydoc_data.topics.topics.items()):
        yield f"topic {topic}", text.split("\n\n")


def split_of(name: str) -> str:
    """The split that a document belongs to."""
    return splits_lib.split_of(name, _SPLIT_PERCENT, whole=100)


@functools.cache
def paragraphs() -> dict[str, dict[str, list[str]]]:
    """split -> document name -> its paragraphs."""
    splits: dict[str, dict[str, list[str]]] = {
        "train": {},
        "guidance": {},
        "validation": {},
    }
    seen: set[str] = set()
    for name, texts in _documents():
        new = dict.fromkeys(t for t in texts if len(t) >= _SHORTEST and t not in seen)
        seen.update(new)
        if new:
            splits[split_of(name)][name] = list(new)
    return splits


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Syntax trees hold no cycles; looking for some doubles the time to read them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
    del shuffle_files, seed  # seqio shuffles the examples
    texts = [t for document in paragraphs()[split].values() for t in document]
    return tf.data.Dataset.from_tensor_slices({"text": texts})


span_corruption.add_task(
    TASK,
    seqio.FunctionDataSource(_dataset, splits=("train", "guidance", "validation")),
    VOCABULARY,
)
