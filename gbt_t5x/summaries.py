"""What is logged of λ, and the end of a run that cannot learn it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
import operator
from typing import Any

from clu import metrics as clu_metrics
import flax
import jax
import jax.numpy as jnp
import numpy as np
from t5x import metrics as t5x_metrics, trainer

from gbt_t5x import checks, hyperparams, tags

_GUIDANCE_METRICS = ("loss", tags.LOSS, "accuracy")
_SKIPPED = "guidance/skipped"
_RANGE = {tags.LOWEST: np.min, tags.MEDIAN: np.median, tags.HIGHEST: np.max}


@flax.struct.dataclass
class _MeanOfMetaUpdates(clu_metrics.Average):
    """The mean over the steps that moved λ; NaN if there were none."""

    def compute(self):
        return np.where(self.count > 0, self.total / np.maximum(self.count, 1), np.nan)


@flax.struct.dataclass
class _Skipped(clu_metrics.Metric):
    """How many meta-updates were skipped.

    Attributes:
        total: (), of all steps.
        in_a_row: (), since the last meta-update that was not.
        learned: (), whether there was one.
    """

    total: jax.Array
    in_a_row: jax.Array
    learned: jax.Array

    def merge(self, other):
        in_a_row = jnp.where(other.learned, 0, self.in_a_row) + other.in_a_row
        return type(self)(
            self.total + other.total, in_a_row, self.learned | other.learned
        )

    def compute(self):
        return self.total


def of_step(
    raw: Mapping[str, Any], at_bound: jax.Array, learning_rate: jax.Array
) -> dict[str, Any]:
    """The metrics of every step: the λ that it used, and how many were at a bound.

    Args:
        raw: name -> raw λ, (); with groups, (groups,).
        at_bound: (), see `GuidedOptimizer.at_bound`.
        learning_rate: (), the schedule's.
    """
    values = hyperparams.values(raw)
    scalars = {f"{tags.HYPERPARAMS}{name}": x for name, x in values.items()}
    scalars["guidance/at_bound"] = at_bound
    scalars[tags.EFFECTIVE] = learning_rate * values.get("alpha", 1.0)
    return {name: clu_metrics.LastValue(x, jnp.ones(())) for name, x in scalars.items()}


def of_meta_update(
    hypergradients: Mapping[str, Any],
    skipped: jax.Array,
    guidance_metrics: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The metrics of the steps that move λ, or would have.

    Args:
        hypergradients: name -> ĝ.
        skipped: whether λ stayed as it was.
        guidance_metrics: of the guidance batch.
    """
    guidance_metrics = t5x_metrics.set_step_metrics_num_steps(guidance_metrics or {}, 1)
    scalars = {f"hypergradient/{name}": x for name, x in hypergradients.items()} | {
        f"guidance/{name}": guidance_metrics[name].compute()
        for name in _GUIDANCE_METRICS
        if name in guidance_metrics
    }
    count = jnp.where(skipped, 0.0, 1.0)
    number = skipped.astype(jnp.int32)
    return {
        name: _MeanOfMetaUpdates(jnp.where(skipped, 0.0, x), count)
        for name, x in scalars.items()
    } | {_SKIPPED: _Skipped(number, number, ~skipped)}


def of_no_meta_update(
    raw: Mapping[str, Any], train_metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """The metrics of a step between meta-updates: those of `of_meta_update`, all 0.

    Args:
        raw: name -> raw λ, of ĝ's shapes.
        train_metrics: of the training batch, which has those of a guidance batch.
    """
    like = of_meta_update(raw, jnp.bool_(True), train_metrics)
    return jax.tree.map(jnp.zeros_like, like)


@flax.struct.dataclass
class _OfGroups(clu_metrics.Metric):
    """One number of a metric's numbers, of all groups."""

    metric: clu_metrics.Metric
    function: Callable[[np.ndarray], Any] = flax.struct.field(pytree_node=False)

    def compute(self):
        return self.function(np.asarray(self.metric.compute()))


def _split(
    metrics: Mapping[str, Any], groups: Sequence[str]
) -> Iterator[tuple[str, clu_metrics.Metric]]:
    """Name and metric of each number."""
    for name, metric in metrics.items():
        if not groups or not jnp.ndim(getattr(metric, "total", 0.0)):
            yield name, metric
            continue
        for i, group in enumerate(groups):
            yield f"{name}/{group}", _OfGroups(metric, operator.itemgetter(i))
        has_range = name.startswith(tags.HYPERPARAMS) or name == tags.EFFECTIVE
        if has_range and len(groups) > tags.MOST_LINES:
            for which, function in _RANGE.items():
                yield tags.of_range(name, which), _OfGroups(metric, function)


class GuidedMetricsManager:
    """A metrics manager that knows of groups, and of meta-updates that were skipped.

    The numbers of all groups are one array until they are on the host.
    """

    def __init__(
        self, manager: trainer.MetricsManager, groups: Sequence[str], max_skipped: int
    ):
        """Wraps a manager.

        Args:
            manager: writes the summaries.
            groups: names of the groups, if there are any.
            max_skipped: so many meta-updates skipped in a row end the run.

        Raises:
            ValueError: max_skipped is below 1.
        """
        checks.check_count("MAX_SKIPPED", max_skipped)
        self._manager = manager
        self._groups = groups
        self._max_skipped = max_skipped
        self._in_a_row = 0
        self._ended: ValueError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def write_metrics_summary(
        self, metrics: Mapping[str, Any], step: int, num_steps: int
    ) -> concurrent.futures.Future:
        """Writes the metrics of steps; NAME, of an array, becomes NAME/GROUP.

        Of λ and the effective learning rate of many groups, the range is written too.

        Returns:
            A future of the summary. It raises ValueError if the last `max_skipped`
            meta-updates were all skipped.

        Raises:
            ValueError: a summary before found so. T5X reads futures when it saves.
        """
        if self._ended:
            raise self._ended
        checked: concurrent.futures.Future = concurrent.futures.Future()

        def check(written: concurrent.futures.Future) -> None:
            try:
                self._check(metrics, step)
                checked.set_result(written.result())
            except BaseException as error:
                checked.set_exception(error)

        split = dict(_split(metrics, self._groups))
        future = self._manager.write_metrics_summary(split, step, num_steps)
        future.add_done_callback(check)
        return checked

    def _check(self, metrics: Mapping[str, Any], step: int) -> None:
        """Counts what was skipped; called in the order of the summaries."""
        skipped = jax.device_get(metrics[_SKIPPED])
        self._in_a_row *= not skipped.learned
        self._in_a_row += int(skipped.in_a_row)
        if self._in_a_row < self._max_skipped:
            return
        values = ", ".join(
            f"{name.removeprefix(tags.HYPERPARAMS)} {_range(metric.compute())}"
            for name, metric in jax.device_get(dict(metrics)).items()
            if name.startswith(tags.HYPERPARAMS)
        )
        self._ended = ValueError(
            f"step {step}: each of the last {self._in_a_row} hypergradients, or its "
            f"guidance loss, is not finite, and MAX_SKIPPED={self._max_skipped}. λ is "
            f"where it was: {values}. Look at the guidance data, lower the learning rate "
            "or META_LEARNING_RATE, or set MAX_SKIPPED higher to train on with this λ"
        )
        raise self._ended


def _range(values: Any) -> str:
    """A number, or the lowest and highest of the groups."""
    low, high = np.min(values), np.max(values)
    return f"{low:.6g}" if np.ndim(values) == 0 else f"{low:.6g} to {high:.6g}"
