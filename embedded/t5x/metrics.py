"""Metrics that know about steps and time, beside those of clu.

A metric is a pytree: the compiled step returns one per name, the trainer merges them
over steps, and fills in the number of steps and the seconds before it computes them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from clu import metrics as clu_metrics
import flax


@flax.struct.dataclass
class Sum(clu_metrics.Metric):
    """Total over all steps."""

    total: Any

    def merge(self, other):
        return type(self)(total=self.total + other.total)

    def compute(self):
        return self.total


@flax.struct.dataclass
class Step(clu_metrics.Metric):
    """A metric over a number of steps, which `replace_steps` sets."""

    steps: Any = 1

    def replace_steps(self, steps: int):
        return self.replace(steps=steps)

    def compute(self):
        return self.steps


@flax.struct.dataclass
class AveragePerStep(Step):
    """Total over all steps, divided by the number of steps."""

    total: Any = None

    def merge(self, other):
        return type(self)(total=self.total + other.total, steps=self.steps + other.steps)

    def compute(self):
        return self.total / self.steps


@flax.struct.dataclass
class Time(clu_metrics.Metric):
    """Seconds, which `replace_duration` sets."""

    duration: Any = None

    def merge(self, other):
        return self

    def compute(self):
        if self.duration is None:
            raise ValueError("a time metric needs replace_duration before compute")
        return self.duration

    def replace_duration(self, duration: float):
        return self.replace(duration=duration)


@flax.struct.dataclass
class TimeRate(Time):
    """A count per second."""

    numerator: Any = None

    def merge(self, other):
        return type(self)(numerator=self.numerator + other.numerator)

    def compute(self):
        return self.numerator / super().compute()


@flax.struct.dataclass
class StepsPerTime(Step, Time):
    """Steps per second."""

    @classmethod
    def from_model_output(cls, steps=1, **_):
        return cls(steps=steps)

    def merge(self, other):
        return type(self)(steps=self.steps + other.steps)

    def compute(self):
        return self.steps / Time.compute(self)


def set_time_metrics_duration(
    metrics: Mapping[str, clu_metrics.Metric], duration: float
) -> dict[str, clu_metrics.Metric]:
    """Sets the seconds of every time metric."""
    return _map(lambda m: m.replace_duration(duration), metrics, Time)


def set_step_metrics_num_steps(
    metrics: Mapping[str, clu_metrics.Metric], num_steps: int
) -> dict[str, clu_metrics.Metric]:
    """Sets the number of steps of every step metric."""
    return _map(lambda m: m.replace_steps(num_steps), metrics, Step)


def _map(fn: Callable, metrics: Mapping[str, Any], kind: type) -> dict[str, Any]:
    return {k: fn(m) if isinstance(m, kind) else m for k, m in metrics.items()}
