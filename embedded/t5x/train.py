r"""Trains a model that gin files describe.

python -m t5x.train --gin_file=FILE --gin.MODEL_DIR=\"/tmp/run\" --gin.NAME=VALUE
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import os
import time
from typing import Any

from clu.data import dataset_iterator
import jax
import seqio
from t5x import (
    actions as actions_lib,
    checkpoints,
    datasets,
    eval as eval_lib,
    gin_utils,
    models,
    partitioning,
    progress as progress_lib,
    train_state as train_state_lib,
    trainer as trainer_lib,
    training_loop,
    utils,
)
from t5x.checks import LocalFolder, Seed, Whole, checked
import tensorflow as tf


@checked
def train(
    *,
    model: models.BaseTransformerModel,
    train_dataset_cfg: utils.DatasetConfig,
    train_eval_dataset_cfg: utils.DatasetConfig | None,
    infer_eval_dataset_cfg: utils.DatasetConfig | None,
    checkpoint_cfg: utils.CheckpointConfig,
    partitioner: partitioning.PjitPartitioner,
    trainer_cls: Callable[..., trainer_lib.Trainer],
    model_dir: LocalFolder,
    total_steps: Whole,
    eval_steps: Whole,
    eval_period: Whole | None,
    relative_steps: Whole | None = None,
    stats_period: Whole | None = None,
    random_seed: Seed | None,
    use_hardware_rng: bool = False,
    summarize_config_fn: Callable[[str, Any, int], None],
    inference_evaluator_cls: Callable[..., seqio.Evaluator] = seqio.Evaluator,
    get_dataset_fn: Callable[..., Any] = utils.get_dataset,
    concurrent_metrics: bool = True,
    actions: Mapping[str, Sequence[actions_lib.BaseAction]] | None = None,
    verify_matching_vocabs_fn: Callable[..., None] = utils.verify_matching_vocabs,
    run_eval_before_training: bool = False,
) -> tuple[int, train_state_lib.FlaxOptimTrainState]:
    """Trains up to `total_steps`, from the newest checkpoint in `model_dir` if any.

    Args:
        model: the model, which has the optimizer.
        train_dataset_cfg: training data.
        train_eval_dataset_cfg: data for teacher-forced evaluation, or None.
        infer_eval_dataset_cfg: data for evaluation by decoding or scoring, or None.
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
        inference_evaluator_cls: seqio.Evaluator, perhaps with bound arguments.
        get_dataset_fn: gives the training data, a tf.data.Dataset or a DatasetIterator of
            clu; called with its configuration, the shard, the number of shards and the
            model's feature converter.
        concurrent_metrics: for T5X, whose actions run if it is False.
        actions: 'TRAIN', 'TRAIN_EVAL' or 'INFER_EVAL' -> what looks at these metrics, and
            may stop the run.
        verify_matching_vocabs_fn: called with every configuration of data and the model,
            to raise if they do not go together.
        run_eval_before_training: evaluate the starting point too.

    Returns:
        The last step and the train state there.

    Raises:
        ValueError: settings of a wrong type or range; periods of which one is not a
            multiple of the other; a checkpoint past total_steps, or of other arrays; no
            task has the split; vocabularies that are not the model's; unknown actions.
        SystemExit: SIGTERM or SIGINT stopped the run, with 128 plus its number.
    """
    del concurrent_metrics
    all_actions = actions_lib.Actions(actions)
    os.makedirs(model_dir, exist_ok=True)
    evaluates = bool(train_eval_dataset_cfg or infer_eval_dataset_cfg)
    eval_period = (evaluates and eval_period) or 0
    save_period = getattr(checkpoint_cfg.save, "period", None)
    training_loop.shorter_period(eval_period, save_period)  # or they do not fit
    if train_eval_dataset_cfg and not eval_steps:
        raise ValueError("train.eval_steps=0: must be at least 1 to evaluate")
    for cfg in (train_dataset_cfg, train_eval_dataset_cfg, infer_eval_dataset_cfg):
        if cfg:
            verify_matching_vocabs_fn(cfg, model)
    if use_hardware_rng or random_seed is None:
        jax.config.update("jax_default_prng_impl", "unsafe_rbg")
    seed = int(time.time()) if random_seed is None else random_seed
    init_rng, trainer_rng = jax.random.split(jax.random.PRNGKey(seed))

    converter = model.FEATURE_CONVERTER_CLS
    layout = partitioner.get_data_layout(train_dataset_cfg.batch_size)
    train_iter = utils.prepare_train_iter(
        get_dataset_fn(train_dataset_cfg, layout.shard_id, layout.num_shards, converter),
        partitioner=partitioner,
        checkpoint_cfg=checkpoint_cfg,
        data_layout=layout,
    )
    eval_datasets = _eval_data(train_eval_dataset_cfg, model, partitioner, eval_steps)
    spec = train_iter.element_spec
    initializer = utils.TrainStateInitializer(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes={k: s.shape for k, s in spec.items()},
        input_types={k: s.dtype for k, s in spec.items()},
        partitioner=partitioner,
    )
    shapes = initializer.global_train_state_shape
    initializer.write_model_info(model_dir)
    trainer = trainer_cls(
        model=model,
        train_state=shapes,  # of no values: it checks its settings before they are there
        partitioner=partitioner,
        train_state_axes=initializer.train_state_axes,
        eval_names=list(eval_datasets),
        summary_dir=model_dir,
        rng=trainer_rng,
    )
    trainer.train_state = _start_or_resume(
        initializer, checkpoint_cfg, model_dir, init_rng, train_iter
    )
    first_step = int(trainer.train_state.step)
    total_steps = first_step + relative_steps if relative_steps else total_steps
    if total_steps < first_step:
        raise ValueError(
            f"the checkpoint is at step {first_step}, past total_steps={total_steps}"
        )

    if total_steps == first_step:
        progress_lib.say(f"step {first_step} of {total_steps}: nothing to train")
    evaluator = _evaluator(
        infer_eval_dataset_cfg, inference_evaluator_cls, model, partitioner, model_dir
    )
    summarize_config_fn(
        model_dir, trainer.train_metrics_manager.summary_writer, first_step
    )
    progress = progress_lib.Progress(first_step, total_steps)
    run = training_loop.Run(
        trainer=trainer,
        train_iter=train_iter,
        saver=_saver(checkpoint_cfg, model_dir, shapes, partitioner, train_iter),
        save_cfg=checkpoint_cfg.save,
        evaluations=training_loop.Evaluations(
            model_dir,
            trainer,
            eval_datasets,
            evaluator,
            partitioner,
            initializer.train_state_axes,
            progress,
            all_actions,
        ),
        actions=all_actions,
        eval_period=eval_period,
        stats_period=stats_period,
        progress=progress,
        first_step=first_step,
        total_steps=total_steps,
        evaluates_first=run_eval_before_training,
    )
    with contextlib.closing(run):
        run.save()
        if total_steps > first_step:
            first = train_iter.peek_async()  # reads while the step compiles
            trainer.compile_train(datasets.zeros_batch(spec, partitioner))
            with contextlib.suppress(StopIteration):  # the trainer says what to set
                first.result()  # or what went wrong
        stopped_by = run.train()
    if stopped_by:
        raise SystemExit(128 + stopped_by)
    return run.step, trainer.train_state


def _eval_data(
    cfg: utils.DatasetConfig | None,
    model: models.BaseTransformerModel,
    partitioner: partitioning.PjitPartitioner,
    eval_steps: int,
) -> dict[str, tf.data.Dataset]:
    """Task -> batches for teacher-forced evaluation."""
    if not cfg:
        return {}
    layout = partitioner.get_data_layout(cfg.batch_size)
    return utils.get_training_eval_datasets(
        cfg, layout.shard_id, layout.num_shards, eval_steps, model.FEATURE_CONVERTER_CLS
    )


def _evaluator(
    cfg: utils.DatasetConfig | None,
    evaluator_cls: Callable[..., seqio.Evaluator],
    model: models.BaseTransformerModel,
    partitioner: partitioning.PjitPartitioner,
    model_dir: str,
) -> eval_lib.InferenceEvaluator | None:
    """For evaluation by decoding or scoring, if tasks have metrics."""
    if not cfg:
        return None
    evaluator = eval_lib.InferenceEvaluator(
        cfg, evaluator_cls, model, partitioner, log_dir=model_dir
    )
    return evaluator if evaluator.eval_tasks else None  # seqio warns if there are none


def _saver(
    checkpoint_cfg: utils.CheckpointConfig,
    model_dir: str,
    shapes: Any,
    partitioner: partitioning.PjitPartitioner,
    train_iter: dataset_iterator.DatasetIterator,
) -> checkpoints.OrbaxCheckpointManagerInterface | None:
    """What writes checkpoints, if the configuration has a period."""
    cfg = checkpoint_cfg.save
    if not (cfg and cfg.period):
        return None
    return checkpoints.OrbaxCheckpointManagerInterface(
        model_dir,
        shapes,
        partitioner,
        train_iter if cfg.save_dataset else None,
        save_dtype=cfg.dtype,
        keep=cfg.keep,
        period=cfg.period,
    )


def _start_or_resume(
    initializer: utils.TrainStateInitializer,
    checkpoint_cfg: utils.CheckpointConfig,
    model_dir: str,
    init_rng: jax.Array,
    train_iter: dataset_iterator.DatasetIterator,
) -> Any:
    """From the newest checkpoint in model_dir, else from a given one, else anew."""
    save_cfg, restore_cfg = checkpoint_cfg.save, checkpoint_cfg.restore
    if checkpoints.all_steps(model_dir):
        with_dataset = bool(save_cfg and save_cfg.save_dataset)
        resume = utils.RestoreCheckpointConfig(model_dir, restore_dataset=with_dataset)
        return initializer.restore(
            utils.restore_paths(resume)[0], resume, ds_iter=train_iter, resuming=True
        )
    path = utils.restore_path(restore_cfg) if restore_cfg else None
    if restore_cfg and path:
        return initializer.restore(path, restore_cfg, init_rng, train_iter)
    return initializer.from_scratch(init_rng)


if __name__ == "__main__":
    gin_utils.run_configurable(train)
