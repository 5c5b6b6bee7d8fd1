r"""Trains a model that gin files describe.

python -m t5x.train --gin_file=FILE --gin.MODEL_DIR=\"/tmp/run\" --gin.NAME=VALUE
"""

from collections.abc import Callable, Sequence
import functools
import os
import time
from typing import Any

# TensorFlow only reads data here: no log lines about its kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from absl import app, flags, logging
import gin
import jax
import seqio
import t5x
from t5x import (
    checkpoints,
    datasets,
    gin_utils,
    models,
    partitioning,
    progress as progress_lib,
    train_state as train_state_lib,
    trainer as trainer_lib,
    utils,
)
import tensorflow as tf


def train(
    *,
    model: models.BaseTransformerModel,
    train_dataset_cfg: utils.DatasetConfig,
    train_eval_dataset_cfg: utils.DatasetConfig | None,
    infer_eval_dataset_cfg: None,
    checkpoint_cfg: utils.CheckpointConfig,
    partitioner: partitioning.PjitPartitioner,
    trainer_cls: Callable[..., trainer_lib.Trainer],
    model_dir: str,
    total_steps: int,
    eval_steps: int,
    eval_period: int,
    relative_steps: int | None = None,
    stats_period: int | None = None,
    random_seed: int | None,
    use_hardware_rng: bool = False,
    summarize_config_fn: Callable[[str, Any, int], None],
    run_eval_before_training: bool = False,
) -> tuple[int, train_state_lib.FlaxOptimTrainState]:
    """Trains up to `total_steps`, from the newest checkpoint in `model_dir` if any.

    Args:
        model: the model, which has the optimizer.
        train_dataset_cfg: training data.
        train_eval_dataset_cfg: data for teacher-forced evaluation, or None.
        infer_eval_dataset_cfg: must be None: decoding needs T5X.
        checkpoint_cfg: saving, and the checkpoint to start a new run from.
        partitioner: lays arrays out on the devices.
        trainer_cls: a `trainer.Trainer`.
        model_dir: for checkpoints, TensorBoard files and config.gin.
        total_steps: the step to stop at.
        eval_steps: batches per evaluation.
        eval_period: steps between evaluations; the last step is evaluated too.
        relative_steps: steps from the restored one, instead of total_steps.
        stats_period: steps between summaries; default, the shorter of the evaluation
            and checkpoint periods.
        random_seed: of initial parameters and dropout; None takes the clock.
        use_hardware_rng: JAX's faster key type, reproducible on one platform only.
        summarize_config_fn: called with model_dir, a summary writer and the step.
        run_eval_before_training: evaluate the starting point too.

    Returns:
        The last step and the train state there.

    Raises:
        ValueError: periods of which one is not a multiple of the other; a checkpoint
            past total_steps; inference evaluation.
    """
    if infer_eval_dataset_cfg is not None:
        raise ValueError(
            "the embedded t5x evaluates with teacher forcing only: set "
            "train.infer_eval_dataset_cfg=None, or install T5X"
        )
    os.makedirs(model_dir, exist_ok=True)
    save_cfg, restore_cfg = checkpoint_cfg.save, checkpoint_cfg.restore
    eval_period = eval_period if train_eval_dataset_cfg else 0
    save_period = (save_cfg.period or 0) if save_cfg else 0
    periods = [p for p in (eval_period, save_period) if p]
    if periods and max(periods) % min(periods):
        raise ValueError(
            f"eval_period={eval_period} and SaveCheckpointConfig.period={save_period}: "
            "one must be a multiple of the other"
        )

    if use_hardware_rng or random_seed is None:
        jax.config.update("jax_default_prng_impl", "unsafe_rbg")
    seed = int(time.time()) if random_seed is None else random_seed
    init_rng, trainer_rng = jax.random.split(jax.random.PRNGKey(seed))

    # Data.
    utils.verify_matching_vocabs(train_dataset_cfg, model)
    layout = partitioner.get_data_layout(train_dataset_cfg.batch_size)
    converter = model.FEATURE_CONVERTER_CLS
    train_iter = utils.prepare_train_iter(
        utils.get_dataset(
            train_dataset_cfg, layout.shard_id, layout.num_shards, converter
        ),
        partitioner=partitioner,
        checkpoint_cfg=checkpoint_cfg,
        data_layout=layout,
    )
    eval_datasets: dict[str, tf.data.Dataset] = {}
    if train_eval_dataset_cfg:
        utils.verify_matching_vocabs(train_eval_dataset_cfg, model)
        eval_datasets = utils.get_training_eval_datasets(
            train_eval_dataset_cfg,
            layout.shard_id,
            layout.num_shards,
            eval_steps,
            converter,
        )

    # The train state: from model_dir, else from a given checkpoint, else from scratch.
    spec = train_iter.element_spec
    initializer = utils.TrainStateInitializer(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes={k: s.shape for k, s in spec.items()},
        input_types={k: s.dtype for k, s in spec.items()},
        partitioner=partitioner,
    )
    shapes = initializer.global_train_state_shape
    utils.log_model_info(os.path.join(model_dir, "model-info.txt"), shapes, partitioner)

    def checkpoint_manager(directory, with_dataset, **kwargs):
        return checkpoints.OrbaxCheckpointManagerInterface(
            directory, shapes, partitioner, train_iter if with_dataset else None, **kwargs
        )

    def restore(path, with_dataset, dtype=None):
        reader = checkpoint_manager(
            os.path.dirname(path), with_dataset, restore_dtype=dtype
        )
        state = reader.restore(path)
        reader.close()
        return state

    saves_dataset = bool(save_cfg and save_cfg.save_dataset)
    resume_path = utils.restore_path(utils.RestoreCheckpointConfig(model_dir))
    given_path = utils.restore_path(restore_cfg) if restore_cfg else None
    if resume_path:
        train_state = restore(resume_path, saves_dataset)
    elif given_path and restore_cfg:
        train_state = restore(given_path, restore_cfg.restore_dataset, restore_cfg.dtype)
    else:
        train_state = initializer.from_scratch(init_rng)
    saver = None
    if save_cfg and save_period:
        saver = checkpoint_manager(
            model_dir, saves_dataset, save_dtype=save_cfg.dtype, keep=save_cfg.keep
        )
    first_step = int(train_state.step)
    if relative_steps:
        total_steps = first_step + relative_steps
    if total_steps < first_step:
        raise ValueError(
            f"the checkpoint is at step {first_step}, past total_steps={total_steps}"
        )

    trainer = trainer_cls(
        model=model,
        train_state=train_state,
        partitioner=partitioner,
        train_state_axes=initializer.train_state_axes,
        eval_names=list(eval_datasets),
        summary_dir=model_dir,
        rng=trainer_rng,
    )
    del train_state
    manager = trainer.train_metrics_manager
    summarize_config_fn(model_dir, manager.summary_writer, first_step)
    progress = progress_lib.Progress(first_step, total_steps)

    def evaluate(step: int) -> None:
        batches = {name: ds.as_numpy_iterator() for name, ds in eval_datasets.items()}
        for name, summary in trainer.eval(batches).items():
            progress.eval(step, name, summary)

    def report(step: int, future) -> None:
        if not future.exception():
            progress.train(step, future.result())

    def save(step: int) -> None:
        if saver and step not in saver.all_steps():
            saver.save(trainer.train_state)

    save(first_step)
    if total_steps > first_step:
        train_iter.peek_async()  # fills the input pipeline while the step compiles
        trainer.compile_train(datasets.zeros_batch(spec, partitioner))
    if eval_datasets and (total_steps > first_step or run_eval_before_training):
        trainer.compile_eval(
            {
                name: datasets.zeros_batch(ds.element_spec, partitioner)
                for name, ds in eval_datasets.items()
            }
        )
    if run_eval_before_training and eval_datasets:
        evaluate(first_step)

    chunk = min(periods, default=total_steps)
    stats_period = stats_period or chunk
    step = first_step
    while step < total_steps:
        # Periods count from the first step of this process, as in T5X.
        done = step - first_step
        stop = min(first_step + (done // chunk + 1) * chunk, total_steps)
        num_steps = min(stop - step, stats_period)
        summary = trainer.train(train_iter, num_steps, start_step=step)
        step += num_steps
        summary.add_done_callback(functools.partial(report, step))
        if step < stop:
            continue
        done = step - first_step
        last = step == total_steps
        summary.result()  # raises what the steps raised
        if save_period and (last or done % save_period == 0):
            save(step)
        if eval_period and eval_datasets and (last or done % eval_period == 0):
            evaluate(step)

    if saver:
        saver.wait_until_finished()
        saver.close()
    trainer.close()
    progress.close()
    return step, trainer.train_state


def _define_flags() -> None:
    flags.DEFINE_multi_string("gin_file", None, "Gin file; later ones override.")
    flags.DEFINE_multi_string("gin_bindings", [], "Gin binding; also --gin.NAME=VALUE.")
    flags.DEFINE_list("gin_search_paths", ["."], "Folders to look for gin files in.")
    flags.DEFINE_string("tfds_data_dir", None, "Folder of TensorFlow Datasets.")
    flags.DEFINE_list("seqio_additional_cache_dirs", [], "Folders of cached tasks.")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    tf.config.set_visible_devices([], "GPU")  # the accelerator is JAX's
    args = flags.FLAGS
    if not args["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # the progress line tells the rest
    if args.tfds_data_dir:
        seqio.set_tfds_data_dir_override(args.tfds_data_dir)
    seqio.add_global_cache_dirs(args.seqio_additional_cache_dirs)
    train_with_gin = gin.configurable(train)
    t5x_root = os.path.dirname(os.path.dirname(t5x.__file__))
    gin_utils.parse_gin_flags(
        [*args.gin_search_paths, t5x_root], args.gin_file, args.gin_bindings
    )
    train_with_gin()


if __name__ == "__main__":
    _define_flags()
    gin_utils.run(main)
