"""The compiled train and eval steps, their metrics, and the loops over them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import concurrent.futures
import functools
import os
import time
from typing import Any

from clu import metric_writers, metrics as clu_metrics
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from t5x import (
    metrics as metrics_lib,
    models,
    partitioning,
    train_state as train_state_lib,
)
from t5x.actions import (
    BaseAction as BaseAction,
    TerminateOnNanAction as TerminateOnNanAction,
)
from t5x.checks import Whole, checked
from t5x.models import Batch, MetricsMap

Summary = Mapping[str, Any]


@jax.jit
def merge_metrics(a: MetricsMap, b: MetricsMap) -> MetricsMap:
    """The metrics of the steps of both."""
    is_metric = lambda x: isinstance(x, clu_metrics.Metric)
    return jax.tree.map(lambda x, y: x.merge(y), a, b, is_leaf=is_metric)


class MetricsManager:
    """Turns device metrics into summaries, in the background and in order.

    Summaries go to TensorBoard files in `summary_dir`/`name`.
    """

    def __init__(self, name: str, summary_dir: str | None = None):
        self.summary_writer: metric_writers.MetricWriter = (
            metric_writers.SummaryWriter(os.path.join(summary_dir, name))
            if summary_dir
            else metric_writers.MultiWriter([])
        )
        self._worker = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._started = self._last_done = time.time()

    def write_scalar(self, key: str, value: float, step: int) -> None:
        self._worker.submit(self.summary_writer.write_scalars, int(step), {key: value})

    def start_duration_timer(self) -> None:
        """Steps dispatched from here on belong to the next summary."""
        self._started = time.time()

    def write_metrics_summary(
        self, metrics: MetricsMap, step: int, num_steps: int
    ) -> concurrent.futures.Future:
        """Writes the metrics of `num_steps` steps once they are done.

        Returns:
            A future of the summary: metric name -> clu value.
        """
        started = self._started

        def summarize() -> Summary:
            host_metrics = jax.device_get(metrics)
            done = time.time()
            # Dispatch runs ahead of the device: time starts when the device is free.
            duration = max(done - max(started, self._last_done), 1e-9)  # no rate is 1/0
            self._last_done = done
            host_metrics = metrics_lib.set_time_metrics_duration(host_metrics, duration)
            host_metrics = metrics_lib.set_step_metrics_num_steps(host_metrics, num_steps)
            summary = {name: m.compute_value() for name, m in host_metrics.items()}
            metric_writers.write_values(self.summary_writer, step, summary)
            return summary

        return self._worker.submit(summarize)

    def close(self) -> None:
        self._worker.shutdown(wait=True)
        self.summary_writer.close()


def accumulate_grads_microbatched(
    model: models.BaseTransformerModel,
    train_state: train_state_lib.FlaxOptimTrainState,
    batch: Batch,
    dropout_rng: jax.Array,
    num_microbatches: int | None,
    data_partition_spec: PartitionSpec = PartitionSpec("data"),
) -> tuple[Any, MetricsMap, None]:
    """The gradient of the loss, summed over equal parts of a batch.

    Args:
        model: its loss_fn is differentiated.
        train_state: has the parameters.
        batch: arrays whose first axis is the batch.
        dropout_rng: key; every part gets one split from it.
        num_microbatches: number of parts, which bounds the memory for activations;
            None or 1 for the batch at once.
        data_partition_spec: how the first axis lies on the mesh.

    Returns:
        The gradient, like the parameters; the merged metrics; None, where T5X returns
        other variable collections.

    Raises:
        ValueError: the batch does not divide into the parts.
    """
    grad_fn = jax.grad(model.loss_fn, has_aux=True)
    if not num_microbatches or num_microbatches == 1:
        grads, metrics = grad_fn(train_state.params, batch, dropout_rng)
        return grads, metrics, None

    batch_size = next(iter(batch.values())).shape[0]
    size, rest = divmod(batch_size, num_microbatches)
    if rest:
        raise ValueError(
            f"a batch of {batch_size} does not divide into {num_microbatches} "
            "microbatches"
        )

    def grads_of_part(i, rng):
        rng, part_rng = jax.random.split(rng)
        part = {
            k: partitioning.with_sharding_constraint(
                jax.lax.dynamic_slice_in_dim(x, i * size, size), data_partition_spec
            )
            for k, x in batch.items()
        }
        grads, metrics = grad_fn(train_state.params, part, part_rng)
        return rng, grads, metrics

    def add_part(i, carry):
        rng, total, metrics = carry
        rng, grads, part_metrics = grads_of_part(i, rng)
        metrics = jax.lax.cond(
            i == 0, lambda: part_metrics, lambda: merge_metrics(metrics, part_metrics)
        )
        return rng, jax.tree.map(jnp.add, total, grads), metrics

    _, _, metric_shapes = jax.eval_shape(grads_of_part, 0, dropout_rng)
    start = (
        dropout_rng,
        jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), train_state.params),
        jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metric_shapes),
    )
    _, grads, metrics = jax.lax.fori_loop(0, num_microbatches, add_part, start)
    return grads, metrics, None


def apply_grads(
    train_state: train_state_lib.FlaxOptimTrainState,
    grad_accum: Any,
    metrics: MetricsMap,
    learning_rate: jax.Array,
    weight_metrics_computer: None = None,
    other_state_variables: Mapping[str, Any] | None = None,
) -> tuple[train_state_lib.FlaxOptimTrainState, MetricsMap]:
    """One optimizer step. Adds the learning rate to `metrics`."""
    del weight_metrics_computer  # T5X has one; here it is always None
    new_state = train_state.apply_gradient(
        grad_accum, learning_rate=learning_rate, **(other_state_variables or {})
    )
    rate = jnp.asarray([learning_rate])
    metrics["learning_rate"] = clu_metrics.Average.from_model_output(rate)
    metrics["learning_rate/current"] = clu_metrics.LastValue.from_model_output(rate)
    return new_state, metrics


def train_with_lr(
    train_state: train_state_lib.FlaxOptimTrainState,
    batch: Batch,
    learning_rate: jax.Array,
    dropout_rng: jax.Array,
    model: models.BaseTransformerModel,
    num_microbatches: int | None,
    weight_metrics_computer: None = None,
    data_partition_spec: PartitionSpec = PartitionSpec("data"),
) -> tuple[train_state_lib.FlaxOptimTrainState, MetricsMap]:
    """One training step."""
    grads, metrics, _ = accumulate_grads_microbatched(
        model, train_state, batch, dropout_rng, num_microbatches, data_partition_spec
    )
    return apply_grads(
        train_state, grads, metrics, learning_rate, weight_metrics_computer
    )


class Trainer:
    """Runs compiled train and eval steps over batches."""

    @checked
    def __init__(
        self,
        model: models.BaseTransformerModel,
        train_state: train_state_lib.FlaxOptimTrainState,
        partitioner: partitioning.PjitPartitioner,
        eval_names: Sequence[str],
        summary_dir: str | None,
        train_state_axes: Any,
        rng: jax.Array,
        learning_rate_fn: Callable[[jax.Array], jax.Array],
        num_microbatches: Whole | None,
        weight_metrics_computer: None = None,
    ):
        """Constructs a trainer.

        Args:
            model: what to train.
            train_state: parameters and optimizer state, on the mesh, or their shapes.
            partitioner: compiles the steps.
            eval_names: names of the evaluations; the keys of `eval`'s argument.
            summary_dir: where TensorBoard files go, or None.
            train_state_axes: PartitionSpecs of the train state.
            rng: key; the step number is folded into it for the step's dropout.
            learning_rate_fn: step -> learning rate.
            num_microbatches: see `accumulate_grads_microbatched`.
            weight_metrics_computer: for T5X; must be None here.
        """
        self._model = model
        self.train_state = train_state
        self._partitioner = partitioner
        self._train_state_axes = train_state_axes
        self._base_rng = rng
        self._learning_rate_fn = learning_rate_fn
        self._num_microbatches = num_microbatches
        self._weight_metrics_computer = weight_metrics_computer
        self.stop_training = False
        self._compiled_train_step: Callable | None = None
        self._compiled_eval_steps: dict[str, Callable] = {}
        self.train_metrics_manager = MetricsManager("train", summary_dir)
        self.eval_metrics_managers = {
            name: MetricsManager(f"training_eval/{name}", summary_dir)
            for name in eval_names
        }

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def close(self) -> None:
        """Waits until all metrics are written."""
        for manager in [self.train_metrics_manager, *self.eval_metrics_managers.values()]:
            manager.close()

    def _get_step_rng(self, step: jax.Array) -> jax.Array:
        return jax.random.fold_in(self._base_rng, step)

    @functools.cached_property
    def _partitioned_train_step(self) -> Any:
        def train_step(train_state, batch):
            return train_with_lr(
                train_state,
                batch,
                learning_rate=self._learning_rate_fn(train_state.step),
                dropout_rng=self._get_step_rng(train_state.step),
                model=self._model,
                num_microbatches=self._num_microbatches,
                weight_metrics_computer=self._weight_metrics_computer,
                data_partition_spec=self._partitioner.data_partition_spec,
            )

        return self._partitioner.partition(
            train_step,
            in_axis_resources=(
                self._train_state_axes,
                self._partitioner.data_partition_spec,
            ),
            out_axis_resources=(self._train_state_axes, None),
            donate_argnums=(0,),
        )

    @functools.cached_property
    def _partitioned_eval_step(self) -> Any:
        return self._partitioner.partition(
            lambda state, batch: self._model.eval_fn(state.params, batch)[1],
            in_axis_resources=(
                self._train_state_axes,
                self._partitioner.data_partition_spec,
            ),
            out_axis_resources=None,
        )

    def compile_train(self, batch: Batch) -> None:
        """Compiles the train step for a batch's shapes; its values do not matter."""
        start = time.time()
        self._compiled_train_step = self._partitioner.compile(
            self._partitioned_train_step, self.train_state, batch
        )
        self.train_metrics_manager.write_scalar(
            "timing/compilation_seconds", time.time() - start, int(self.train_state.step)
        )

    def train(
        self, batch_iter: Iterator[Batch], num_steps: int, start_step: int | None = None
    ) -> concurrent.futures.Future:
        """Dispatches steps. Returns a future of their summary.

        There are `num_steps` of them, or less if `stop_training` is set meanwhile.

        Raises:
            ValueError: there are fewer batches.
        """
        step_fn = self._compiled_train_step or self._partitioned_train_step
        first = int(self.train_state.step) if start_step is None else start_step
        self.train_metrics_manager.start_duration_timer()
        metrics: MetricsMap = {}
        done = 0
        while done < num_steps and not (done and self.stop_training):
            batch = next(batch_iter, None)
            if batch is None:
                raise ValueError(
                    "the training data has ended: train.get_dataset_fn must give data "
                    "that repeats, or train.total_steps be no more than its batches"
                )
            self.train_state, update = step_fn(self.train_state, batch)
            metrics = merge_metrics(metrics, update) if metrics else update
            done += 1
        return self.train_metrics_manager.write_metrics_summary(
            metrics, first + done, done
        )

    def compile_eval(self, batches: Mapping[str, Batch]) -> None:
        """Compiles the eval step for the shapes of every evaluation's batch."""
        by_shape: dict[Any, Callable] = {}
        for name, batch in batches.items():
            key = tuple(sorted((k, x.shape, str(x.dtype)) for k, x in batch.items()))
            if key not in by_shape:
                by_shape[key] = self._partitioner.compile(
                    self._partitioned_eval_step, self.train_state, batch
                )
            self._compiled_eval_steps[name] = by_shape[key]

    def eval(self, batch_iters: Mapping[str, Iterable[Batch]]) -> dict[str, Summary]:
        """Evaluates every set of batches with teacher forcing.

        Raises:
            ValueError: there is no batch in one.
        """
        futures = {}
        for name, batches in batch_iters.items():
            manager = self.eval_metrics_managers[name]
            step_fn = self._compiled_eval_steps.get(name, self._partitioned_eval_step)
            manager.start_duration_timer()
            metrics: MetricsMap = {}
            num_steps = 0
            for batch in batches:
                update = step_fn(self.train_state, batch)
                metrics = merge_metrics(metrics, update) if metrics else update
                num_steps += 1
            if not num_steps:
                raise ValueError(
                    f"{name} gives no example to evaluate: set the split or the lengths "
                    "of train.train_eval_dataset_cfg, or set that to None"
                )
            futures[name] = manager.write_metrics_summary(
                metrics, int(self.train_state.step), num_steps
            )
        summaries = {name: future.result() for name, future in futures.items()}
        for name in summaries:  # a run that is killed does not repeat them
            self.eval_metrics_managers[name].summary_writer.flush()
        return summaries
