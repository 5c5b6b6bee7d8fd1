"""Batches from seqio tasks, on the mesh."""

from collections.abc import Callable, Mapping
import dataclasses
import difflib
import importlib
import itertools
import time
from typing import Any

from clu.data import dataset_iterator
import jax
import numpy as np
import seqio
from t5x import models, partitioning
from t5x.checks import Count, checked
import tensorflow as tf


@checked
@dataclasses.dataclass
class DatasetConfig:
    """A split of a seqio task or mixture, and how to batch it.

    `task_feature_lengths` maps features to lengths in tokens; `batch_size` counts rows,
    each of which holds several examples if `pack`; with a `seed` of None data is drawn
    and shuffled anew each time.
    """

    mixture_or_task_name: str | seqio.Task | seqio.Mixture
    task_feature_lengths: Mapping[str, Count] | None
    split: str
    batch_size: Count
    shuffle: bool
    seed: int | None
    use_cached: bool = False
    pack: bool = False
    use_custom_packing_ops: bool = False
    module: str | None = None
    use_memory_cache: bool = True
    trim_output_features: bool = True


def import_module(name: str) -> None:
    """Imports a module, as of tasks.

    Raises:
        ValueError: it has gin configurables, for which it is too late.
    """
    try:
        importlib.import_module(name)
    except RuntimeError as error:
        if "after the config was locked" not in str(error):
            raise
        raise ValueError(
            f"MIXTURE_OR_TASK_MODULE={name!r} has gin configurables: write "
            f"`import {name}` in a gin file in its place"
        ) from error


def get_task_or_mixture(cfg: DatasetConfig) -> seqio.Task | seqio.Mixture:
    """The task or mixture that a configuration names.

    Raises:
        ValueError: it is not registered.
    """
    if cfg.module:
        import_module(cfg.module)
    name = cfg.mixture_or_task_name
    if not isinstance(name, str):
        return name
    known = (*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names())
    if name not in known:
        near = difflib.get_close_matches(name, known)
        raise ValueError(
            f"no task or mixture {name!r} is registered, near are {near}: set "
            "MIXTURE_OR_TASK_NAME to one of them, or MIXTURE_OR_TASK_MODULE to the "
            "module that registers it, or import that in a gin file"
        )
    return seqio.get_mixture_or_task(name)


def verify_matching_vocabs(
    cfg: DatasetConfig, model: models.BaseTransformerModel
) -> None:
    """Raises ValueError unless the task and the model use the same vocabularies."""
    tasks = seqio.get_subtasks(get_task_or_mixture(cfg))
    for task, name in itertools.product(tasks, ("inputs", "targets")):
        if name not in task.output_features:
            raise ValueError(
                f"task {task.name} has no feature {name!r}: add it to its "
                "output_features, or set MIXTURE_OR_TASK_NAME to another"
            )
    features = tasks[0].output_features
    task = features["inputs"].vocabulary, features["targets"].vocabulary
    of_model = model.input_vocabulary, model.output_vocabulary
    if task != of_model:
        raise ValueError(
            f"task {cfg.mixture_or_task_name} has vocabularies {task}, the model "
            f"{of_model}: set VOCABULARY to the task's"
        )


def get_tasks_with_split(cfg: DatasetConfig) -> list[seqio.Task]:
    """The tasks that have the split: one, or those of a mixture.

    Raises:
        ValueError: no task has the split; or one that has is to be read from a cache,
            and is in none.
    """
    tasks = seqio.get_subtasks(get_task_or_mixture(cfg))
    found = [task for task in tasks if _has_split(task, cfg.split)]
    if not found:
        known = sorted({split for task in tasks for split in task.splits})
        raise ValueError(
            f"{cfg.mixture_or_task_name} has the splits {known}, not {cfg.split!r}: set "
            "DatasetConfig.split to one of them"
        )
    for task in found:
        if cfg.use_cached and task.supports_caching and not task.cache_dir:
            raise ValueError(
                f"no cache of task {task.name}: name its folder by "
                "--seqio_additional_cache_dirs, or set USE_CACHED_TASKS = False"
            )
    return found


def _has_split(task: seqio.Task, split: str) -> bool:
    """Whether a task has a split, or the splits of 'a[:10]+b[5%:]' of TFDS."""
    names = {part.partition("[")[0].strip() for part in split.split("+")}
    return split in task.splits or names <= set(task.splits)


def get_dataset(
    cfg: DatasetConfig,
    shard_id: int,
    num_shards: int,
    feature_converter_cls: Callable[..., seqio.FeatureConverter],
    num_epochs: int | None = None,
) -> tf.data.Dataset:
    """Batches of this process's shard, repeated `num_epochs` times (None: forever).

    Raises:
        ValueError: the batch does not divide over the shards, or no task has the split.
    """
    get_tasks_with_split(cfg)
    if cfg.batch_size % num_shards:
        raise ValueError(
            f"batch size {cfg.batch_size} does not divide over {num_shards} shards"
        )
    ds = seqio.get_dataset(
        get_task_or_mixture(cfg),
        task_feature_lengths=cfg.task_feature_lengths,
        dataset_split=cfg.split,
        shuffle=cfg.shuffle,
        num_epochs=num_epochs,
        feature_converter=feature_converter_cls(
            pack=cfg.pack,
            use_custom_packing_ops=cfg.use_custom_packing_ops,
            apply_length_check=not cfg.trim_output_features,
        ),
        shard_info=seqio.ShardInfo(index=shard_id, num_shards=num_shards),
        use_cached=cfg.use_cached,
        seed=int(time.time()) if cfg.seed is None else cfg.seed,
        trim_output_features=cfg.trim_output_features,
        batch_size=cfg.batch_size // num_shards,
    )
    # The end of an iterator waits for the autotune thread, which may sleep for seconds.
    options = tf.data.Options()
    options.autotune.enabled = False
    return ds.with_options(options)


def get_training_eval_datasets(
    cfg: DatasetConfig,
    shard_id: int,
    num_shards: int,
    eval_steps: int,
    feature_converter_cls: Callable[..., seqio.FeatureConverter],
) -> dict[str, tf.data.Dataset]:
    """`eval_steps` batches of every task that has the split, and of the mixture.

    A split smaller than that is repeated.

    Raises:
        ValueError: no task has the split.
    """
    provider, tasks = get_task_or_mixture(cfg), get_tasks_with_split(cfg)
    providers = [*tasks, provider] if isinstance(provider, seqio.Mixture) else tasks
    rows = eval_steps * cfg.batch_size

    def batches(task: seqio.Task | seqio.Mixture) -> tf.data.Dataset:
        one_row = dataclasses.replace(cfg, mixture_or_task_name=task, batch_size=1)
        ds = get_dataset(one_row, 0, 1, feature_converter_cls, num_epochs=rows)
        ds = ds.unbatch().repeat().shard(num_shards, shard_id)
        ds = ds.batch(cfg.batch_size // num_shards, drop_remainder=True)
        ds = ds.take(eval_steps)
        return ds.cache() if cfg.use_memory_cache else ds

    return {task.name: batches(task) for task in providers}


class ShardedDatasetIterator(dataset_iterator.DatasetIterator):
    """Puts every batch of an iterator on the mesh, split over its first axis."""

    def __init__(
        self,
        iterator: dataset_iterator.DatasetIterator,
        partitioner: partitioning.PjitPartitioner,
    ):
        self._iterator = iterator
        self._sharding = partitioner.shardings(partitioner.data_partition_spec)

    def __next__(self) -> Any:
        return jax.device_put(next(self._iterator), self._sharding)

    def reset(self):
        self._iterator.reset()

    @property
    def element_spec(self):
        return self._iterator.element_spec

    def save(self, filename):
        self._iterator.save(filename)

    def restore(self, filename):
        self._iterator.restore(filename)


def prepare_train_iter(
    train_iter: tf.data.Dataset | dataset_iterator.DatasetIterator,
    *,
    partitioner: partitioning.PjitPartitioner,
    checkpoint_cfg: Any,
    data_layout: partitioning.DataLayout,
) -> dataset_iterator.PeekableDatasetIterator:
    """An iterator over batches on the mesh, whose position can be saved and restored.

    Raises:
        ValueError: `train.get_dataset_fn` gave neither a data set nor an iterator.
    """
    del checkpoint_cfg, data_layout  # of use with several hosts
    if isinstance(train_iter, tf.data.Dataset):
        train_iter = dataset_iterator.TfDatasetIterator(train_iter, checkpoint=True)
    if not isinstance(train_iter, dataset_iterator.DatasetIterator):
        raise ValueError(
            f"train.get_dataset_fn gave a {type(train_iter).__name__}: must give a "
            "tf.data.Dataset or a clu.data.dataset_iterator.DatasetIterator"
        )
    return dataset_iterator.PeekableDatasetIterator(
        ShardedDatasetIterator(train_iter, partitioner)
    )


def zeros_batch(
    element_spec: Mapping[str, Any], partitioner: partitioning.PjitPartitioner
) -> dict[str, jax.Array]:
    """A batch of zeros on the mesh, to compile with."""
    sharding = partitioner.shardings(partitioner.data_partition_spec)

    def zeros(spec):
        dtype = getattr(spec.dtype, "as_numpy_dtype", spec.dtype)
        return jax.device_put(np.zeros(tuple(spec.shape), dtype), sharding)

    return {name: zeros(spec) for name, spec in element_spec.items()}
