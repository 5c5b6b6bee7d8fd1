"""Tunes a configuration by Bayesian optimisation, the search that guidance is to spare.

A folder has `search.json`, which says what is searched and which points were tried, and
the runs, `trials/NUMBER/SEED`. What is done is not repeated: the same command with more
--trials goes on. As many points are tried at once as there are --jobs, and the next ones
follow from all before, so a search is reproducible for one number of jobs.

A trial's objective is its development loss at the end. One that diverged, or failed, is a
trial too, worse than all others, and says so. To the search one that failed by no
divergence, which says nothing of its point, is neither good nor bad.
"""

import argparse
from collections.abc import Mapping, Sequence
import csv
import dataclasses
import itertools
import json
import math
import pathlib
from typing import Any

from gbt_t5x.studies import commands, launch, macros, processes, runs, spaces, tables

STORE = "search.json"
_SHOWN = 10  # trials of the table


@dataclasses.dataclass(frozen=True)
class Question:
    """What is searched.

    Attributes:
        gin_files: as of `--gin_file`.
        bindings: of all trials, as `NAME = VALUE`.
        space: the settings to find.
        seed: RANDOM_SEED of the trials, and the search's own.
    """

    gin_files: Sequence[str]
    bindings: Sequence[str]
    space: Sequence[spaces.Setting]
    seed: int = 0

    def variant(self, number: int, values: spaces.Values) -> launch.Variant:
        """The run that tries a point; numbers count from 1."""
        bindings = [*self.bindings, *spaces.bindings(values)]
        return launch.Variant(f"{number:03d}", self.gin_files, bindings)

    def as_json(self) -> dict[str, Any]:
        """What a store says of it."""
        return {
            "gin_files": [*self.gin_files],
            "gin": macros.digest(tuple(self.gin_files)),
            "bindings": [*self.bindings],
            "space": {setting.name: str(setting) for setting in self.space},
            "seed": self.seed,
        }


@dataclasses.dataclass(frozen=True)
class Trial:
    """A point that was tried.

    Attributes:
        number: in the order in which they were begun, from 1.
        values: the point.
        loss: the objective; infinite if the run failed.
        seconds: what the run took.
        problem: what went wrong; '' if nothing did.
        model_dir: the run.
    """

    number: int
    values: spaces.Values
    loss: float
    seconds: float
    problem: str
    model_dir: pathlib.Path

    @property
    def is_broken(self) -> bool:
        """Whether it failed, and not since it diverged."""
        return bool(self.problem) and not launch.is_divergence(self.problem)


def search(
    question: Question, folder: pathlib.Path, *, trials: int, jobs: int = 1
) -> list[Trial]:
    """Tries points until there are so many trials, and says on stderr how it goes.

    Args:
        question: what is searched.
        folder: of this search alone.
        trials: how many, with those that are there.
        jobs: runs at once.

    Returns:
        All that are in the folder, in their order.

    Raises:
        ValueError: the folder is of another search, or another command works there; no
            setting is searched; or all trials so far failed, and not since they diverged.
    """
    if not question.space or trials < 1:
        raise ValueError(
            f"{len(question.space)} settings and {trials} trials: a search needs at "
            "least one of each"
        )
    with processes.alone(folder):
        return _search(question, folder, trials, jobs)


def _search(
    question: Question, folder: pathlib.Path, trials: int, jobs: int
) -> list[Trial]:
    points = _read_points(folder / STORE, question)
    found: list[Trial] = []
    progress = commands.Progress(max(trials, len(points)), "trials", jobs)

    def run(some: Sequence[spaces.Values]) -> None:
        numbered = enumerate(some, len(found) + 1)
        variants = [question.variant(number, values) for number, values in numbered]
        failures: dict[pathlib.Path, str] = {}
        trained = launch.train(
            variants,
            folder / "trials",
            seeds=[question.seed],
            jobs=jobs,
            failures=failures,
            progress=progress,
        )
        for variant, values in zip(variants, some, strict=True):
            (model_dir,) = trained[variant.name]
            problem = failures.get(model_dir, "")
            found.append(_trial(len(found) + 1, values, model_dir, problem))
        if all(trial.is_broken for trial in found):
            raise _all_failed(found)  # by no fault of the points

    if points:
        run(points)
    while len(points) < trials:
        some: list[spaces.Values] = []
        known = [(trial.values, trial.loss) for trial in found if not trial.is_broken]
        broken = [trial.values for trial in found if trial.is_broken]
        for _ in range(min(jobs, trials - len(points))):
            pending = [*broken, *some]
            some.append(spaces.suggest(question.space, known, pending, question.seed))
        points += some
        launch.write_json(folder / STORE, question.as_json() | {"points": points})
        run(some)
    return found


def best(trials: Sequence[Trial]) -> Trial:
    """The one of the lowest loss, the earlier of equals.

    Raises:
        ValueError: all failed.
    """
    lowest = min(trials, key=lambda trial: trial.loss)
    if not math.isfinite(lowest.loss):
        raise _all_failed(trials)
    return lowest


def _all_failed(trials: Sequence[Trial]) -> ValueError:
    return ValueError(
        f"all {len(trials)} trials failed, the first one by: {trials[0].problem}"
    )


def _trial(
    number: int, values: spaces.Values, model_dir: pathlib.Path, problem: str
) -> Trial:
    loss = math.inf
    if not problem:
        loss = runs.last_value(runs.read_finished_run(model_dir).loss)
        if not math.isfinite(loss):
            loss, problem = math.inf, "the final development loss is not finite"
    seconds = launch.seconds(model_dir)
    return Trial(number, values, loss, seconds, problem, model_dir)


def _read_points(file: pathlib.Path, question: Question) -> list[Mapping[str, float]]:
    """The points of a store, which begins if there is none."""
    if not file.exists():
        if file.parent.is_dir() and any(file.parent.iterdir()):
            raise ValueError(
                f"{file.parent} has files, and no {STORE} of a search: name another "
                "--folder, or remove it"
            )
        return []
    try:
        there = json.loads(file.read_text())
        points = there.pop("points")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no store of a search: {error}") from error
    here = question.as_json()
    for name in here:
        if name == "gin" and name not in there:
            continue  # what its gin files said is not known
        # As text: in another order of the settings the points would be others.
        if json.dumps(there.get(name)) != json.dumps(here[name]):
            raise ValueError(
                f"{file.parent} is of another search: its {name} is "
                f"{json.dumps(there.get(name))}, of this one {json.dumps(here[name])}: "
                "name another --folder, or remove it"
            )
    names = {setting.name for setting in question.space}
    for point in points if isinstance(points, list) else [points]:
        if (
            not isinstance(point, dict)
            or point.keys() != names
            or not all(isinstance(value, (int, float)) for value in point.values())
        ):
            raise ValueError(
                f"{file} has the point {json.dumps(point)}, and this search has numbers "
                f"of {', '.join(sorted(names))}: remove {file.parent}"
            )
    return points


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = commands.parser(
        "search",
        "Tunes a configuration by Bayesian optimisation with a Gaussian process: the\n"
        "development loss at the end, over the macros that --search names. A SCALE is\n"
        "log, logit or linear. Trials that are done are not repeated: the same command\n"
        "with more --trials goes on.",
        "gbt_t5x/gin/quickstart_guided.gin --gin.TRAIN_STEPS=300 --trials 16 \\\n"
        "      --search META_LEARNING_RATE=log:1e-4:1e-1 --search BETA1=logit:0.1:0.99",
    )
    parser.add_argument("gin_files", nargs="+", metavar="GIN_FILE")
    parser.add_argument(
        "--search",
        action="append",
        required=True,
        metavar="NAME=SCALE:LOW:HIGH",
        help="a macro to find, and where; may be repeated",
    )
    parser.add_argument(
        "--trials",
        type=commands.number(int),
        default=100,
        metavar="N",
        help="default: 100",
    )
    parser.add_argument(
        "--seed",
        type=commands.number(int, above=-1),
        default=0,
        metavar="N",
        help="default: 0",
    )
    launch.add_options(parser, "runs/search", seeds=False)
    commands.add_figure(parser, "search.png in the folder")
    commands.add_format(parser, *tables.STYLES)
    commands.run(_main, *commands.parse_with_gin(parser, argv))


def _main(options: argparse.Namespace, bindings: Sequence[str]) -> None:
    named = [text.partition("=") for text in options.search]
    names = [name for name, _, _ in named]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"--search names {', '.join(twice)} more than once")
    space = [spaces.Setting.parse(name, scale) for name, _, scale in named]
    folder = pathlib.Path(options.folder or "runs/search")
    question = Question(options.gin_files, bindings, space, options.seed)
    found = search(question, folder, trials=options.trials, jobs=options.jobs)
    write(found, folder / "search.csv")
    print(table(found, options.format), end="")
    draw(found, space, options.figure or folder / "search.png")


def table(trials: Sequence[Trial], style: str = "text") -> str:
    """The best trials, as one of `tables.STYLES`."""
    order = sorted(trials, key=lambda trial: trial.loss)
    failed = sum(bool(trial.problem) for trial in trials)
    shown = "all" if len(trials) <= _SHOWN else f"the best {_SHOWN}"
    title = f"{len(trials)} trials, {failed} of which failed; {shown}"
    names = [*trials[0].values]
    rows = [
        [str(t.number), *(f"{t.values[name]:g}" for name in names), _loss(t)]
        for t in order[:_SHOWN]
    ]
    header = ["trial", *names, "final development loss"]
    return tables.render(header, rows, style, title=title)


def _loss(trial: Trial) -> str:
    return f"{trial.loss:.4f}" if math.isfinite(trial.loss) else "failed"


def write(trials: Sequence[Trial], file: pathlib.Path) -> None:
    """Writes all trials as CSV."""
    with commands.whole(file) as f:
        writer = csv.writer(f, lineterminator="\n")
        names = [*trials[0].values]
        writer.writerow(["trial", *names, "loss", "seconds", "problem"])
        for t in trials:
            loss = repr(t.loss) if math.isfinite(t.loss) else ""
            values = (t.values[name] for name in names)
            writer.writerow([t.number, *values, loss, t.seconds, t.problem])


def draw(
    trials: Sequence[Trial], space: Sequence[spaces.Setting], file: pathlib.Path
) -> None:
    """Draws the losses, by trial and by setting, of those that did not fail."""
    from gbt_t5x.studies import figures  # which takes matplotlib

    finite = [trial for trial in trials if math.isfinite(trial.loss)]
    if not finite:
        return
    lowest = itertools.accumulate((trial.loss for trial in finite), min)
    so_far = {t.number: x for t, x in zip(finite, lowest, strict=True)}
    unit = "loss per target token"
    by_trial = {trial.number: trial.loss for trial in finite}
    lines = [
        figures.Line(0, by_trial, "a trial", marked=True, joined=False),
        figures.Line(1, so_far, "the best so far"),
    ]
    panels = [figures.Panel("Final development loss", lines, unit, across="trial")]
    worst_first = sorted(finite, key=lambda trial: -trial.loss)
    for setting in space:
        # Of trials at one value, as at a bound, the best is shown.
        losses = {trial.values[setting.name]: trial.loss for trial in worst_first}
        line = figures.Line(0, losses, "a trial", marked=True, joined=False)
        panels.append(
            figures.Panel("", [line], unit, across=setting.name, scale=setting.scale)
        )
    figures.draw(panels, file)


if __name__ == "__main__":
    main()
