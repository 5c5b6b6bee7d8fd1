"""CSV files of rivals: a row for each run, and beside them the losses."""

from collections.abc import Mapping, Sequence
import csv
import math
import pathlib
from typing import Any

from gbt_t5x.studies import commands
from gbt_t5x.studies.rivals import candidates, scoring

_HEADER = (
    *("task", "rival", "guided", "setting", "bindings", "seed", "budgets", "steps"),
    *("final_loss", "target", "steps_to_target", "seconds_to_target"),
    *("seconds_per_step", "problem"),
)
_CURVES_HEADER = ("rival", "setting", "seed", "step", "loss")


def write(results: scoring.Results, file: pathlib.Path) -> None:
    """Writes a row for every run, and beside it, in curves_path(file), the losses."""
    chosen: dict[tuple[str, int], list[str]] = {}
    for name in results.names:
        for budget in results.budgets:
            chosen.setdefault((name, results.best(name, budget)), []).append(str(budget))
    with commands.whole(curves_path(file)) as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(_CURVES_HEADER)
        for t in results.trials:
            for step, loss in t.loss.items():
                writer.writerow([t.rival, t.setting, t.seed, step, repr(float(loss))])
    with commands.whole(file) as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(_HEADER)
        for t in results.trials:
            is_final = math.isfinite(t.final_loss)
            of_target = [
                results.target(t.seed),
                results.steps_to_target(t),
                results.seconds_to_target(t),
            ]
            budgets = " ".join(chosen.get((t.rival, t.setting), ()))
            writer.writerow(
                [
                    *(t.task, t.rival, int(t.is_guided), t.setting, t.bindings, t.seed),
                    *(budgets, t.steps, _text(t.final_loss) if is_final else ""),
                    *map(_text, [*of_target, t.seconds_per_step]),
                    t.problem,
                ]
            )


def _text(x: float | int | None) -> str:
    return "" if x is None else f"{x:.6g}" if isinstance(x, float) else str(x)


def curves_path(file: pathlib.Path) -> pathlib.Path:
    """The file of the losses that belongs to a CSV file."""
    return file.with_name(f"{file.stem}_curves{file.suffix}")


def read(
    file: pathlib.Path,
    budgets: Sequence[int] = (),
    seeds: Sequence[int] = (),
    only: Sequence[str] = (),
) -> scoring.Results:
    """Reads what `write` wrote.

    Args:
        file: the CSV file; that of the losses is beside it.
        budgets: those of interest; all that are there by default.
        seeds: those of interest, the first of them that of the search.
        only: names of interest; the baseline is there too.

    Raises:
        ValueError: it is no such file, or something of interest is not in it.
    """
    rows = _rows(file, _HEADER)
    if not curves_path(file).exists():
        raise ValueError(f"{file} needs {curves_path(file)}, the losses of its runs")
    curves = _read_curves(curves_path(file))
    try:
        trials = [
            scoring.Trial(
                row["task"],
                row["rival"],
                int(row["setting"]),
                row["bindings"],
                row["guided"] == "1",
                int(row["seed"]),
                curves.get((row["rival"], row["setting"], row["seed"]), {}),
                float(row["seconds_per_step"]) if row["seconds_per_step"] else None,
                row["problem"],
            )
            for row in rows
        ]
        there = sorted({int(x) for row in rows for x in row["budgets"].split()})
    except ValueError as error:
        raise ValueError(f"{file} is no CSV file of this study: {error}") from error
    _check(file, trials)
    for trial, row in zip(trials, rows, strict=True):
        last = trial.final_loss
        end = str(trial.steps), _text(last) if math.isfinite(last) else ""
        if not trial.problem and end != (row["steps"], row["final_loss"]):
            raise ValueError(
                f"{file} has {trial.rival} {trial.setting} from seed {trial.seed} end at "
                f"step {row['steps']} with loss {row['final_loss']}, and "
                f"{curves_path(file)} at step {end[0]} with {end[1]}: they are of two "
                "studies"
            )
    all_seeds = list(dict.fromkeys(t.seed for t in trials))
    names = list(dict.fromkeys(t.rival for t in trials))
    found: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
        "budgets": (budgets, there),
        "seeds": (seeds, all_seeds),
        "rivals": (only, names),
    }
    for what, (asked, known) in found.items():
        if not set(asked) <= set(known):
            raise ValueError(
                f"{file} has the {what} {', '.join(map(str, known))}, and asked is for "
                f"{', '.join(map(str, asked))}"
            )
    wanted = {*only, candidates.BASELINE} if only else {*names}
    return scoring.Results(
        [t for t in trials if t.rival in wanted],
        budgets or there,
        seeds or all_seeds,
    )


def _check(file: pathlib.Path, trials: Sequence[scoring.Trial]) -> None:
    """Raises ValueError for a run that is there twice, or of a time that is none."""
    found = set()
    for trial in trials:
        which = f"{trial.rival} {trial.setting} from seed {trial.seed}"
        if which in found:
            raise ValueError(f"{file} has two rows of {which}")
        found.add(which)
        seconds = trial.seconds_per_step
        if seconds is not None and not 0 < seconds < math.inf:
            raise ValueError(f"{file} has {seconds:g} seconds a step of {which}")


def _read_curves(file: pathlib.Path) -> dict[tuple[str, str, str], dict[int, float]]:
    """Rival, setting and seed -> curve."""
    curves: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in _rows(file, _CURVES_HEADER):
        curve = curves.setdefault((row["rival"], row["setting"], row["seed"]), {})
        try:
            curve[int(row["step"])] = float(row["loss"])
        except ValueError as error:
            raise ValueError(f"{file} is no CSV file of losses: {error}") from error
    return curves


def _rows(file: pathlib.Path, header: Sequence[str]) -> list[Mapping[str, str]]:
    with file.open(newline="", encoding="utf-8") as f:
        reader = csv.DictReader(f)
        if tuple(reader.fieldnames or ()) != tuple(header):
            raise ValueError(
                f"{file} has the columns {','.join(reader.fieldnames or ())}, and this "
                f"study writes {','.join(header)}"
            )
        rows: list[Mapping[str, str]] = [*reader]
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ValueError(
                f"{file} has in line {number} not the {len(header)} columns of its head"
            )
    if not rows:
        raise ValueError(f"{file} has no rows below its head")
    return rows
