"""Training data whose saved position belongs to one run, and to data of one kind.

Beside the position in a checkpoint, `dataset/train_ds-000-of-001`, a file of the same
name and `.json` says what data it is of.
"""

from collections.abc import Callable, Mapping
import hashlib
import json
import os
import tempfile
from typing import Any

from absl import logging
from clu.data import dataset_iterator
from etils import epath
import jax
import seqio
from t5x import checkpoints, utils
import tensorflow as tf

from gbt_t5x import data_checks

_RESTART = "RESTART_CHANGED_DATA = True, which starts the data from its beginning"
_FEW_FILES = 16


def get_dataset(
    cfg: utils.DatasetConfig,
    shard_id: int,
    num_shards: int,
    feature_converter_cls: Callable[..., seqio.FeatureConverter],
    *,
    model_dir: str,
    restart_changed: bool = False,
    save_position: bool = True,
) -> tf.data.Dataset | dataset_iterator.DatasetIterator:
    """What `train_script.train.get_dataset_fn` may be.

    The data starts at the position of a checkpoint in `model_dir`, which is one of this
    run, if it is of the same data. From any other checkpoint it starts at its beginning.

    Args:
        cfg: the training data.
        shard_id: of this process.
        num_shards: of all processes.
        feature_converter_cls: the model's.
        model_dir: of the run.
        restart_changed: data that differs from that of the checkpoint starts from its
            beginning; otherwise it is an error.
        save_position: False is for data whose position cannot be saved, which then starts
            from its beginning whenever the run does. SaveCheckpointConfig.save_dataset
            must be the same.

    Raises:
        ValueError: the newest checkpoint in `model_dir` is of other data, or has no
            position; the position cannot be saved; or a switch is not True or False.
            Several hosts read one shard, of which T5X restores the position on the first
            alone.
    """
    switches = {
        "RESTART_CHANGED_DATA": restart_changed,
        "SAVE_DATA_POSITION": save_position,
    }
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: must be True or False")
    if save_position and jax.process_count() > num_shards:
        raise ValueError(
            f"{jax.process_count()} hosts read {num_shards} shards of the data, since a "
            "partition spans hosts, and T5X restores a shard's position on the first of "
            "its hosts alone: set SAVE_DATA_POSITION = False, with which the data starts "
            "from its beginning whenever the run does, or fewer partitions"
        )
    tasks = data_checks.tasks_with_split(cfg)
    with data_checks.reading(tasks, cfg.split):
        identity = describe(cfg, num_shards)
    newest = _newest(model_dir) if save_position else None
    if newest:
        _check_has_position(newest)
        changed = _changes_since(newest / "dataset", identity)
        if changed and not restart_changed:
            raise ValueError(_changed(*changed))
    with data_checks.reading(tasks, cfg.split):
        dataset = utils.get_dataset(cfg, shard_id, num_shards, feature_converter_cls)
    if not save_position:
        return dataset
    _check_stateless(dataset, identity["mixture_or_task_name"])
    return _RunIterator(
        dataset, tasks, identity, model_dir, restart_changed, is_new=newest is None
    )


class _RunIterator(dataset_iterator.TfDatasetIterator):
    """Batches, at the position that a checkpoint of this run holds."""

    def __init__(
        self,
        dataset: tf.data.Dataset,
        tasks: list[seqio.Task],
        identity: Mapping[str, Any],
        model_dir: str,
        restart_changed: bool,
        is_new: bool,
    ):
        super().__init__(dataset, checkpoint=True)
        self._tasks = tasks
        self._identity = identity
        self._model_dir = epath.Path(model_dir).resolve()
        self._restart_changed = restart_changed
        self._is_new = is_new  # and not saved yet
        self._given = 0  # batches
        self._folder = tempfile.TemporaryDirectory()
        self._start = epath.Path(self._folder.name) / "start"  # where the data begins
        super().save(self._start)

    def __next__(self) -> Any:
        self._given += 1
        with data_checks.reading(self._tasks, self._identity["split"]):
            return super().__next__()

    def save(self, filename: epath.Path) -> None:
        # T5X saves a new run before its first step, and has looked at a batch by then:
        # clu 0.0.12 saves the position behind it, findings/clu_peeked_position.sh.
        if self._is_new and self._given == 1:
            for part in self._start.parent.iterdir():
                end = part.name.removeprefix(self._start.name)
                part.copy(f"{os.fspath(filename)}{end}", overwrite=True)
        else:
            super().save(filename)
        self._is_new = False
        _file(filename).write_text(json.dumps(self._identity, indent=1))

    def restore(self, filename: epath.Path) -> None:
        filename = epath.Path(filename)
        if not filename.resolve().is_relative_to(self._model_dir):
            logging.warning("%s is not of this run: the data starts anew", filename)
            return
        changed = self._compare(filename)
        if not changed:
            try:
                return super().restore(filename)
            except (tf.errors.OpError, AssertionError) as error:
                super().restore(self._start)
                reason = f"TensorFlow cannot restore it: {str(error).splitlines()[0]}"
                changed = _file(filename), reason
        if not self._restart_changed:
            raise ValueError(_changed(*changed))
        logging.warning("%s: the data starts anew: %s", filename, changed[1])

    def _compare(self, filename: epath.Path) -> tuple[epath.Path, str] | None:
        """A description of other data, and what differs; or of a missing position."""
        file = _file(filename)
        if not tf.io.gfile.exists(f"{os.fspath(filename)}.index"):
            # Where the number of hosts has changed, those of the others may be there.
            folder = next((x for x in filename.parents if x.name == "dataset"), None)
            found = folder and _changes_since(folder, self._identity)
            return found or (file, f"{filename.name} is missing")
        try:
            changes = _changes(file, self._identity)
        except ValueError as error:  # damaged
            changes = str(error)
        return (file, changes) if changes else None


def describe(cfg: utils.DatasetConfig, num_shards: int) -> dict[str, Any]:
    """What training data is made of, as JSON has it: names of settings -> values."""
    provider = data_checks.get_provider(cfg)
    tasks = data_checks.tasks_with_split(cfg)
    described = {
        "mixture_or_task_name": provider.name,
        "rates": {t.name: provider.get_rate(t) for t in tasks}
        if isinstance(provider, seqio.Mixture)
        else {},
        "sources": {task.name: _describe_source(task, cfg) for task in tasks},
        "folders": {task.name: _folder(task, cfg) for task in tasks},
        "vocabularies": {task.name: _describe_vocabularies(task) for task in tasks},
        "preprocessors": {
            task.name: [data_checks.name_of(step) for step in task.preprocessors]
            for task in tasks
        },
        "split": cfg.split,
        "task_feature_lengths": dict(cfg.task_feature_lengths or {}),
        "batch_size": cfg.batch_size,
        "number of shards": num_shards,
        "shuffle": cfg.shuffle,
        "seed": cfg.seed,
        "use_cached": cfg.use_cached,
        "pack": cfg.pack,
        "use_custom_packing_ops": cfg.use_custom_packing_ops,
        "trim_output_features": cfg.trim_output_features,
    }
    return json.loads(json.dumps(described, default=str))


def _describe_source(task: seqio.Task, cfg: utils.DatasetConfig) -> str:
    """A data set of TFDS and its slice, or the names of files, and their size if few.

    And what a source that says so reads of a file.
    """
    source = task.source
    if cfg.use_cached and task.supports_caching:
        return "cache"
    if isinstance(source, seqio.TfdsDataSource):
        loader = source.tfds_dataset
        return f"{loader.name} {loader._map_split(cfg.split)}"
    if isinstance(source, seqio.FunctionDataSource):
        return "a function"
    files = sorted(source.list_shards(cfg.split))
    names = [os.path.basename(file) for file in files]
    if len(files) > _FEW_FILES:
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        found = f"{len(names)} files, {names[0]} to {names[-1]} (digest {digest})"
    else:
        found = ", ".join(map(_with_size, files))
    parts = [
        f"of {os.path.basename(path)} [{start}, {'end' if stop is None else stop})"
        for path, start, stop in data_checks.parts_of_files(source, cfg.split)
        if (start, stop) != (0, None)
    ]
    return ", ".join([found, *parts])


def _folder(task: seqio.Task, cfg: utils.DatasetConfig) -> str | None:
    """Where the files are, if a position in them has their paths."""
    source = task.source
    if cfg.use_cached and task.supports_caching:
        return task.cache_dir
    if isinstance(source, seqio.TfdsDataSource):
        return os.fspath(source.tfds_dataset._get_builder(cfg.split).data_path)
    if isinstance(source, seqio.FileDataSource):
        folders = {os.path.dirname(file) for file in source.list_shards(cfg.split)}
        return ", ".join(sorted(folders))
    return None


def _describe_vocabularies(task: seqio.Task) -> dict[str, str]:
    """Feature -> what makes its ids."""
    described = {}
    for name, feature in task.output_features.items():
        vocabulary = feature.vocabulary
        text = f"{type(vocabulary).__name__} of {vocabulary.vocab_size} ids"
        if model := getattr(vocabulary, "sp_model", None):
            text += f", digest {hashlib.sha256(model).hexdigest()[:16]}"
        described[name] = text + ", EOS" * feature.add_eos
    return described


def _with_size(file: str) -> str:
    size = ""
    if tf.io.gfile.exists(file):
        size = f" of {tf.io.gfile.stat(file).length} bytes"
    return os.path.basename(file) + size


def _file(position: epath.Path) -> epath.Path:
    return epath.Path(f"{os.fspath(position)}.json")


def _changes(file: epath.Path, identity: Mapping[str, Any]) -> str:
    """How data differs from that which a file describes; "" if it does not.

    Raises:
        ValueError: the file is not JSON.
    """
    if not file.exists():
        logging.warning("no %s: what data the position is of is not known", file)
        return ""
    try:
        before = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    return "; ".join(
        f"{name} was {value!r}, is {identity.get(name)!r}"
        for name, value in sorted(before.items())
        if value != identity.get(name)
    )


def _changed(file: epath.Path, changes: str) -> str:
    return (
        f"the position in {file.parent} is of other training data, or not whole: "
        f"{changes}. Set what differs as it was, another MODEL_DIR, or {_RESTART}"
    )


def _newest(model_dir: str) -> epath.Path | None:
    """The newest checkpoint in a folder, if there is one."""
    steps = checkpoints.all_steps(model_dir)
    return epath.Path(model_dir) / f"checkpoint_{steps[-1]}" if steps else None


def _check_has_position(checkpoint: epath.Path) -> None:
    """Raises ValueError for a checkpoint that was saved without a position."""
    is_orbax = (checkpoint / "state").exists()  # T5X's older format has it elsewhere
    folder = checkpoint / "dataset"  # which T5X makes in any case
    if is_orbax and not _of_all(folder, "train_ds*"):
        raise ValueError(
            f"{checkpoint} has no position in the training data, since it was saved with "
            "SAVE_DATA_POSITION = False: set that again, and the data starts from its "
            "beginning"
        )


def _of_all(folder: epath.Path, name: str) -> list[epath.Path]:
    """Files of one process, or of all in a folder of each; sorted."""
    return sorted([*folder.glob(name), *folder.glob(f"*/{name}")])


def _changes_since(
    folder: epath.Path, identity: Mapping[str, Any]
) -> tuple[epath.Path, str] | None:
    """The first description of other data in a `dataset`, and how the data differs."""
    for file in _of_all(folder, "*.json"):
        try:
            changes = _changes(file, identity)
        except ValueError:  # damaged: another process's may be whole
            continue
        if changes:
            return file, changes
    return None


def _check_stateless(dataset: tf.data.Dataset, name: str) -> None:
    """Raises ValueError if TensorFlow cannot save a position in the data."""
    variant = tf.data.experimental.to_variant(dataset)
    fail = 2  # where there is state outside of the pipeline, as when a position is saved
    try:
        tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=fail)
    except tf.errors.FailedPreconditionError as error:
        reason = str(error.message).partition("graph: ")[2].partition(" [")[0]
        raise ValueError(
            f"the position in {name} cannot be saved: {reason} Set SAVE_DATA_POSITION = "
            "False, and the data starts from its beginning whenever the run does; or "
            "read and map it without from_generator, py_function, variables and random "
            "operations without seed (tf.numpy_function has stateful=False)"
        ) from None
    except tf.errors.OpError as error:  # data in memory that is too large to look at
        logging.warning("whether the position in %s can be saved: %s", name, error)
