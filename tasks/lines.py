"""Lines of text in files, which gzip may have compressed."""

import collections
from collections.abc import Mapping
import gzip
import re
from typing import Any
import zlib

import tensorflow as tf

from gbt_t5x import checks

# Tool -> what its files begin with, and how they are called.
_TOOLS = {
    "gzip": (re.compile(rb"\x1f\x8b"), ".gz"),
    "bzip2": (re.compile(rb"BZh[1-9]1AY&SY"), ".bz2"),
    "xz": (re.compile(rb"\xfd7zXZ\0"), ".xz"),
    "zstd": (re.compile(rb"\x28\xb5\x2f\xfd"), ".zst"),
}
_BUFFER = 1 << 18  # bytes, as tf.data.TextLineDataset
_opened: collections.deque[str] = collections.deque(maxlen=64)


def read(path: str | tf.Tensor) -> tf.data.Dataset:
    """(number from 1, line) of every line of a file.

    TensorFlow 2.21 ends a line at a line feed, and drops carriage returns, also inside
    (findings/tensorflow_inner_carriage_return.sh). The file may move: a position in these
    lines has no path, unlike one in tf.data.TextLineDataset
    (findings/tf_data_old_files.sh).

    Raises:
        ValueError: its name does not say how it is compressed, or it is not by gzip. In a
            pipeline, tf.errors.OpError, also for a file that was cut.
    """
    # Not stateful, so that T5X can save the position in the data.
    if isinstance(path, str):
        kind = _compression(path.encode())
    else:
        kind = tf.numpy_function(_compression, [path], tf.string, stateful=False)
    # TensorFlow takes the end of a file that was cut for the end of the data.
    end = tf.data.Dataset.from_tensors((tf.constant(0, tf.int64), path)).filter(
        lambda _, path: tf.ensure_shape(
            tf.numpy_function(_is_damaged, [path], tf.bool, stateful=False), ()
        )
    )
    found = tf.data.experimental.from_variant(
        tf.raw_ops.TextLineDataset(
            filenames=path, compression_type=kind, buffer_size=_BUFFER
        ),
        tf.TensorSpec((), tf.string),
    )
    return found.enumerate(1).concatenate(end)


def check_bounds(splits: Mapping[str, Any]) -> None:
    """Raises ValueError unless each (path, start, stop) can be of a file."""
    for name, (path, start, stop) in splits.items():
        checks.check_part(f"split {name!r}", path, start, stop)


def damage(path: str) -> str | None:
    """What is wrong with a compressed file, by reading all of it; None if nothing is."""
    if not path.endswith(".gz"):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as f, gzip.GzipFile(fileobj=f) as content:
            while content.read(1 << 20):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"{path} is damaged or cut: {error}. Copy it again"
    return None


def damaged_file(paths: list[str]) -> str | None:
    """What is wrong with one of the files that were opened last."""
    latest = dict.fromkeys(path for path in reversed([*_opened]) if path in paths)
    return next(filter(None, map(damage, latest)), None)


def _compression(path: bytes) -> str:
    """TensorFlow's name of a file's compression."""
    name = path.decode()
    _opened.append(name)
    with tf.io.gfile.GFile(name, "rb") as f:
        start = f.read(10)
    found = [tool for tool, (magic, _) in _TOOLS.items() if magic.match(start)]
    named = [tool for tool, (_, suffix) in _TOOLS.items() if name.endswith(suffix)]
    if found != named:
        raise ValueError(
            f"{name} is called as if it were compressed by {_or_nothing(named)}, and is "
            f"by {_or_nothing(found)}: rename it, or copy it again"
        )
    if found and found != ["gzip"]:
        raise ValueError(f"{name} is compressed by {found[0]}: gzip or decompress it")
    return "GZIP" if found else ""


def _or_nothing(tools: list[str]) -> str:
    return tools[0] if tools else "nothing"


def _is_damaged(path: bytes) -> bool:
    """False; otherwise it raises."""
    if wrong := damage(path.decode()):
        raise ValueError(wrong)
    return False
