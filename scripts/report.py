"""Compares a guided run with its baseline: a table, and a picture of the curves.

Command: python scripts/report.py --baseline DIR --guided DIR --png FILE

DIR is a MODEL_DIR. The numbers come from its TensorBoard files, as T5X writes them:
train/, and training_eval/TASK/ for the development loss.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
import re
import statistics

# TensorFlow only opens files here: no log lines about its kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from matplotlib import figure
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

LOSS = "loss_per_nonpadding_target_token"
SPEED = "timing/steps_per_second"
_PREFIX = "hyperparams/"
_GREY, _BLUE = "#808080", "#1f5fa8"
_COLORS = ("#2a7f62", "#c2691c", "#7a4fa3", "#b03a48", "#5b7a1f", "#2b8c9b", "#96631f")

Curve = Mapping[int, float]  # step -> value, in order of steps


@dataclasses.dataclass(frozen=True)
class Run:
    """What is compared of a run.

    Attributes:
        task: name of the evaluated task.
        loss: development loss, per target token.
        hyperparams: name -> value, of those that the run learned.
        beta1: the momentum of a run that does not learn it, from its config.gin.
        seconds_per_step: median over the summaries after the first, or None.
    """

    task: str
    loss: Curve
    hyperparams: Mapping[str, Curve]
    beta1: str
    seconds_per_step: float | None


def read_curves(folder: pathlib.Path, tags: str) -> dict[str, Curve]:
    """Reads scalars from all TensorBoard files of a folder.

    A resumed run has several files. Of a step that two of them have, the later counts.

    Args:
        folder: has the files.
        tags: regular expression that the names of the scalars match.

    Returns:
        tag -> curve, of the tags that are there.

    Raises:
        SystemExit: no TensorBoard file.
    """
    files = sorted(folder.glob("*.tfevents.*"))
    if not files:
        raise SystemExit(f"report: no TensorBoard files in {folder}")
    events: dict[str, list] = {}
    for file in files:
        keep_all = {event_accumulator.TENSORS: 0}
        accumulator = event_accumulator.EventAccumulator(str(file), keep_all)
        accumulator.Reload()
        for tag in accumulator.Tags()["tensors"]:
            if re.fullmatch(tags, tag):
                events.setdefault(tag, []).extend(accumulator.Tensors(tag))
    curves: dict[str, Curve] = {}
    for tag, written in events.items():
        written.sort(key=lambda event: event.wall_time)
        last = {event.step: event.tensor_proto for event in written}
        curves[tag] = {s: tensor_util.make_ndarray(last[s]).item() for s in sorted(last)}
    return curves


def read_run(model_dir: pathlib.Path) -> Run:
    """Reads a run.

    Raises:
        SystemExit: files or evaluations are missing, or several tasks were evaluated.
    """
    train = read_curves(model_dir / "train", f"{SPEED}|{_PREFIX}.*")
    tasks = sorted((model_dir / "training_eval").glob("*/"))
    if len(tasks) != 1:
        names = ", ".join(t.name for t in tasks) or "none"
        raise SystemExit(
            f"report: {model_dir / 'training_eval'} must hold one evaluated task: {names}"
        )
    loss = read_curves(tasks[0], LOSS).get(LOSS)
    if not loss:
        raise SystemExit(f"report: no {LOSS} in {tasks[0]}: was the run evaluated?")
    config = (model_dir / "config.gin").read_text()
    beta1 = re.search("^BETA1 = (.*)$", config, re.M)
    # The first summary has the start of the input pipeline in it.
    seconds = [1 / speed for speed in list(train.get(SPEED, {}).values())[1:]]
    return Run(
        task=tasks[0].name,
        loss=loss,
        hyperparams={
            tag.removeprefix(_PREFIX): train[tag] for tag in sorted(train) if tag != SPEED
        },
        beta1=beta1.group(1).lower() if beta1 else "-",
        seconds_per_step=statistics.median(seconds) if seconds else None,
    )


def _last(curve: Curve) -> tuple[int, float]:
    return list(curve.items())[-1]


def _number(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-3 else f"{value:.2e}"


def first_step_at_or_below(curve: Curve, level: float) -> int | None:
    """The first step where a curve is at a level or under it, or None."""
    return next((step for step, value in curve.items() if value <= level), None)


def table(baseline: Run, guided: Run) -> str:
    """The comparison, as aligned text."""
    runs = (baseline, guided)
    goal = _last(baseline.loss)[1]
    reached = [first_step_at_or_below(run.loss, goal) for run in runs]
    rows = [
        ("steps", *(str(_last(run.loss)[0]) for run in runs)),
        ("final development loss", *(f"{_last(run.loss)[1]:.4f}" for run in runs)),
        (
            "steps to the baseline's final loss",
            *("not reached" if step is None else str(step) for step in reached),
        ),
    ]
    fixed = {"alpha": "1", "beta1": baseline.beta1}
    for name, curve in guided.hyperparams.items():
        rows += [
            (f"{name} at step {step}", fixed.get(name, "-"), _number(curve[step]))
            for step in dict.fromkeys((next(iter(curve)), _last(curve)[0]))
        ]
    times = (run.seconds_per_step for run in runs)
    rows.append(("seconds per step", *("-" if t is None else f"{t:.4f}" for t in times)))
    lines = [f"{a:<36}{b:>12}{c:>12}" for a, b, c in [("", "baseline", "guided"), *rows]]
    return "\n".join([f"Task {baseline.task}, loss per target token", *lines])


def draw(baseline: Run, guided: Run, png: pathlib.Path) -> None:
    """Draws the development losses, and the learned hyper-parameters, against steps."""
    fig = figure.Figure(figsize=(11, 4.4), dpi=100, layout="constrained")
    fig.suptitle(f"Training with and without guidance: {baseline.task}")
    left, right = fig.subplots(1, 2)

    def plot(axes, curve, color, style, label):
        steps, values = list(curve), list(curve.values())
        axes.plot(steps, values, style, color=color, label=label, markersize=4)

    plot(left, baseline.loss, _GREY, "o-", "baseline")
    plot(left, guided.loss, _BLUE, "o-", "guided")
    final_loss = _last(baseline.loss)[1]
    left.axhline(final_loss, color=_GREY, lw=1, ls=":", label="baseline at the end")
    left.set(title="Development loss", ylabel="loss per target token")

    for (name, curve), color in zip(guided.hyperparams.items(), _COLORS, strict=False):
        plot(right, curve, color, "-", name)
    right.axhline(1, color=_GREY, lw=1, ls=":", label="alpha of the baseline")
    right.set(title="Learned by the guided run", ylabel="value")
    right.set_ylim(bottom=0)

    for axes in (left, right):
        axes.set_xlabel("step")
        axes.set_xlim(left=0)
        axes.grid(color="#e6e6e6", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    png.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(png)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--guided", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--png", type=pathlib.Path, required=True, metavar="FILE")
    args = parser.parse_args(argv)

    baseline, guided = read_run(args.baseline), read_run(args.guided)
    if baseline.task != guided.task:
        raise SystemExit(
            f"report: the runs are evaluated on {baseline.task} and {guided.task}: "
            "their losses do not compare"
        )
    if not guided.hyperparams:
        raise SystemExit(f"report: {args.guided} has learned no hyper-parameter")
    print(table(baseline, guided))
    draw(baseline, guided, args.png)


if __name__ == "__main__":
    main()
