"""Checkpoints of the train state and the data position, by orbax.

model_dir/checkpoint_STEP/state holds the train state, and /dataset the position in the
training data. T5X writes and reads the same layout.
"""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any

from clu.data import dataset_iterator
from etils import epath
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from t5x import partitioning, train_state as train_state_lib

_PREFIX = "checkpoint"


class _DatasetHandler(ocp.CheckpointHandler):
    """Saves and restores the position of a dataset iterator."""

    _FILE = "train_ds-000-of-001"

    def save(self, directory: epath.Path, args: "_DatasetArgs") -> None:
        args.item.save(os.fspath(directory / self._FILE))

    def restore(self, directory: epath.Path, args: "_DatasetArgs") -> Any:
        args.item.restore(os.fspath(directory / self._FILE))
        return args.item


@ocp.args.register_with_handler(_DatasetHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class _DatasetArgs(ocp.args.CheckpointArgs):
    item: dataset_iterator.DatasetIterator


def all_steps(model_dir: str) -> list[int]:
    """Steps of the finished checkpoints in a directory, ascending."""
    if not os.path.isdir(model_dir):
        return []
    names = (name.split("_") for name in os.listdir(model_dir))
    return sorted(
        int(parts[1])
        for parts in names
        if len(parts) == 2 and parts[0] == _PREFIX and parts[1].isdecimal()
    )


class OrbaxCheckpointManagerInterface:
    """Saves and restores train states in one directory."""

    def __init__(
        self,
        directory: str,
        train_state: train_state_lib.FlaxOptimTrainState,
        partitioner: partitioning.PjitPartitioner,
        dataset_iterator: dataset_iterator.DatasetIterator | None = None,
        save_dtype: Any = None,
        restore_dtype: Any = None,
        keep: int | None = None,
    ):
        """Opens a directory for checkpoints.

        Args:
            directory: where checkpoint_STEP folders are.
            train_state: its shapes, as `jax.eval_shape` returns them.
            partitioner: places restored arrays on its mesh.
            dataset_iterator: whose position to save and restore, or None.
            save_dtype: of the saved parameters; None keeps theirs.
            restore_dtype: of the restored parameters; None keeps theirs.
            keep: number of newest checkpoints to keep; None keeps all.
        """
        self._shapes = train_state
        self._partitioner = partitioner
        self._dataset_iterator = dataset_iterator
        self._save_dtype = jnp.dtype(save_dtype) if save_dtype else None
        self._restore_dtype = jnp.dtype(restore_dtype) if restore_dtype else None
        self._manager = ocp.CheckpointManager(
            os.path.abspath(directory),
            options=ocp.CheckpointManagerOptions(
                step_prefix=_PREFIX,
                preservation_policy=(
                    ocp.checkpoint_managers.LatestN(keep) if keep else None
                ),
                cleanup_tmp_directories=True,
            ),
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(use_ocdbt=True),
                "dataset": _DatasetHandler(),
            },
        )

    def all_steps(self) -> Sequence[int]:
        return self._manager.all_steps()

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def wait_until_finished(self) -> None:
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()

    def save(self, train_state: train_state_lib.FlaxOptimTrainState) -> bool:
        """Saves in the background; the state may be donated when this returns."""
        state = train_state.state_dict()
        save_args = {
            part: jax.tree.map(
                lambda _, p=part: ocp.SaveArgs(
                    dtype=self._save_dtype if p == "target" else None
                ),
                tree,
            )
            for part, tree in state.items()
        }
        items: dict[str, Any] = {"state": ocp.args.PyTreeSave(state, save_args=save_args)}
        if self._dataset_iterator is not None:
            items["dataset"] = _DatasetArgs(self._dataset_iterator)
        return self._manager.save(
            int(train_state.step), args=ocp.args.Composite(**items), force=True
        )

    def restore(self, path: str) -> train_state_lib.FlaxOptimTrainState:
        """The train state of a checkpoint_STEP folder; also moves the dataset iterator.

        Raises:
            FileNotFoundError: the folder holds no finished checkpoint.
            ValueError: the checkpoint's parameters or optimizer state are others, or
                have other shapes.
        """
        directory, name = os.path.split(os.path.abspath(path))
        if not os.path.isdir(os.path.join(path, "state")):
            raise FileNotFoundError(f"no checkpoint at {path}")
        shapes = self._shapes.state_dict()
        shardings = self._partitioner.shardings(
            self._partitioner.get_mesh_axes(self._shapes).state_dict()
        )

        def restore_args(part):
            dtype = self._restore_dtype if part == "target" else None
            return jax.tree.map(
                lambda s, sharding: ocp.ArrayRestoreArgs(
                    sharding=sharding, global_shape=s.shape, dtype=dtype or s.dtype
                ),
                shapes[part],
                shardings[part],
            )

        items: dict[str, Any] = {
            "state": ocp.args.PyTreeRestore(
                shapes, restore_args={part: restore_args(part) for part in shapes}
            )
        }
        if self._dataset_iterator is not None:
            items["dataset"] = _DatasetArgs(self._dataset_iterator)
        step = int(name.removeprefix(_PREFIX + "_"))
        restored = self._manager.restore(
            step, args=ocp.args.Composite(**items), directory=directory
        )
        return self._shapes.restore_state(restored["state"])
