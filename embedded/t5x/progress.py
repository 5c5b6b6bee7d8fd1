"""Lines that say how training and decoding go."""

from collections.abc import Mapping
import sys
import time
from typing import Any

import numpy as np
import tqdm

_LOSS = "loss_per_nonpadding_target_token"
_HYPERPARAMS = "hyperparams/"
_SECONDS_BETWEEN_LINES = 10.0


def _describe(summary: Mapping[str, Any]) -> str:
    """Loss per target token, then every `hyperparams/NAME`; the range of its groups."""
    parts = [f"loss {float(summary[_LOSS].value):.4f}"] if _LOSS in summary else []
    learned: dict[str, list[float]] = {}
    for name in sorted(summary):
        if name.startswith(_HYPERPARAMS):
            hyperparam = name.split("/")[1]
            learned.setdefault(hyperparam, []).append(float(summary[name].value))
    for name, values in learned.items():
        low, high = min(values), max(values)
        upper = f" to {high:.4g}" if len(values) > 1 else ""
        parts.append(f"{name} {low:.4g}{upper}")
    return "  ".join(parts)


def say(line: str) -> None:
    """Writes a line to standard error, above a bar if there is one."""
    tqdm.tqdm.write(line, file=sys.stderr)


def say_metrics(step: int, metrics_of_tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Shows what a seqio.Evaluator computed: task -> metric -> number or clu value."""
    for task, metrics in metrics_of_tasks.items():
        values = {name: getattr(value, "value", value) for name, value in metrics.items()}
        numbers = "  ".join(
            f"{name} {float(value):.4g}"
            for name, value in values.items()
            if np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.number)
        )
        say(f"step {step}  inference evaluation of {task}: {numbers}")


def _bar(done: int, total: int, unit: str, leave: bool = True) -> tqdm.tqdm:
    """A bar on standard error, with `disable` set unless that is a terminal."""
    return tqdm.tqdm(
        initial=done,
        total=total,
        unit=unit,
        leave=leave,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )


class Progress:
    """A bar at a terminal, plain lines elsewhere; both on standard error.

    Both show the loss, the learned hyper-parameters, steps per second and time left.
    """

    def __init__(self, first_step: int, total_steps: int):
        self._bar = _bar(first_step, total_steps, "step")
        self._total = total_steps

    def train(self, step: int, summary: Mapping[str, Any]) -> None:
        """Shows the metrics of the steps up to `step`."""
        if not self._bar.disable:
            self._bar.set_postfix_str(_describe(summary), refresh=False)
            self._bar.update(step - self._bar.n)
            return
        rate = float(summary["timing/steps_per_second"].value)
        left = tqdm.tqdm.format_interval((self._total - step) / rate)
        speed = f"{rate:.2f} steps/s  {left} left"
        say(f"step {step}/{self._total}  {_describe(summary)}  {speed}")

    def eval(self, step: int, name: str, summary: Mapping[str, Any]) -> None:
        """Shows the metrics of an evaluation."""
        say(f"step {step}/{self._total}  evaluation of {name}: {_describe(summary)}")

    def close(self) -> None:
        self._bar.close()


class Decoding:
    """Examples done, examples per second and time left: a bar at a terminal, else lines.

    The first line appears with the first batch, whose time is mostly compilation; the
    others at least ten seconds apart, and the last one at the end.
    """

    def __init__(self, total: int, done: int = 0):
        """Of `total` examples, `done` were done before."""
        self._bar = _bar(done, total, "example", leave=False)
        self._total, self._first, self._done = total, done, done
        self._started, self._last_line = time.monotonic(), -_SECONDS_BETWEEN_LINES

    def update(self, examples: int) -> None:
        """Counts more examples as done."""
        self._done += examples
        if not self._bar.disable:
            self._bar.update(examples)
            return
        now = time.monotonic()
        waited = now - self._last_line >= _SECONDS_BETWEEN_LINES
        if not waited and self._done < self._total:
            return
        self._last_line = now
        rate = (self._done - self._first) / max(now - self._started, 1e-9)
        left = tqdm.tqdm.format_interval((self._total - self._done) / rate)
        done = f"decoded {self._done}/{self._total} examples"
        say(f"{done}  {rate:.2f} examples/s  {left} left")

    def close(self) -> None:
        self._bar.close()
