"""Checkpoints of the train state and the data position, by orbax.

model_dir/checkpoint_STEP/state holds the train state, and /dataset the position in the
training data. T5X writes and reads the same layout. Its older one is only read.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
import re
from typing import Any

from clu.data import dataset_iterator
from etils import epath
from flax import traverse_util
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from t5x import legacy_checkpoints, partitioning, train_state as train_state_lib
from t5x.legacy_checkpoints import Path

_PREFIX = "checkpoint"
_INITIALIZE = (
    "RestoreCheckpointConfig.fallback_to_scratch = True and .assignment_map = "
    "(('REGULAR EXPRESSION OF NAMES', None),)"
)


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


def check_exists(path: str) -> None:
    """Raises ValueError unless a folder is a finished checkpoint."""
    if not (
        os.path.isdir(os.path.join(path, "state")) or legacy_checkpoints.is_legacy(path)
    ):
        steps = all_steps(os.path.dirname(os.path.abspath(path)))
        beside = f"; beside it are those of steps {steps}" if steps else ""
        raise ValueError(
            f"no checkpoint at {path}{beside}: set RestoreCheckpointConfig.path to a "
            "checkpoint_STEP folder"
        )
    name = os.path.basename(os.path.abspath(path))
    has_step = name.removeprefix(f"{_PREFIX}_").isdecimal()
    if not has_step and not legacy_checkpoints.is_legacy(path):
        raise ValueError(f"{path} is a checkpoint of no step: name it {_PREFIX}_STEP")


class OrbaxCheckpointManagerInterface:
    """Saves and restores train states in one directory."""

    def __init__(
        self,
        directory: str,
        train_state: train_state_lib.FlaxOptimTrainState | train_state_lib.InferenceState,
        partitioner: partitioning.PjitPartitioner,
        dataset_iterator: dataset_iterator.DatasetIterator | None = None,
        save_dtype: Any = None,
        restore_dtype: Any = None,
        keep: int | None = None,
        period: int | None = None,
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
            period: steps between saves. With None, which is for restoring, what another
                process is about to save stays.

        Raises:
            ValueError: orbax would store two arrays in one place.
        """
        _check_names(train_state.state_dict())
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
                cleanup_tmp_directories=period is not None,
            ),
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(use_ocdbt=True),
                "dataset": _DatasetHandler(),
            },
        )

    def all_steps(self) -> Sequence[int]:
        return self._manager.all_steps()

    def wait_until_finished(self) -> None:
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()

    def save(
        self,
        train_state: train_state_lib.FlaxOptimTrainState,
        state_transformation_fns: Sequence[Callable[[Any, Any], tuple[Any, Any]]] = (),
    ) -> bool:
        """Saves in the background; the state may be donated when this returns.

        Each of `state_transformation_fns` gets the state_dict and None in the place of
        T5X's information on parameters, and returns both, before anything is written.
        """
        state, infos = train_state.state_dict(), None
        for transform in state_transformation_fns:
            state, infos = transform(state, infos)

        def save_args_of(part: str, tree: Any) -> Any:
            args = ocp.SaveArgs(dtype=self._save_dtype if part == "target" else None)
            return jax.tree.map(lambda _: args, tree)

        save_args = {part: save_args_of(part, tree) for part, tree in state.items()}
        args = self._items(ocp.args.PyTreeSave(state, save_args=save_args))
        return self._manager.save(int(train_state.step), args=args, force=True)

    def _items(self, state: ocp.args.CheckpointArgs) -> ocp.args.Composite:
        """A state to save or to restore, with the dataset iterator if there is one."""
        if self._dataset_iterator is None:
            return ocp.args.Composite(state=state)
        dataset = _DatasetArgs(self._dataset_iterator)
        return ocp.args.Composite(state=state, dataset=dataset)

    def restore(
        self,
        path: str,
        initial: Mapping[Path, jax.Array] | None = None,
        strict: bool = True,
        resuming: bool = False,
    ) -> train_state_lib.FlaxOptimTrainState | train_state_lib.InferenceState:
        """The train state of a checkpoint_STEP folder; also moves the dataset iterator.

        Args:
            path: the folder.
            initial: arrays to take in place of the checkpoint's.
            strict: refuse a checkpoint that holds more than the train state.
            resuming: the run that saved it goes on, so that it has no other settings.

        Raises:
            ValueError: the checkpoint's arrays are not those of the train state, or it
                has no position for the dataset iterator.
        """
        path = os.path.abspath(path)
        legacy = legacy_checkpoints.is_legacy(path)
        has_position = not legacy and os.path.isdir(os.path.join(path, "dataset"))
        if self._dataset_iterator and not has_position:
            of_another = "RestoreCheckpointConfig.restore_dataset = False"
            of_this = "SaveCheckpointConfig.save_dataset = False, as when it was saved"
            raise ValueError(
                f"the checkpoint {path} has no position in the training data: set "
                f"{of_this if resuming else of_another}"
            )
        shapes = flatten(self._shapes.state_dict())
        initial = initial or {}
        wanted = {k: s for k, s in shapes.items() if k not in initial}
        reader = legacy_checkpoints.LegacyCheckpoint(path) if legacy else None
        saved = reader.shapes() if reader else _saved_shapes(os.path.join(path, "state"))
        saved = {k: s for k, s in saved.items() if k not in initial}
        _check_shapes(path, wanted, saved, strict, resuming)
        axes = self._partitioner.get_mesh_axes(self._shapes).state_dict()
        shardings = flatten(self._partitioner.shardings(axes))
        args = {
            k: ocp.ArrayRestoreArgs(
                sharding=shardings[k],
                global_shape=s.shape,
                dtype=(self._restore_dtype if k[0] == "target" else None) or s.dtype,
            )
            for k, s in wanted.items()
            if k in saved
        }
        if reader:
            restored = {
                k: jax.device_put(reader.read(k).astype(a.dtype), a.sharding)
                for k, a in args.items()
            }
        else:
            restored = self._read(path, {k: wanted[k] for k in args}, args)
        state = {**shapes, **initial, **restored}
        return self._shapes.restore_state(traverse_util.unflatten_dict(state))

    def _read(
        self, path: str, shapes: Mapping[Path, Any], args: Mapping[Path, Any]
    ) -> dict[Path, Any]:
        """Arrays of a checkpoint; also moves the dataset iterator."""
        state = ocp.args.PyTreeRestore(
            traverse_util.unflatten_dict(shapes),
            restore_args=traverse_util.unflatten_dict(args),
            partial_restore=True,
        )
        directory, name = os.path.split(path)
        restored = self._manager.restore(
            int(name.removeprefix(_PREFIX + "_")),
            args=self._items(state),
            directory=directory,
        )
        return flatten(restored["state"])


def flatten(tree: Any) -> dict[Path, Any]:
    """Path -> array; an empty dictionary has none, and is lost, as in T5X."""
    return traverse_util.flatten_dict(tree)


def matching(arrays: Mapping[Path, Any], patterns: Sequence[str]) -> dict[Path, Any]:
    """The arrays whose names match one of the patterns.

    Raises:
        ValueError: a pattern matches no name.
    """
    found: dict[Path, Any] = {}
    for pattern in patterns:
        matches = {k: x for k, x in arrays.items() if re.fullmatch(pattern, "/".join(k))}
        if not matches:
            raise ValueError(
                f"RestoreCheckpointConfig.assignment_map: {pattern!r} matches no array "
                "of this run: change the pattern or leave it out; if it is that of "
                "finetune.gin, set RESET = None"
            )
        found |= matches
    return found


def _check_names(tree: Any) -> None:
    """Raises ValueError if two arrays have one name in orbax (0.12.8).

    It joins paths by dots, and keeps one of such two: findings/orbax_dotted_names.sh.
    """
    by_name: dict[str, Path] = {}
    for path in flatten(tree):
        other = by_name.setdefault(".".join(path), path)
        if other != path:
            raise ValueError(
                f"a checkpoint keeps one of {'/'.join(other)} and {'/'.join(path)}: they "
                "differ by a dot alone, so rename a module or a parameter of the network"
            )


def _saved_shapes(directory: str) -> dict[Path, tuple[int, ...]]:
    """Path -> shape of the arrays in a checkpoint."""
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True)
    try:
        metadata = handler.metadata(epath.Path(directory))
    except (OSError, ValueError) as e:
        raise ValueError(f"{directory}/_METADATA cannot be read: {e}") from e
    arrays = traverse_util.flatten_dict(metadata.tree)
    return {path: tuple(array.shape) for path, array in arrays.items()}


def _check_shapes(
    path: str,
    shapes: Mapping[Path, Any],
    saved: Mapping[Path, tuple[int, ...]],
    strict: bool,
    resuming: bool,
) -> None:
    """Raises ValueError unless a checkpoint has the arrays that are wanted."""
    name = "/".join
    wanted = shapes.keys()
    remedy = "bind network.T5Config and the optimizer as the run that saved it did"
    if resuming:
        remedy += (
            " (config.gin beside it has its settings), or begin another run from it: set "
            f"MODEL_DIR to another folder, RestoreCheckpointConfig.path = {path!r}, "
            ".mode = 'specific' and "
        )
    else:
        remedy += ", or "
    for key in sorted(wanted & saved.keys()):
        if saved[key] != shapes[key].shape:
            raise ValueError(
                f"{name(key)} has shape {saved[key]} in the checkpoint {path}, and "
                f"{shapes[key].shape} in this run: {remedy}initialize it, by "
                f"{_INITIALIZE}"
            )
    missing = sorted(wanted - saved.keys())
    if missing:
        raise ValueError(
            f"the checkpoint {path} lacks {len(missing)} arrays of this run, such as "
            f"{name(missing[0])}: {remedy}initialize them, by {_INITIALIZE}"
        )
    more = sorted(saved.keys() - wanted)
    if more and strict:
        raise ValueError(
            f"the checkpoint {path} holds {len(more)} arrays that this run lacks, such "
            f"as {name(more[0])}: {remedy}leave them out, by "
            "RestoreCheckpointConfig.strict = False"
        )
