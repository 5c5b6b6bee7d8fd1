"""The held-out guidance batches."""

from collections.abc import Mapping
import itertools
import os
import re
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
import numpy as np
import seqio
from t5x import models, utils
import tensorflow_datasets as tfds

from gbt_t5x import data_checks


def load_guidance_batches(
    guidance_cfg: utils.DatasetConfig,
    train_cfg: utils.DatasetConfig,
    num_batches: int,
    partitioner: Any,
    model: models.BaseTransformerModel,
) -> list[Mapping[str, jax.Array]]:
    """Reads the first batches of the guidance split and lays them on the mesh.

    The paper holds out one batch and applies it at every step (Appendix C.1.2). Those of
    a mixture are of all its tasks, at its rates; the examples of a task that has too few
    repeat.

    Args:
        guidance_cfg: the split, of what is trained on or of another task, and the batch
            size.
        train_cfg: the training data, which the guidance split must not share.
        num_batches: how many.
        partitioner: gives the layout, that of a training batch.
        model: what learns from them.

    Returns:
        Batches, feature -> (batch, length), on the devices.

    Raises:
        ValueError: the split is missing, overlaps the training split, is not for this
            model (see `data_checks.verify_data`), cannot be read, holds fewer batches, or
            gives no example at all; the batch size does not divide over the devices.
    """
    feature_converter_cls: Any = model.FEATURE_CONVERTER_CLS
    _check_held_out(guidance_cfg, train_cfg)
    data_checks.check_tasks(guidance_cfg, model)
    is_mixture = len(data_checks.tasks_with_split(guidance_cfg)) > 1
    if is_mixture:  # read without end
        data_checks.check_examples(guidance_cfg, feature_converter_cls)
    try:
        layout = partitioner.get_data_layout(guidance_cfg.batch_size)
    except ValueError as error:
        raise ValueError(
            f"GUIDANCE_BATCH_SIZE={guidance_cfg.batch_size}: {error}. Set it to a "
            "multiple of the number of devices that data is divided over"
        ) from error
    with data_checks.reading(_tasks(guidance_cfg), guidance_cfg.split):
        dataset = utils.prepare_train_iter(
            utils.get_dataset(
                guidance_cfg,
                layout.shard_id,
                layout.num_shards,
                feature_converter_cls,
                num_epochs=None if is_mixture else 1,
            ),
            partitioner=partitioner,
            checkpoint_cfg=None,
            data_layout=layout,
        )
        batches = list(itertools.islice(dataset, num_batches))
    # All hosts go on or none: rows are packed on each, from its own share of examples.
    number = int(np.min(multihost_utils.process_allgather(np.array(len(batches)))))
    if not batches:
        data_checks.check_examples(guidance_cfg, feature_converter_cls)
    if number < num_batches:
        raise ValueError(
            f"guidance split {guidance_cfg.split!r} of "
            f"{guidance_cfg.mixture_or_task_name} holds {number} of {num_batches} "
            f"batches of {guidance_cfg.batch_size} rows: enlarge the split, or lower "
            "GUIDANCE_BATCH_SIZE or GUIDANCE_BATCHES"
        )
    return batches


def _tasks(cfg: utils.DatasetConfig) -> list[seqio.Task]:
    return list(seqio.get_subtasks(data_checks.get_provider(cfg)))


def _check_held_out(
    guidance_cfg: utils.DatasetConfig, train_cfg: utils.DatasetConfig
) -> None:
    """Raises ValueError unless the guidance split exists and is not trained on.

    Tasks of a mixture that are for evaluation alone need none.
    """
    split, tasks = guidance_cfg.split, _tasks(guidance_cfg)
    has_split = data_checks.has_split
    trained = [task for task in tasks if has_split(task, train_cfg.split)] or tasks
    for task in trained:
        if not has_split(task, split):
            raise ValueError(
                f"guidance split {split!r} is missing from task {task.name}, which has "
                f"{', '.join(task.splits)}: set GUIDANCE_SPLIT"
            )
    for held_out, task in itertools.product(tasks, _tasks(train_cfg)):
        if not (has_split(held_out, split) and has_split(task, train_cfg.split)):
            continue
        if overlap(held_out.source, split, task.source, train_cfg.split):
            raise ValueError(
                f"guidance split {split!r} of task {held_out.name} overlaps the training "
                f"split {train_cfg.split!r} of task {task.name}: set GUIDANCE_SPLIT to a "
                "split of other examples, for example to 'guidance'"
            )


def overlap(
    source: seqio.DataSource, split: str, other: seqio.DataSource, other_split: str
) -> bool | None:
    """Whether two splits share examples; None if their sources do not say.

    TFDS sources share a slice of the same data set, file sources a file or examples of
    it, and any source shares a split with itself. Not known is what two versions of a
    data set share, and, until its sizes are known, slices in percent and in examples, or
    in shards.
    """
    if source is other and split == other_split:
        return True
    first, second = slices(source, split), slices(other, other_split)
    kinds = {type(part.name) for part in (*first, *second)}
    if not (first and second) or len(kinds) > 1:
        return None
    found = [_share(a, b) for a in first for b in second]
    return True if True in found else None if None in found else False


def _share(one: "Slice", other: "Slice") -> bool | None:
    """`overlap` of two slices."""
    same = _same_data(one.name, other.name)
    if not same:
        return same
    shares = max(one.start, other.start) < min(one.stop, other.stop)
    units = {one.unit, other.unit} - {""}
    if "shard" in units or ("%" in units and len(units) > 1):
        return None
    return None if len(units) > 1 and not shares else shares


def _same_data(one: Any, other: Any) -> bool | None:
    """Whether two names, of a kind, are of the same data; None if that is not known."""
    if isinstance(one, str):
        return _whole(one) == _whole(other)
    (first, split), (second, other_split) = one, other
    if split != other_split or first == second:
        return split == other_split
    if _is_folder(first) or _is_folder(second):
        # One of them by its name: the folder may be of it.
        return False if _is_folder(first) == _is_folder(second) else None
    # Two versions may be the same.
    return None if first.partition(":")[0] == second.partition(":")[0] else False


def _whole(path: str) -> str:
    return path if "://" in path else os.path.realpath(path)


def _is_folder(data_set: str) -> bool:
    """Whether it is a whole path, and no name that TFDS has."""
    return os.path.isabs(data_set) or "://" in data_set


END = 10**12  # of what has no known end


class Slice(NamedTuple):
    """Examples [start, stop) of a file, or of a data set's split in TFDS.

    Its name is a path, or (name or folder of a data set, split).
    Where a split's size is not known, `unit` says what they are counted in: `examples`,
    `end` from the last one, `%` of END examples, or `shard`; '' of a whole split.
    """

    name: str | tuple[str, str]
    start: int = 0
    stop: int = END
    unit: str = ""


def slices(source: seqio.DataSource, split: str) -> list[Slice]:
    """What a split is made of, as far as its source says; [] if it does not.

    A source that is none of seqio's may have a method `slices` of the split: of each file
    (path, start, stop), where a stop of None is the end.

    Raises:
        ValueError: a part of a file that is none.
    """
    if isinstance(source, seqio.TfdsDataSource):
        return _tfds_slices(source, split)
    if isinstance(source, seqio.FileDataSource):
        return [Slice(path) for path in source.list_shards(split)]
    return [
        Slice(path, start, END if stop is None else stop)
        for path, start, stop in data_checks.parts_of_files(source, split)
    ]


class _HugeSplits(dict):
    """Stands for the splits of a data set whose sizes are not known before download."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> tfds.core.SplitInfo:
        return tfds.core.SplitInfo(
            name=name, shard_lengths=[END], num_bytes=0, filename_template=None
        )


def _tfds_slices(source: seqio.TfdsDataSource, split: str) -> list[Slice]:
    """The slices of TFDS splits that a source's split is made of."""
    loader = source.tfds_dataset
    data_set, folder = loader.get_split_params(split)
    if data_set is None:
        data_set = _whole(folder)
    spec = loader._map_split(split)
    if isinstance(spec, str) and "all" in re.split(r"\W+", spec):
        return []  # of splits that the data set alone knows
    instruction = tfds.core.ReadInstruction.from_spec(spec)
    parts = instruction.to_absolute(_HugeSplits())
    if isinstance(spec, str):
        units = [_unit(part) for part in spec.split("+")]
    else:  # a ReadInstruction, which does not say
        units = ["shard"] * len(parts)
    if loader.is_memoized(split):  # as once it was read
        known = loader._get_builder(split).info.splits
        names = {part.splitname for part in parts}
        if all(name in known and known[name].num_examples for name in names):
            parts, units = instruction.to_absolute(known), [""] * len(parts)
    return [
        Slice(
            (data_set, part.splitname),
            part.from_ or 0,
            END if part.to is None else part.to,
            unit,
        )
        for part, unit in zip(parts, units, strict=True)
    ]


def _unit(part: str) -> str:
    """What the bounds of 'train[:10]' are counted in, as `Slice` says."""
    bounds = part.partition("[")[2]
    for unit in ("shard", "%"):
        if unit in bounds:
            return unit
    return "end" if "-" in bounds else "examples" if bounds else ""
