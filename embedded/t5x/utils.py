"""Configuration of data and checkpoints, and the train state's beginning."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
import re
from typing import Annotated, Any

from clu.data import dataset_iterator
from flax import core, traverse_util
import jax
from t5x import checkpoints, optimizers, partitioning, train_state as train_state_lib
from t5x.checks import Count, DtypeOnDisk, LocalFolder, Whole, checked
from t5x.datasets import (
    DatasetConfig as DatasetConfig,
    get_dataset as get_dataset,
    get_tasks_with_split as get_tasks_with_split,
    get_training_eval_datasets as get_training_eval_datasets,
    import_module as import_module,
    prepare_train_iter as prepare_train_iter,
    verify_matching_vocabs as verify_matching_vocabs,
)
from t5x.inference import get_infer_fn as get_infer_fn
from t5x.schedules import create_learning_rate_scheduler as create_learning_rate_scheduler

TrainState = train_state_lib.FlaxOptimTrainState | train_state_lib.InferenceState


@checked
@dataclasses.dataclass
class SaveCheckpointConfig:
    """When to save, how many to keep (None: all), and the parameters' dtype on disk.

    `state_transformation_fns` are applied to the state before it is written.
    """

    dtype: DtypeOnDisk | None = "float32"
    period: Whole | None = None
    keep: Count | None = None
    save_dataset: bool = False
    state_transformation_fns: Sequence[Callable[[Any, Any], tuple[Any, Any]]] = ()


@checked
@dataclasses.dataclass
class RestoreCheckpointConfig:
    """The checkpoint to start from; a path of None or [] starts from scratch.

    `mode` 'specific' names a checkpoint_STEP folder; 'latest' names a folder of them, of
    which it takes the newest; 'all' takes every one, for evaluation. `dtype` is that of
    the restored parameters; None keeps the model's. `strict` refuses a checkpoint with
    optimizer state that the run lacks. With `fallback_to_scratch`, arrays whose names
    match a pattern in `assignment_map`, pairs of (pattern, None), are initialized.
    """

    path: LocalFolder | Sequence[str] | None
    mode: Annotated[str, ("specific", "latest", "all")] = "latest"
    assignment_map: Sequence[tuple[str, None]] | None = None
    strict: bool = True
    fallback_to_scratch: bool = False
    dtype: DtypeOnDisk | None = None
    restore_dataset: bool = False

    def __post_init__(self):
        if bool(self.assignment_map) != self.fallback_to_scratch:
            raise ValueError(
                f"RestoreCheckpointConfig.assignment_map={self.assignment_map} and "
                f"fallback_to_scratch={self.fallback_to_scratch}: to initialize arrays "
                "set both, the first to pairs of (pattern, None)"
            )
        for pattern, _ in self.assignment_map or ():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"RestoreCheckpointConfig.assignment_map: {pattern!r} is no regular "
                    f"expression: {error}"
                ) from error


@dataclasses.dataclass
class CheckpointConfig:
    """Saving and restoring; None disables either."""

    save: SaveCheckpointConfig | None = None
    restore: RestoreCheckpointConfig | None = None


def restore_paths(cfg: RestoreCheckpointConfig) -> list[str]:
    """The checkpoint folders that a configuration names, by ascending step.

    Raises:
        ValueError: the path is not a string, or holds no checkpoints.
    """
    if not isinstance(cfg.path, str):
        raise ValueError(f"RestoreCheckpointConfig.path={cfg.path!r}: name one folder")
    if cfg.mode == "specific":
        return [cfg.path]
    steps = checkpoints.all_steps(cfg.path)
    if not steps:
        raise ValueError(
            f"RestoreCheckpointConfig.path={cfg.path!r} holds no checkpoint_STEP "
            "folders: set it to the MODEL_DIR of a run, or set "
            "RestoreCheckpointConfig.mode = 'specific' and name one such folder"
        )
    paths = [os.path.join(cfg.path, f"checkpoint_{step}") for step in steps]
    return paths[-1:] if cfg.mode == "latest" else paths


def restore_path(cfg: RestoreCheckpointConfig) -> str | None:
    """The one checkpoint folder that a configuration names, or None for scratch.

    Raises:
        ValueError: see `restore_paths`; also, the mode is 'all'.
    """
    if cfg.mode == "all":
        raise ValueError(
            "RestoreCheckpointConfig.mode='all' is for evaluation: use 'specific' or "
            "'latest'"
        )
    return restore_paths(cfg)[0] if cfg.path else None


class TrainStateInitializer:
    """Makes a train state on the mesh.

    `global_train_state_shape` holds its shapes, `train_state_axes` its PartitionSpecs.
    """

    def __init__(
        self,
        optimizer_def: optimizers.OptimizerDef | None,
        init_fn: Callable,
        input_shapes: Mapping[str, tuple[int, ...]],
        partitioner: partitioning.PjitPartitioner,
        input_types: Mapping[str, Any] | None = None,
    ):
        """Derives the shapes.

        Args:
            optimizer_def: the model's, or None for a state without optimizer.
            init_fn: the model's get_initial_variables.
            input_shapes: shapes of a batch.
            partitioner: lays the state out.
            input_types: dtypes of a batch.
        """

        def initialize(rng):
            variables = init_fn(rng, input_shapes, input_types)
            if optimizer_def is None:
                return train_state_lib.InferenceState.create(variables)
            return train_state_lib.FlaxOptimTrainState.create(optimizer_def, variables)

        self._initialize = initialize
        self._partitioner = partitioner
        self.global_train_state_shape = jax.eval_shape(initialize, jax.random.PRNGKey(0))
        self.train_state_axes = partitioner.get_mesh_axes(self.global_train_state_shape)

    def from_scratch(self, init_rng: jax.Array) -> TrainState:
        """Initial parameters and optimizer state."""
        initialize = self._partitioner.partition(
            self._initialize, None, self.train_state_axes
        )
        return initialize(init_rng)

    def restore(
        self,
        path: str,
        cfg: RestoreCheckpointConfig,
        init_rng: jax.Array | None = None,
        ds_iter: dataset_iterator.DatasetIterator | None = None,
        resuming: bool = False,
    ) -> TrainState:
        """The state in a checkpoint folder.

        Args:
            path: the checkpoint_STEP folder.
            cfg: all but path and mode apply.
            init_rng: key for what is initialized with fallback_to_scratch.
            ds_iter: moved to the position in the checkpoint if cfg.restore_dataset.
            resuming: the run that saved it goes on.

        Raises:
            ValueError: there is no such checkpoint, its arrays are others, or
                fallback_to_scratch is set and there is no key.
        """
        checkpoints.check_exists(path)
        initial = None
        if cfg.fallback_to_scratch:
            if init_rng is None:
                raise ValueError(
                    "RestoreCheckpointConfig.fallback_to_scratch needs a seed: set "
                    "fallback_init_rng"
                )
            patterns = [pattern for pattern, _ in cfg.assignment_map or ()]
            initial = self._initial(patterns, init_rng)
        reader = checkpoints.OrbaxCheckpointManagerInterface(
            os.path.dirname(os.path.abspath(path)),
            self.global_train_state_shape,
            self._partitioner,
            ds_iter if cfg.restore_dataset else None,
            restore_dtype=cfg.dtype,
        )
        try:
            return reader.restore(path, initial, cfg.strict, resuming)
        finally:
            reader.close()

    def _initial(
        self, patterns: Sequence[str], init_rng: jax.Array
    ) -> dict[checkpoints.Path, jax.Array]:
        """The initial arrays whose names match a pattern, without the others."""
        arrays = checkpoints.flatten(self.global_train_state_shape.state_dict())
        chosen = checkpoints.matching(arrays, patterns)
        axes = checkpoints.flatten(self.train_state_axes.state_dict())

        def initialize(rng):
            state = checkpoints.flatten(self._initialize(rng).state_dict())
            return {path: state[path] for path in chosen}

        of_chosen = {path: axes[path] for path in chosen}
        return self._partitioner.partition(initialize, None, of_chosen)(init_rng)

    def restore_for_inference(
        self, path: str, cfg: RestoreCheckpointConfig, seed: int | None = None
    ) -> TrainState:
        """As `restore`, without the optimizer state that the checkpoint may hold."""
        init_rng = None if seed is None else jax.random.PRNGKey(seed)
        return self.restore(path, dataclasses.replace(cfg, strict=False), init_rng)

    def write_model_info(self, folder: str) -> None:
        """Writes the shape and layout of every array of the state to model-info.txt."""
        arrays = flatten_dict_string_keys(self.global_train_state_shape.state_dict())
        specs = flatten_dict_string_keys(self.train_state_axes.state_dict())
        lines = [f"{path} {tuple(a.shape)} {specs[path]}" for path, a in arrays.items()]
        total = sum(a.size for path, a in arrays.items() if path.startswith("target/"))
        lines.append(f"Total number of parameters: {total}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "model-info.txt"), "w") as f:
            f.write("\n".join(lines) + "\n")


def flatten_dict_string_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries to one with keys joined by '/'."""
    return traverse_util.flatten_dict(core.unfreeze(dict(tree)), sep="/")
