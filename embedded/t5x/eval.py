r"""Evaluates checkpoints by decoding or scoring, with a task's own metrics.

python -m t5x.eval --gin_file=FILE --gin.CHECKPOINT_PATH=\"/tmp/run/checkpoint_100\" \
    --gin.EVAL_OUTPUT_DIR=\"/tmp/eval\" --gin.NAME=VALUE
"""

from collections.abc import Callable, Mapping, Sequence
import concurrent.futures
import functools
import os
from typing import Any

import jax
import seqio
from t5x import datasets, gin_utils, models, partitioning, progress, utils
from t5x.checks import LocalFolder, Seed, checked


class InferenceEvaluator:
    """Evaluates a task or mixture with seqio.Evaluator and a model.

    `eval_tasks` are those that have both the split itself, no slice of it, and metrics.
    """

    def __init__(
        self,
        infer_eval_dataset_cfg: utils.DatasetConfig,
        inference_evaluator_cls: Callable[..., seqio.Evaluator],
        model: models.BaseTransformerModel,
        partitioner: partitioning.PjitPartitioner,
        log_dir: str | None = None,
    ):
        """Reads the examples, which stay in memory if the configuration says so.

        Args:
            infer_eval_dataset_cfg: what to evaluate; feature lengths of None take the
                longest example's.
            inference_evaluator_cls: seqio.Evaluator, perhaps with bound arguments.
            model: decodes and scores.
            partitioner: compiles decoding and scoring.
            log_dir: results go to its folder inference_eval; None writes none.

        Raises:
            ValueError: no task has the split, the vocabularies are not the model's, or
                the batch does not divide over the devices.
        """
        cfg = infer_eval_dataset_cfg
        utils.verify_matching_vocabs(cfg, model)
        utils.get_tasks_with_split(cfg)
        partitioner.get_data_layout(cfg.batch_size)
        self._cfg, self._model, self._partitioner = cfg, model, partitioner
        loggers: dict[str, Any] = {"logger_cls": ()}
        if log_dir:
            loggers = {"log_dir": os.path.join(log_dir, "inference_eval")}
            os.makedirs(loggers["log_dir"], exist_ok=True)  # seqio.JSONLogger does not
        self._evaluator = inference_evaluator_cls(
            mixture_or_task_name=datasets.get_task_or_mixture(cfg).name,
            feature_converter=model.FEATURE_CONVERTER_CLS(pack=False),
            eval_split=cfg.split,
            use_cached=cfg.use_cached,
            seed=cfg.seed,
            sequence_length=cfg.task_feature_lengths,
            use_memory_cache=cfg.use_memory_cache,
            **loggers,
        )
        self.eval_tasks: Sequence[seqio.Task] = self._evaluator.eval_tasks
        for name in (task.name for task in self.eval_tasks):
            if not self._evaluator.cached_task_datasets[name].cardinality():
                raise ValueError(
                    f"split {cfg.split!r} of task {name} gives no example to evaluate: "
                    "set DatasetConfig.split or TASK_FEATURE_LENGTHS"
                )
        self._infer_fns: dict[str, Callable] = {}

    @property
    def model_feature_shapes(self) -> Mapping[str, Sequence[int]]:
        """Of an example of `eval_tasks`, without the batch's axis."""
        return self._evaluator.model_feature_shapes

    def close(self) -> None:
        """Waits until the metrics are written."""
        self._evaluator.close()

    def evaluate(
        self, train_state: Any, train_state_axes: Any
    ) -> concurrent.futures.Future:
        """Decodes or scores now, and computes and writes metrics in the background.

        Args:
            train_state: has the parameters.
            train_state_axes: its PartitionSpecs.

        Returns:
            A future of task -> metric -> value.
        """
        if not self._infer_fns:
            steps: dict[str, Callable] = {
                "predict_fn": self._model.predict_batch,
                "predict_with_aux_fn": self._model.predict_batch_with_aux,
                "score_fn": self._model.score_batch,
            }
            self._infer_fns = {
                name: utils.get_infer_fn(
                    step, self._cfg.batch_size, train_state_axes, self._partitioner
                )
                for name, step in steps.items()
            }
        metrics, _ = self._evaluator.evaluate(
            compute_metrics=True,
            step=int(train_state.step),
            **{
                name: functools.partial(
                    fn, train_state=train_state, rng=jax.random.PRNGKey(0)
                )
                for name, fn in self._infer_fns.items()
            },
        )
        return metrics


@checked
def evaluate(
    *,
    model: models.BaseTransformerModel,
    dataset_cfg: utils.DatasetConfig,
    restore_checkpoint_cfg: utils.RestoreCheckpointConfig,
    partitioner: partitioning.PjitPartitioner,
    output_dir: LocalFolder,
    inference_evaluator_cls: Callable[..., seqio.Evaluator] = seqio.Evaluator,
    summarize_config_fn: Callable[[str, Any, int], None] = gin_utils.summarize_gin_config,
    fallback_init_rng: Seed | None = None,
) -> None:
    """Evaluates one checkpoint, or all in a folder.

    Args:
        model: decodes and scores.
        dataset_cfg: what to evaluate.
        restore_checkpoint_cfg: the checkpoint; its optimizer state is left out. Mode
            'all' skips checkpoints that output_dir says were evaluated.
        partitioner: lays arrays out on the devices.
        output_dir: for inference_eval/, config.gin, model-info.txt, and the list of
            evaluated checkpoints, eval.TASK.ckpt.
        inference_evaluator_cls: seqio.Evaluator, perhaps with bound arguments.
        summarize_config_fn: called with output_dir, None and 0.
        fallback_init_rng: seed for parameters that the checkpoint lacks, if
            RestoreCheckpointConfig.fallback_to_scratch.

    Raises:
        ValueError: no task has metrics and the split; the vocabularies are not the
            model's; there is no such checkpoint, or its parameters are not the model's.
    """
    paths = utils.restore_paths(restore_checkpoint_cfg)
    summarize_config_fn(output_dir, None, 0)
    evaluator = InferenceEvaluator(
        dataset_cfg, inference_evaluator_cls, model, partitioner, log_dir=output_dir
    )
    if not evaluator.eval_tasks:
        raise ValueError(
            f"{dataset_cfg.mixture_or_task_name} has no task with metrics and the split "
            f"{dataset_cfg.split!r}, itself and not a slice of one: give its seqio task "
            "metric_fns, or set MIXTURE_OR_TASK_NAME or DatasetConfig.split"
        )
    shapes = {
        name: (dataset_cfg.batch_size, *shape)
        for name, shape in evaluator.model_feature_shapes.items()
    }
    initializer = utils.TrainStateInitializer(
        None, model.get_initial_variables, shapes, partitioner
    )
    initializer.write_model_info(output_dir)
    name = datasets.get_task_or_mixture(dataset_cfg).name
    done_file = os.path.join(output_dir, f"eval.{name}.ckpt")
    done: list[str] = []
    if os.path.exists(done_file):
        with open(done_file) as f:
            done = f.read().split("\n")
    for path in paths:
        if restore_checkpoint_cfg.mode == "all" and path in done:
            progress.say(f"{path} was evaluated: {done_file} names it")
            continue
        state = initializer.restore_for_inference(
            path, restore_checkpoint_cfg, fallback_init_rng
        )
        metrics = evaluator.evaluate(state, initializer.train_state_axes).result()
        progress.say_metrics(int(state.step), metrics)
        del state  # before the next is there beside it
        done = [*(p for p in done if p != path), path]
        with open(f"{done_file}.tmp", "w") as f:
            f.write("\n".join(done))
        os.replace(f"{done_file}.tmp", done_file)
    evaluator.close()


if __name__ == "__main__":
    gin_utils.run_configurable(evaluate)
