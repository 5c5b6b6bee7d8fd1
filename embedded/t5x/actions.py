"""What looks at the metrics while a run trains, and may stop it."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from clu import values
import numpy as np

MetricsByTask = Mapping[str, Mapping[str, Any]]


class BaseAction(abc.ABC):
    """An action; `train_script.train.actions` binds them."""

    @abc.abstractmethod
    def run(self, train_state: Any, metrics_by_task: MetricsByTask) -> bool:
        """Whether training should stop, by metrics: task -> name -> clu value."""


class TerminateOnNanAction(BaseAction):
    """Stops a run when a metric of a task is not finite; training is task 'train'."""

    def __init__(self, task: str, metric: str = "loss"):
        self._task, self._metric = task, metric

    def run(self, train_state: Any, metrics_by_task: MetricsByTask) -> bool:
        metric = metrics_by_task.get(self._task, {}).get(self._metric)
        if not isinstance(metric, values.Scalar):
            logging.warning("%s has no number %s to watch", self._task, self._metric)
            return False
        return not np.isfinite(metric.value)


class Actions:
    """The actions after each kind of metrics: TRAIN, TRAIN_EVAL and INFER_EVAL."""

    def __init__(self, by_mode: Mapping[str, Sequence[BaseAction]] | None):
        """Raises ValueError for another kind."""
        self._by_mode = by_mode or {}
        if unknown := set(self._by_mode) - {"TRAIN", "TRAIN_EVAL", "INFER_EVAL"}:
            raise ValueError(
                f"train.actions has {sorted(unknown)}: its keys can be TRAIN, TRAIN_EVAL "
                "and INFER_EVAL"
            )

    def __contains__(self, mode: str) -> bool:
        return bool(self._by_mode.get(mode))

    def run(self, mode: str, trainer: Any, metrics_by_task: MetricsByTask) -> None:
        """Runs those of a mode, and sets `stop_training` if one of them says so."""
        for action in self._by_mode.get(mode, ()):
            # A signal that comes meanwhile sets it too.
            if action.run(trainer.train_state, metrics_by_task):
                trainer.stop_training = True
