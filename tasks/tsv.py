"""Pairs of sentences in files of tab-separated values."""

from collections.abc import Mapping
from typing import NamedTuple

import seqio
import tensorflow as tf

from gbt_t5x.tasks import lines, translation


class Lines(NamedTuple):
    """Lines [start, stop) of a file. The first is 0; a stop of None is the end."""

    path: str
    start: int = 0
    stop: int | None = None


class TsvSource(seqio.DataSource):
    """Streams pairs from files with two columns, in UTF-8 and without a heading.

    Where there is no file, one of that name and `.gz` is read.

    Hosts each read every n-th line.

    Args:
        splits: name -> lines.
        columns: names of the features.
        remedy: what to do where a file is missing.

    Raises:
        ValueError: lines that begin before 0 or end where they begin.
    """

    def __init__(
        self,
        splits: Mapping[str, Lines],
        columns: tuple[str, str],
        remedy: str | None = None,
    ):
        lines.check_bounds(splits)
        self._lines = dict(splits)
        self._columns = columns
        self._remedy = remedy or f"write one pair to a line, {'<TAB>'.join(columns)}"
        super().__init__(splits=self._lines)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> list[str]:
        path = self._lines[split].path
        exists = tf.io.gfile.exists
        return [path if exists(path) or not exists(f"{path}.gz") else f"{path}.gz"]

    def slices(self, split: str) -> list[tuple[str, int, int | None]]:
        """(path, start, stop) of the split's lines."""
        (path,) = self.list_shards(split)
        return [(path, *self._lines[split][1:])]

    def damaged_file(self, split: str) -> str | None:
        """What is wrong with the split's file."""
        return lines.damaged_file(self.list_shards(split))

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **unused,
    ) -> tf.data.Dataset:
        """Pairs in the order of the file: seqio shuffles the examples.

        Raises:
            ValueError: no file, or none of the split's lines in it.
            tf.errors.OpError: a line that is not two texts, or a file that is cut, when
                it is read.
        """
        del shuffle, seed, unused
        (path,) = self.list_shards(split)
        _, start, stop = self._lines[split]
        if not tf.io.gfile.exists(path):
            raise ValueError(
                f"no file {path}: {self._remedy}, or set the environment variable "
                "GBT_T5X_DATA_DIR to the folder that has it"
            )
        numbered = lines.read(path).skip(start)
        if stop is not None:
            numbered = numbered.take(stop - start)
        if next(iter(numbered), None) is None:
            found = f"has no line after line {start}, where split {split!r} begins"
            if next(iter(lines.read(path)), None) is None:
                found = "is empty"
            raise ValueError(f"{path} {found}: add pairs to it")
        if shard_info:
            numbered = numbered.shard(shard_info.num_shards, shard_info.index)
        return numbered.map(
            lambda number, line: self._parse(path, number, line),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def _parse(self, path: str, number: tf.Tensor, line: tf.Tensor):
        fields = tf.strings.split(line, "\t")
        a, b = self._columns
        where = tf.strings.join([path, ", line ", tf.strings.as_string(number), ": "])
        count = tf.strings.as_string(tf.size(fields) - 1)
        valid = tf.strings.unicode_transcode(line, "UTF-8", "UTF-8", errors="replace")
        with tf.control_dependencies(
            [
                tf.debugging.Assert(
                    tf.equal(tf.size(fields), 2),
                    [
                        tf.strings.join(
                            [where, count, f" tabs, not the one of {a}<TAB>{b}"]
                        )
                    ],
                ),
                tf.debugging.Assert(
                    tf.equal(valid, line), [tf.strings.join([where, "not UTF-8"])]
                ),
            ]
        ):
            return {a: fields[0], b: fields[1]}


class TsvPairSource(translation.MarksFiltered, TsvSource):
    """Pairs from TSV files."""
