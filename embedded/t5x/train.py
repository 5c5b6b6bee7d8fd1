r"""Trains a model that gin files describe.

python -m t5x.train --gin_file=FILE --gin.MODEL_DIR=\"/tmp/run\" --gin.NAME=VALUE
"""

from collections.abc import Callable
import concurrent.futures
import functools
import os
import time
from typing import Any

from clu.data import dataset_iterator
import jax
import seqio
from t5x import (
    checkpoints,
    datasets,
    eval as eval_lib,
    gin_utils,
    models,
    partitioning,
    progress as progress_lib,
    train_state as train_state_lib,
    trainer as trainer_lib,
    utils,
)
from t5x.checks import Seed, Whole, checked
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
    model_dir: str,
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
        run_eval_before_training: evaluate the starting point too.

    Returns:
        The last step and the train state there.

    Raises:
        ValueError: settings of a wrong type or range; periods of which one is not a
            multiple of the other; a checkpoint past total_steps, or of other arrays; no
            task has the split; vocabularies that are not the model's.
    """
    os.makedirs(model_dir, exist_ok=True)
    evaluates = bool(train_eval_dataset_cfg or infer_eval_dataset_cfg)
    eval_period = (evaluates and eval_period) or 0
    save_period = (checkpoint_cfg.save.period or 0) if checkpoint_cfg.save else 0
    _check_periods(eval_period, save_period)
    if train_eval_dataset_cfg and not eval_steps:
        raise ValueError("train.eval_steps=0: must be at least 1 to evaluate")

    if use_hardware_rng or random_seed is None:
        jax.config.update("jax_default_prng_impl", "unsafe_rbg")
    seed = int(time.time()) if random_seed is None else random_seed
    init_rng, trainer_rng = jax.random.split(jax.random.PRNGKey(seed))

    train_iter = _training_data(
        train_dataset_cfg, model, partitioner, checkpoint_cfg, get_dataset_fn
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
    utils.log_model_info(os.path.join(model_dir, "model-info.txt"), shapes, partitioner)
    train_state = _first_state(
        initializer, checkpoint_cfg, model_dir, init_rng, train_iter
    )
    first_step = int(train_state.step)
    if relative_steps:
        total_steps = first_step + relative_steps
    if total_steps < first_step:
        raise ValueError(
            f"the checkpoint is at step {first_step}, past total_steps={total_steps}"
        )

    evaluator = None
    if infer_eval_dataset_cfg:
        evaluator = eval_lib.InferenceEvaluator(
            infer_eval_dataset_cfg,
            inference_evaluator_cls,
            model,
            partitioner,
            log_dir=model_dir,
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
    evaluations = _Evaluations(
        trainer,
        eval_datasets,
        evaluator,
        partitioner,
        initializer.train_state_axes,
        progress,
    )
    saver = None
    if checkpoint_cfg.save and save_period:
        saver = checkpoints.OrbaxCheckpointManagerInterface(
            model_dir,
            shapes,
            partitioner,
            train_iter if checkpoint_cfg.save.save_dataset else None,
            save_dtype=checkpoint_cfg.save.dtype,
            keep=checkpoint_cfg.save.keep,
        )

    def save() -> None:
        if saver and int(trainer.train_state.step) not in saver.all_steps():
            saver.save(trainer.train_state)

    save()
    if total_steps > first_step:
        train_iter.peek_async()  # fills the input pipeline while the step compiles
        trainer.compile_train(datasets.zeros_batch(spec, partitioner))
    if run_eval_before_training:
        evaluations.run(first_step)

    chunk = min((p for p in (eval_period, save_period) if p), default=total_steps)
    step = first_step
    while step < total_steps:
        # Periods count from the first step of this process, as in T5X.
        done = step - first_step
        stop = min(first_step + (done // chunk + 1) * chunk, total_steps)
        step = _train_until(
            stop, step, trainer, train_iter, stats_period or chunk, progress
        )
        done = step - first_step
        last = step == total_steps
        if save_period and (last or done % save_period == 0):
            save()
        if eval_period and (last or done % eval_period == 0):
            evaluations.run(step)

    if saver:
        saver.wait_until_finished()
        saver.close()
    evaluations.close()
    trainer.close()
    progress.close()
    return step, trainer.train_state


def _check_periods(eval_period: int, save_period: int) -> None:
    periods = [p for p in (eval_period, save_period) if p]
    if periods and max(periods) % min(periods):
        raise ValueError(
            f"eval_period={eval_period} and SaveCheckpointConfig.period={save_period}: "
            "one must be a multiple of the other"
        )


def _training_data(
    cfg: utils.DatasetConfig,
    model: models.BaseTransformerModel,
    partitioner: partitioning.PjitPartitioner,
    checkpoint_cfg: utils.CheckpointConfig,
    get_dataset_fn: Callable[..., Any],
) -> dataset_iterator.PeekableDatasetIterator:
    """Training batches on the mesh."""
    utils.verify_matching_vocabs(cfg, model)
    layout = partitioner.get_data_layout(cfg.batch_size)
    batches = get_dataset_fn(
        cfg, layout.shard_id, layout.num_shards, model.FEATURE_CONVERTER_CLS
    )
    return utils.prepare_train_iter(
        batches,
        partitioner=partitioner,
        checkpoint_cfg=checkpoint_cfg,
        data_layout=layout,
    )


def _eval_data(
    cfg: utils.DatasetConfig | None,
    model: models.BaseTransformerModel,
    partitioner: partitioning.PjitPartitioner,
    eval_steps: int,
) -> dict[str, tf.data.Dataset]:
    """Task -> batches for teacher-forced evaluation."""
    if not cfg:
        return {}
    utils.verify_matching_vocabs(cfg, model)
    layout = partitioner.get_data_layout(cfg.batch_size)
    return utils.get_training_eval_datasets(
        cfg, layout.shard_id, layout.num_shards, eval_steps, model.FEATURE_CONVERTER_CLS
    )


def _first_state(
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
            utils.restore_paths(resume)[0], resume, ds_iter=train_iter
        )
    path = utils.restore_path(restore_cfg) if restore_cfg else None
    if restore_cfg and path:
        return initializer.restore(path, restore_cfg, init_rng, train_iter)
    return initializer.from_scratch(init_rng)


def _train_until(
    stop: int,
    step: int,
    trainer: trainer_lib.Trainer,
    train_iter: dataset_iterator.DatasetIterator,
    stats_period: int,
    progress: progress_lib.Progress,
) -> int:
    """Trains from `step` to `stop`, with a summary every `stats_period`."""

    def report(at: int, future: concurrent.futures.Future) -> None:
        if not future.exception():
            progress.train(at, future.result())

    while step < stop:
        num_steps = min(stop - step, stats_period)
        summary = trainer.train(train_iter, num_steps, start_step=step)
        step += num_steps
        summary.add_done_callback(functools.partial(report, step))
    summary.result()  # raises what the steps raised
    return step


class _Evaluations:
    """Evaluation with teacher forcing, and by decoding or scoring."""

    def __init__(
        self,
        trainer: trainer_lib.Trainer,
        eval_datasets: dict[str, tf.data.Dataset],
        evaluator: eval_lib.InferenceEvaluator | None,
        partitioner: partitioning.PjitPartitioner,
        train_state_axes: Any,
        progress: progress_lib.Progress,
    ):
        self._trainer = trainer
        self._datasets = eval_datasets
        self._partitioner = partitioner
        self._compiled = False
        # seqio warns of tasks without metrics, and its evaluator then has none.
        self._evaluator = evaluator if evaluator and evaluator.eval_tasks else None
        self._axes = train_state_axes
        self._progress = progress
        self._metrics: concurrent.futures.Future | None = None

    def run(self, step: int) -> None:
        """Evaluates. Metrics of decoded text are computed while training goes on."""
        if not self._compiled:
            self._trainer.compile_eval(
                {
                    name: datasets.zeros_batch(ds.element_spec, self._partitioner)
                    for name, ds in self._datasets.items()
                }
            )
            self._compiled = True
        batches = {name: ds.as_numpy_iterator() for name, ds in self._datasets.items()}
        for name, summary in self._trainer.eval(batches).items():
            self._progress.eval(step, name, summary)
        if not self._evaluator:
            return
        started = time.time()
        metrics = self._evaluator.evaluate(self._trainer.train_state, self._axes)
        self._trainer.train_metrics_manager.write_scalar(
            "timing/evaluate_seconds", time.time() - started, step
        )

        def report(future: concurrent.futures.Future) -> None:
            if not future.exception():
                progress_lib.say_metrics(step, future.result())

        metrics.add_done_callback(report)
        self._metrics = metrics

    def close(self) -> None:
        """Waits for the metrics; raises what the last computation of them raised."""
        if self._evaluator:
            self._evaluator.close()
        if self._metrics:
            self._metrics.result()


if __name__ == "__main__":
    gin_utils.run_configurable(train)
