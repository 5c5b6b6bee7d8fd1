"""One line that says how training goes."""

from collections.abc import Mapping
import sys
from typing import Any

import tqdm

_LOSS = "loss_per_nonpadding_target_token"
_HYPERPARAMS = "hyperparams/"


def _describe(summary: Mapping[str, Any]) -> str:
    """Loss per target token, then every `hyperparams/NAME`."""
    parts = [f"loss {float(summary[_LOSS].value):.4f}"] if _LOSS in summary else []
    parts += [
        f"{name.removeprefix(_HYPERPARAMS)} {float(summary[name].value):.4g}"
        for name in sorted(summary)
        if name.startswith(_HYPERPARAMS)
    ]
    return "  ".join(parts)


class Progress:
    """A bar at a terminal, plain lines elsewhere; both on standard error.

    Both show the loss, the learned hyper-parameters, steps per second and time left.
    """

    def __init__(self, first_step: int, total_steps: int):
        self._at_terminal = sys.stderr.isatty()
        self._bar = tqdm.tqdm(
            initial=first_step,
            total=total_steps,
            unit="step",
            dynamic_ncols=True,
            disable=not self._at_terminal,
        )
        self._total = total_steps

    def train(self, step: int, summary: Mapping[str, Any]) -> None:
        """Shows the metrics of the steps up to `step`."""
        if self._at_terminal:
            self._bar.set_postfix_str(_describe(summary), refresh=False)
            self._bar.update(step - self._bar.n)
            return
        rate = float(summary["timing/steps_per_second"].value)
        left = tqdm.tqdm.format_interval((self._total - step) / rate)
        speed = f"{rate:.2f} steps/s  {left} left"
        self._say(f"step {step}/{self._total}  {_describe(summary)}  {speed}")

    def eval(self, step: int, name: str, summary: Mapping[str, Any]) -> None:
        """Shows the metrics of an evaluation."""
        self._say(
            f"step {step}/{self._total}  evaluation of {name}: {_describe(summary)}"
        )

    def _say(self, line: str) -> None:
        tqdm.tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
