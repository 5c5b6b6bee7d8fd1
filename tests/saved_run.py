"""A run's folder with two checkpoints, made without training."""

import functools
import os
import pathlib
import threading
from typing import Any

import jax
import numpy as np
from t5x import checkpoints, models, partitioning, utils

from gbt_t5x import data_position, run_folder
import tiny

STEPS = (2, 4)


@functools.cache
def _initializer() -> tuple[Any, Any]:
    partitioner = partitioning.PjitPartitioner(model_parallel_submesh=(1, 1))
    shapes = {name: (8, 16) for name in ("encoder_input_tokens", "decoder_input_tokens")}
    model = tiny.make_model(tiny.guided())
    return partitioner, utils.TrainStateInitializer(
        model.optimizer_def, model.get_initial_variables, shapes, partitioner
    )


@functools.cache
def _initial_state() -> Any:
    return _initializer()[1].from_scratch(jax.random.PRNGKey(0))


def state_at(step: int) -> Any:
    """A train state, other for every step."""
    state = _initial_state()
    params = jax.tree.map(lambda x: x + step, state.params)
    arrays = state.replace_params(params).state_dict()
    arrays["state"]["step"] = np.int32(step)
    return state.restore_state(arrays)


def configuration(model_dir: Any, keep: int | None = 3, has_position: bool = True) -> Any:
    """What a run begins with."""
    save = utils.SaveCheckpointConfig(period=2, keep=keep, save_dataset=has_position)
    restore = utils.RestoreCheckpointConfig(path=[])
    cfg = utils.CheckpointConfig(save=save, restore=restore)
    return run_folder.checkpoint_config(cfg, os.fspath(model_dir))


class Run:
    """What T5X's train makes of the configuration, but for the training."""

    def __init__(self, model_dir: Any, keep: int | None = 3):
        cfg = configuration(model_dir, keep)
        self._fns = cfg.save.state_transformation_fns
        self.model_dir = pathlib.Path(model_dir)
        self.model_dir.mkdir(exist_ok=True)
        partitioner, initializer = _initializer()
        self.data = utils.prepare_train_iter(
            data_position.get_dataset(
                tiny.dataset_cfg("train"),
                0,
                1,
                models.EncoderDecoderModel.FEATURE_CONVERTER_CLS,
                model_dir=os.fspath(model_dir),
            ),
            partitioner=partitioner,
            checkpoint_cfg=cfg,
            data_layout=partitioner.get_data_layout(8),
        )
        self.manager = checkpoints.OrbaxCheckpointManagerInterface(
            os.fspath(model_dir),
            initializer.global_train_state_shape,
            partitioner,
            self.data,
            save_dtype="float32",
            keep=keep,
            period=2,
        )

    def save(self, state: Any) -> None:
        self.manager.save(state, self._fns)

    def restore(self) -> Any:
        """From what T5X takes for the newest checkpoint."""
        step = checkpoints.all_steps(os.fspath(self.model_dir))[-1]
        return self.manager.restore(path=str(self.model_dir / f"checkpoint_{step}"))

    def close(self) -> None:
        """Ends as a process does: when the checksums are written."""
        self.manager.close()
        self.wait_for_checksums()

    def wait_for_checksums(self) -> None:
        for thread in threading.enumerate():
            if thread.name == run_folder.THREAD:
                thread.join()


def make(model_dir: pathlib.Path) -> None:
    """Saves the two checkpoints."""
    run = Run(model_dir)
    for step in STEPS:
        next(run.data)
        run.save(state_at(step))
    run.close()


def equal(a: Any, b: Any) -> bool:
    leaves = (jax.tree.leaves(jax.device_get(s.state_dict())) for s in (a, b))
    return all(map(np.array_equal, *leaves))
