"""Documents in local files, of text or JSON lines."""

from collections.abc import Mapping
import json
import re
from typing import NamedTuple

import seqio
import tensorflow as tf

from gbt_t5x.tasks import lines

_JSON = re.compile(r"\.jsonl?(\.gz)?$")
_OPEN_FILES = 16  # read in turn


class Documents(NamedTuple):
    """Documents of the files that match a pattern, sorted by name.

    Of the first file, documents [start, stop), the first being 0. Of the other files all,
    or none if there is a stop.
    """

    pattern: str
    start: int = 0
    stop: int | None = None


class TextFileSource(seqio.DataSource):
    """Streams documents, with the feature `text`.

    A document is a line of text in UTF-8, or in files called `.json` or `.jsonl` the
    field `text` of an object; half of a surrogate pair in it becomes `?`. Files may be
    compressed: `.gz`. Hosts read different files, if there are as many.

    Args:
        splits: name -> documents.

    Raises:
        ValueError: documents that begin before 0 or end where they begin.
    """

    def __init__(self, splits: Mapping[str, Documents]):
        lines.check_bounds(splits)
        self._documents = dict(splits)
        super().__init__(splits=self._documents)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False  # seqio deals documents to more hosts than there are files

    def list_shards(self, split: str) -> list[str]:
        """The files of a split.

        Raises:
            ValueError: there is none.
        """
        pattern, _, stop = self._documents[split]
        files = sorted(tf.io.gfile.glob(pattern))
        if not files:
            raise ValueError(
                f"no file {pattern}: put documents there, one to a line, or set the "
                "environment variable GBT_T5X_DATA_DIR to the folder that has them"
            )
        return files if stop is None else files[:1]

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **unused,
    ) -> tf.data.Dataset:
        """Documents of a split. Files are shuffled; seqio shuffles documents too.

        Raises:
            ValueError: no file, or too few documents in the first.
            tf.errors.OpError: a line that is no document, or a file that is cut, when it
                is read.
        """
        del unused
        files = self.list_shards(split)
        _, start, stop = self._documents[split]
        wanted = start if stop is None else stop - 1
        if next(iter(_lines(files[0]).skip(wanted)), None) is None:
            raise ValueError(
                f"{files[0]} has {wanted} documents or fewer, of which split {split!r} "
                f"needs document {wanted + 1}: add some to it"
            )
        paths = tf.constant(files)
        starts = tf.constant([start, *[0] * (len(files) - 1)], tf.int64)
        order = tf.data.Dataset.range(len(files))  # a position in it has no paths
        if shard_info:
            order = order.shard(shard_info.num_shards, shard_info.index)
        if shuffle:
            order = order.shuffle(len(files), seed=seed)
        found = order.interleave(
            lambda i: _lines(paths[i]).skip(starts[i]), cycle_length=_OPEN_FILES
        )
        if stop is not None:
            found = found.take(stop - start)
        return found.map(_document, num_parallel_calls=tf.data.AUTOTUNE)

    def slices(self, split: str) -> list[tuple[str, int, int | None]]:
        """(path, start, stop) of what a split has of each file."""
        first, *others = self.list_shards(split)
        _, start, stop = self._documents[split]
        return [(first, start, stop), *((path, 0, None) for path in others)]

    def damaged_file(self, split: str) -> str | None:
        """What is wrong with a file of the split that was being read."""
        return lines.damaged_file(self.list_shards(split))


def _lines(path: str | tf.Tensor) -> tf.data.Dataset:
    """(path, number from 1, line) of every line of a file."""
    return lines.read(path).map(lambda number, line: (path, number, line))


def _document(path: tf.Tensor, number: tf.Tensor, line: tf.Tensor) -> dict:
    # Not stateful, so that T5X can save the position in the data.
    text = tf.numpy_function(_text, (path, number, line), tf.string, stateful=False)
    return {"text": tf.ensure_shape(text, ())}


def _text(path: bytes, number: int, line: bytes) -> bytes:
    where = f"{path.decode()}, line {number}"
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8") from error
    if not _JSON.search(path.decode()):
        return line
    try:
        return json.loads(text)["text"].encode(errors="replace")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where}: no JSON object with a text in `text`: {line[:80]!r}"
        ) from error
