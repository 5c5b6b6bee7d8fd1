"""What the splits of a task hold, by reading the first examples of each.

How much is read is bounded (`Limits`), and what was not counted to its end says so.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import itertools
import re
from typing import Any

import numpy as np
import seqio
from t5x import utils
import tensorflow as tf

from gbt_t5x import data_checks

_COMPARED = 10_000  # examples of a split, by their contents
_NO_CONTENT = {"id", "idx", "filtered"}  # features that number examples, or mark them


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much is read of a split: so many examples of its source, for so long."""

    examples: int = 2000
    seconds: float = 5.0


@dataclasses.dataclass(frozen=True)
class Count:
    """A number, and whether it is all; with False there are so many or more."""

    number: int
    is_all: bool

    def __str__(self) -> str:
        return f"{self.number:,}" + ("" if self.is_all else " or more")


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Of a feature in tokens, with the end of the sequence, before it is cut.

    Attributes:
        length: what it is cut to.
        cut: share of examples that are longer, 0 to 1.
    """

    length: int
    median: int
    p90: int
    p99: int
    longest: int
    cut: float


@dataclasses.dataclass(frozen=True)
class Split:
    """What was read of a task's split.

    Attributes:
        task, split: their names.
        examples: of the source; None if it has no end.
        read: examples of the source that were read for the others.
        given: what the preprocessors made of these.
        changed: preprocessor -> examples before and after it, of those that drop, join
            or divide some.
        lengths: feature -> its lengths.
        example: feature -> text of the first.
    """

    task: str
    split: str
    examples: Count | None
    read: int
    given: int
    changed: dict[str, tuple[int, int]]
    lengths: dict[str, Lengths]
    example: dict[str, str]


def read_split(
    task: seqio.Task, split: str, lengths: Mapping[str, int], limits: Limits
) -> Split:
    """Reads the beginning of a split.

    Raises:
        ValueError: the data is not there or cannot be read.
    """
    cfg = utils.DatasetConfig(task, lengths, split, batch_size=1, shuffle=False, seed=0)
    counts: dict[str, int] = {}
    sizes: dict[str, list[int]] = {name: [] for name in task.output_features}
    example: dict[str, str] = {}
    given = 0
    with reading(task, split):
        check_there(task, split)
        in_time = data_checks.Clock(limits.seconds)
        dataset = data_checks.one_epoch(
            task, cfg, counts, in_time, every_stage=True, most=limits.examples, trim=False
        )
        for found in dataset.as_numpy_iterator():
            given += 1
            for name in sizes.keys() & found.keys():
                sizes[name].append(len(found[name]))
                if given == 1:
                    example[name] = _text(task.output_features[name], found[name])
        size = _size(task, split)
        if size == tf.data.INFINITE_CARDINALITY:
            examples = None
        elif size is None or size < 0:
            examples = _count(task, split, limits.seconds)
        else:
            examples = Count(size, True)
    return Split(
        task.name,
        split,
        examples,
        next(iter(counts.values())),
        given,
        _changed(counts),
        {k: _lengths(v, lengths[k]) for k, v in sizes.items() if v and k in lengths},
        {name: example[name] for name in task.output_features if name in example},
    )


def check_there(task: seqio.Task, split: str | None = None) -> None:
    """Raises ValueError if TFDS would have to download or generate the data set."""
    if not isinstance(task.source, seqio.TfdsDataSource):
        return
    loader = task.source.tfds_dataset
    builder = loader._get_builder(split)
    try:
        builder.as_dataset(split=split and loader._map_split(split), shuffle_files=False)
    except (AssertionError, tf.errors.NotFoundError) as error:
        raise ValueError(
            f"data set {builder.info.full_name} of task {task.name} is not in "
            f"{builder.data_dir}: set the environment variable TFDS_DATA_DIR to the "
            "folder that has it, or prepare it by `tfds build`, as a run would begin by"
        ) from error


@contextlib.contextmanager
def reading(task: seqio.Task | seqio.Mixture, split: str) -> Iterator[None]:
    """Raises ValueError, of one line, whatever reading raises."""
    try:
        with data_checks.reading(list(seqio.get_subtasks(task)), split):
            yield
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:
        message = str(getattr(error, "message", None) or error)
        message = re.sub(r"\{\{.*?\}\} *| *\[Op:.*", "", message, flags=re.DOTALL).strip()
        raise ValueError(
            f"split {split!r} of {task.name} cannot be read: {type(error).__name__}: "
            f"{message.partition(chr(10))[0]}"
        ) from error


def contents(task: seqio.Task, split: str, seconds: float) -> tuple[list[bytes], bool]:
    """Hashes of the texts of a source's first examples, or of all features without texts.

    Returns:
        The hashes, and whether they are of all examples.
    """
    hashes: list[bytes] = []
    with reading(task, split):
        in_time = data_checks.Clock(seconds)
        for example in _source(task, split).as_numpy_iterator():
            if len(hashes) == _COMPARED or not in_time():
                return hashes, False
            hashes.append(_hash(example))
    return hashes, True


def guidance_rows(
    provider: seqio.Task | seqio.Mixture,
    split: str,
    lengths: Mapping[str, int],
    most: int,
    seconds: float,
) -> Count:
    """How many rows a split fills, packed as a guidance batch is.

    Args:
        provider: a task, or a mixture of which one task has the split.
        split: of it.
        lengths: feature -> tokens of a row.
        most: rows to count.
        seconds: to read examples for.
    """
    clock = data_checks.Clock(seconds)
    is_late = False

    def in_time() -> bool:
        nonlocal is_late
        is_late = not clock()
        return not is_late

    with reading(provider, split):
        examples = provider.get_dataset(
            dict(lengths), split, shuffle=False, num_epochs=1, seed=0
        )
        # Packing reads hundreds of examples before its first row.
        packed = seqio.EncDecFeatureConverter(pack=True)(
            data_checks.take_while(examples, in_time), dict(lengths)
        )
        rows = packed.as_numpy_iterator()
        number = sum(1 for _ in itertools.islice(rows, most))
        is_all = next(rows, None) is None
    return Count(number, is_all and not is_late)


def _source(task: seqio.Task, split: str) -> tf.data.Dataset:
    return task.source.get_dataset(split=split, shuffle=False, seed=0)


def _size(task: seqio.Task, split: str) -> int | None:
    """How many examples a source says that it has, or TensorFlow's negative numbers."""
    try:
        size = task.source.num_input_examples(split)
    except KeyError:  # of TFDS, without metadata
        size = None
    return int(_source(task, split).cardinality()) if size is None else size


def _count(task: seqio.Task, split: str, seconds: float) -> Count:
    in_time = data_checks.Clock(seconds)
    number = 0
    for number, _ in enumerate(_source(task, split), 1):
        if not in_time():
            return Count(number, False)
    return Count(number, True)


def _changed(counts: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    return {
        stage: (before, after)
        for (_, before), (stage, after) in itertools.pairwise(counts.items())
        if after != before
    }


def _lengths(sizes: list[int], length: int) -> Lengths:
    median, p90, p99, longest = (
        int(x) for x in np.percentile(sizes, [50, 90, 99, 100], method="inverted_cdf")
    )
    cut = float(np.mean(np.array(sizes) > length))
    return Lengths(length, median, p90, p99, longest, cut)


def _text(feature: seqio.Feature, values: Any) -> str:
    values = np.asarray(values)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        return str(values)
    return str(feature.vocabulary.decode(values.tolist()))


def _hash(example: Any) -> bytes:
    if not isinstance(example, Mapping):  # a line of a file
        example = {"": example}
    leaves = {k: _plain(example[k]) for k in sorted(example) if k not in _NO_CONTENT}
    texts = {k: v for k, v in leaves.items() if isinstance(v, bytes)}
    return hashlib.blake2b(repr(texts or leaves).encode(), digest_size=16).digest()


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
