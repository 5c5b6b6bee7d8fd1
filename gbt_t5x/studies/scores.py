"""The paper's Tables 3, 6 and 7, from the evaluations of fine-tuned models.

    python -m gbt_t5x.studies.scores [LABEL=]DIR ...

A DIR holds the runs of one model, and is one column of the tables. Every folder below it
with a file `TASK-metrics.jsonl`, which T5X's training and evaluation write to
`inference_eval`, is a repeat of that task.

Table 6 has every metric, its maximum over repeats; Table 7 the mean; a further table the
sample standard deviation (n - 1), which the paper leaves out. Metrics are rows, so that
tables fit a terminal. A task is the mean of its metrics, a suite the average of its tasks
(Appendix C.3.3): in Table 7 of their means, in Tables 3 and 6 of their maxima.

What is missing is a dash, as is the average of a suite that lacks a task, which stderr
names. Tasks that are in no suite make one more, `other`.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import json
import math
import re
import statistics
import sys

from etils import epath

from gbt_t5x.studies import commands, repeats, suites, tables
from gbt_t5x.studies.suites import Metric, Task

Values = list[float]  # of repeats
_SUFFIX = "-metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class Model:
    """A model's evaluations: (task, metric key) -> values of its repeats."""

    label: str
    values: Mapping[tuple[str, str], Values]

    def of(self, metric: Metric) -> Values:
        """The values of a metric, none if it was not found."""
        return self.values.get((metric.task, metric.key), [])


def read_model(argument: str, best: bool = False) -> Model:
    """Reads a model's evaluations.

    Args:
        argument: `DIR` or `LABEL=DIR`.
        best: whether the step with the highest mean of the task's metrics counts, as for
            T5, and not the last.

    Raises:
        ValueError: no such folder, no metrics in it, or a line that is not JSON.
    """
    label, folder = commands.labelled(argument)
    path = epath.Path(folder)
    files = list(_files(path)) if path.is_dir() else []
    if not files:
        what = "no metrics of evaluations in" if path.exists() else "no folder"
        raise ValueError(
            f"{what} {folder}: name a MODEL_DIR, an EVAL_OUTPUT_DIR, or a folder of them"
        )
    values: dict[tuple[str, str], Values] = {}
    steps: dict[str, dict[epath.Path, int]] = {}
    for file in files:
        task = suites.canonical(file.name.removesuffix(_SUFFIX))
        step, metrics = _metrics(file, best)
        steps.setdefault(task, {})[file] = step
        for key, value in metrics.items():
            values.setdefault((task, key), []).append(value)
    for task, found in steps.items():
        _check_apart(task, [*found])
        if len(set(found.values())) > 1 and not best:
            listed = ", ".join(map(str, found.values()))
            commands.say(f"{label}: the last steps of {task} are {listed}")
    return Model(label, values)


def _check_apart(task: str, files: Sequence[epath.Path]) -> None:
    """Raises ValueError if one run has two files of a task: they are no repeats."""
    folders: dict[epath.Path, epath.Path] = {}
    for file in files:
        other = folders.setdefault(file.parent.parent, file)
        if other.parent == file.parent and other != file:
            raise ValueError(
                f"{other} and {file} are of one run, and not repeats of {task}: "
                "remove one of them"
            )
    for folder, file in folders.items():
        for above in folder.parents:
            if above in folders:
                raise ValueError(
                    f"{folders[above]} and {file} are of one run, and not repeats of "
                    f"{task}: name the folders of one of them"
                )


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    """Files of metrics, in order of path. Checkpoints hold none."""
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_SUFFIX):
            yield path
        elif not re.fullmatch(r"checkpoint_\d+", path.name) and path.is_dir():
            yield from _files(path)


def _metrics(file: epath.Path, best: bool) -> tuple[int, dict[str, float]]:
    """The last or the best step, and metric key -> value there."""
    steps: dict[int, dict[str, float]] = {}  # a step evaluated again counts once
    for number, line in enumerate(file.read_text().splitlines(), 1):
        try:
            found = json.loads(line)
            step = int(found.pop("step"))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{file}, line {number}: not metrics of a step: {line[:80]!r}"
            ) from error
        steps[step] = {k: float(v) for k, v in found.items() if _is_number(v)}
    if not steps:
        raise ValueError(f"{file} is empty: evaluate again, or remove it")
    step = max(steps, key=lambda s: _task_mean(steps[s])) if best else max(steps)
    return step, steps[step]


def _task_mean(metrics: Mapping[str, float]) -> float:
    """What --best compares. A step with a NaN is never the best of several."""
    mean = statistics.fmean(metrics.values() or [0.0])
    return -math.inf if math.isnan(mean) else mean


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


Cell = float | None
Reduce = Callable[[Sequence[float]], Cell]
Row = tuple[str, list[Cell]]  # heading, and the value of every run


def _maximum(values: Sequence[float]) -> float:
    """The maximum; NaN, as of a correlation with a constant, if any value is."""
    return max(values, key=lambda value: (math.isnan(value), value))


_REDUCE: dict[str, Reduce] = {
    "6": _maximum,
    "7": statistics.fmean,
    "std": repeats.sample_std,
    "repeats": lambda values: float(len(values)),
}
TITLES = {
    "3": "Table 3: tasks, maximum over repeats",
    "6": "Table 6: metrics, maximum over repeats",
    "7": "Table 7: metrics, mean over repeats",
    "std": "Standard deviation over repeats",
    "repeats": "Number of repeats",
}


def _mean(cells: Sequence[Cell]) -> Cell:
    """The mean, unless something is missing."""
    known = [cell for cell in cells if cell is not None]
    return statistics.fmean(known) if known and len(known) == len(cells) else None


def _of_metric(run: Model, metric: Metric, reduce: Reduce) -> Cell:
    values = run.of(metric)
    return reduce(values) if values else None


def _of_task(run: Model, task: Task, reduce: Reduce) -> Cell:
    return _mean([_of_metric(run, metric, reduce) for metric in task.metrics])


def _average(run: Model, tasks: Sequence[Task], table: str) -> Cell:
    """Of a suite: the mean of its tasks; its deviation is that of every repeat's mean."""
    if table in ("6", "7"):
        return _mean([_of_task(run, task, _REDUCE[table]) for task in tasks])
    numbers = {len(run.of(metric)) for task in tasks for metric in task.metrics}
    if len(numbers) != 1 or 0 in numbers:
        return None
    means = [
        statistics.fmean(
            statistics.fmean(run.of(metric)[i] for metric in task.metrics)
            for task in tasks
        )
        for i in range(numbers.pop())
    ]
    return _REDUCE[table](means)


def _suites(runs: Sequence[Model]) -> dict[str, tuple[Task, ...]]:
    """The suites that any run has something of, and the tasks that are in none."""
    known = {m.task for tasks in suites.SUITES.values() for t in tasks for m in t.metrics}
    other: dict[str, list[str]] = {}
    for task, key in sorted({key for run in runs for key in run.values}):
        if task not in known:
            other.setdefault(task, []).append(key)
    found = {
        name: tasks
        for name, tasks in suites.SUITES.items()
        if any(run.of(m) for run in runs for t in tasks for m in t.metrics)
    }
    if other:
        found["other"] = tuple(
            Task(task, tuple(Metric(key, task, key) for key in keys))
            for task, keys in other.items()
        )
    return found


def make_table(runs: Sequence[Model], table: str) -> dict[str, list[Row]]:
    """Suite -> rows, the last of which is the suite's average.

    Args:
        runs: the columns.
        table: a key of TITLES.
    """
    table_of = {}
    for name, tasks in _suites(runs).items():
        rows: list[Row] = []
        if table == "3":
            if name == "SQuAD":
                continue
            rows = [(t.name, [_of_task(run, t, _maximum) for run in runs]) for t in tasks]
        else:
            rows = [
                (
                    f"{task.name} {metric.heading}",
                    [_of_metric(run, metric, _REDUCE[table]) for run in runs],
                )
                for task in tasks
                for metric in task.metrics
            ]
        of = "6" if table == "3" else table
        if len(tasks) > 1:
            rows.append(("average", [_average(run, tasks, of) for run in runs]))
        table_of[name] = rows
    return table_of


def _missing(runs: Sequence[Model]) -> Iterator[str]:
    for name, tasks in _suites(runs).items():
        for run in runs:
            lacks = [
                f"{task.name} {metric.heading}"
                for task in tasks
                for metric in task.metrics
                if not run.of(metric)
            ]
            if lacks:
                yield f"{run.label} has no average of {name}: it lacks {', '.join(lacks)}"


def _text(cell: Cell, table: str) -> str:
    if cell is None:
        return "-"
    return f"{cell:.0f}" if table == "repeats" else f"{cell:.1f}"


def format_table(runs: Sequence[Model], table: str, style: str) -> str:
    """A table as text.

    Args:
        runs: the columns.
        table: a key of TITLES.
        style: one of `tables.STYLES`; CSV has the table in a column of its own.
    """
    rows = [
        [suite, heading, *(_text(cell, table) for cell in cells)]
        for suite, rows in make_table(runs, table).items()
        for heading, cells in rows
    ]
    header = ["suite", "metric" if table != "3" else "task", *(run.label for run in runs)]
    if style == "csv":
        header, rows = ["table", *header], [[table, *row] for row in rows]
    return tables.render(header, rows, style, title=TITLES[table], left=2)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = commands.parser(
        "scores",
        "Prints the paper's Tables 3, 6 and 7, from evaluations of T5X. A DIR holds the\n"
        "runs of one model; every folder of a task below it is a repeat.",
        "runs/finetuned/baseline ours=runs/finetuned/guided --table 7",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="[LABEL=]DIR", help="the runs of a model, a column"
    )
    parser.add_argument(
        "--table", action="append", choices=TITLES, help="may be repeated; default: all"
    )
    commands.add_format(parser, "markdown", "text", "csv", "latex")
    parser.add_argument(
        "--best",
        action="store_true",
        help="of an evaluation's steps the best counts, as for T5, and not the last",
    )
    commands.run(_main, parser.parse_intermixed_args(arguments))


def _main(options: argparse.Namespace) -> None:
    commands.all_labelled(options.runs)
    runs = [read_model(run, options.best) for run in options.runs]
    chosen = options.table or TITLES
    print("\n".join(format_table(runs, t, options.format) for t in chosen), end="")
    for line in _missing(runs):
        print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
