"""Configuration of data and checkpoints, and the train state's beginning."""

from collections.abc import Callable, Mapping
import dataclasses
import os
from typing import Any

from flax import core, traverse_util
import jax
from t5x import checkpoints, optimizers, partitioning, train_state as train_state_lib
from t5x.datasets import (
    DatasetConfig,
    ShardedDatasetIterator,
    get_dataset,
    get_training_eval_datasets,
    prepare_train_iter,
    verify_matching_vocabs,
)
from t5x.schedules import create_learning_rate_scheduler

__all__ = [
    "CheckpointConfig",
    "DatasetConfig",
    "RestoreCheckpointConfig",
    "SaveCheckpointConfig",
    "ShardedDatasetIterator",
    "TrainStateInitializer",
    "create_learning_rate_scheduler",
    "flatten_dict_string_keys",
    "get_dataset",
    "get_training_eval_datasets",
    "log_model_info",
    "prepare_train_iter",
    "restore_path",
    "verify_matching_vocabs",
]


@dataclasses.dataclass
class SaveCheckpointConfig:
    """When to save, how many to keep (None: all), and the parameters' dtype on disk."""

    dtype: str | None = "float32"
    period: int | None = None
    keep: int | None = None
    save_dataset: bool = False


@dataclasses.dataclass
class RestoreCheckpointConfig:
    """The checkpoint that a new run starts from; an empty path starts from scratch.

    `mode` 'specific' names a checkpoint_STEP folder, 'latest' a folder of them.
    """

    path: Any
    mode: str = "latest"
    dtype: str | None = None
    restore_dataset: bool = False

    def __post_init__(self):
        if self.mode not in ("specific", "latest"):
            raise ValueError(
                f"RestoreCheckpointConfig.mode={self.mode!r}: use 'specific' or 'latest'"
            )


@dataclasses.dataclass
class CheckpointConfig:
    """Saving and restoring; None disables either."""

    save: SaveCheckpointConfig | None = None
    restore: RestoreCheckpointConfig | None = None


def restore_path(cfg: RestoreCheckpointConfig) -> str | None:
    """The checkpoint folder that a configuration names, or None if there is none."""
    if not cfg.path or cfg.mode == "specific":
        return cfg.path or None
    steps = checkpoints.all_steps(cfg.path)
    return os.path.join(cfg.path, f"checkpoint_{steps[-1]}") if steps else None


class TrainStateInitializer:
    """Makes a train state on the mesh.

    `global_train_state_shape` holds its shapes, `train_state_axes` its PartitionSpecs.
    """

    def __init__(
        self,
        optimizer_def: optimizers.OptimizerDef,
        init_fn: Callable,
        input_shapes: Mapping[str, tuple[int, ...]],
        partitioner: partitioning.PjitPartitioner,
        input_types: Mapping[str, Any] | None = None,
    ):
        """`init_fn`: a model's get_initial_variables."""

        def initialize(rng):
            return train_state_lib.FlaxOptimTrainState.create(
                optimizer_def, init_fn(rng, input_shapes, input_types)
            )

        self._initialize = initialize
        self._partitioner = partitioner
        self.global_train_state_shape = jax.eval_shape(initialize, jax.random.PRNGKey(0))
        self.train_state_axes = partitioner.get_mesh_axes(self.global_train_state_shape)

    def from_scratch(self, init_rng: jax.Array) -> train_state_lib.FlaxOptimTrainState:
        """Initial parameters and optimizer state."""
        initialize = self._partitioner.partition(
            self._initialize, None, self.train_state_axes
        )
        return initialize(init_rng)


def flatten_dict_string_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries to one with keys joined by '/'."""
    return traverse_util.flatten_dict(core.unfreeze(dict(tree)), sep="/")


def log_model_info(
    log_file: str | None,
    full_train_state: train_state_lib.FlaxOptimTrainState,
    partitioner: partitioning.PjitPartitioner,
) -> None:
    """Writes the shape and layout of every array of the train state to a file."""
    arrays = flatten_dict_string_keys(full_train_state.state_dict())
    axes = partitioner.get_mesh_axes(full_train_state).state_dict()
    specs = flatten_dict_string_keys(axes)
    lines = [f"{path} {tuple(a.shape)} {specs[path]}" for path, a in arrays.items()]
    total = sum(a.size for path, a in arrays.items() if path.startswith("target/"))
    lines.append(f"Total number of parameters: {total}")
    if log_file:
        with open(log_file, "w") as f:
            f.write("\n".join(lines) + "\n")
