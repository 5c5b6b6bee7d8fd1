"""The numbers of the paper's figures and tables, as CSV files, one for each.

    figure_*.csv, why_alpha_rises.csv
                    run, learned, eta, beta1, seed, quantity, step, value: a line for
                    every value of `loss`, `alpha` and `beta1`, to six digits
    table_1.csv     corpus, direction, learned, seed, bleu, chrf, loss
    table_2.csv     corpus, learned, direction, row, runs, seconds, seed, bleu, loss,
                    settings
    trials.csv      corpus, learned, direction, row, trial, settings, loss, seconds,
                    problem
    table_3.csv     pretrained, task, metric, seed, value
    size.csv        name, value: how much was trained; of each column of Table 2, of each
                    direction of Table 1, and of each other part, in how many hours,
                    and with which settings

`learned` is '' without guidance; `row` is base, base_tuned, guided or guided_tuned.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import math
import pathlib
import statistics
from typing import Any

from gbt_t5x.studies import commands, runs

COLUMNS: Mapping[str, Sequence[str]] = {
    "figure": ("run", "learned", "eta", "beta1", "seed", "quantity", "step", "value"),
    "table_1": ("corpus", "direction", "learned", "seed", "bleu", "chrf", "loss"),
    "table_2": (
        *("corpus", "learned", "direction", "row", "runs"),
        *("seconds", "seed", "bleu", "loss", "settings"),
    ),
    "trials": (
        *("corpus", "learned", "direction", "row", "trial"),
        *("settings", "loss", "seconds", "problem"),
    ),
    "table_3": ("pretrained", "task", "metric", "seed", "value"),
    "size": ("name", "value"),
}
_KEYS: Mapping[str, Sequence[str]] = {  # which tell rows from each other
    "figure": ("run", "quantity", "seed", "step"),
    "table_1": ("corpus", "direction", "learned", "seed"),
    "table_2": ("corpus", "learned", "direction", "row", "seed"),
    "trials": ("corpus", "learned", "direction", "row", "trial"),
    "table_3": ("pretrained", "task", "metric", "seed"),
    "size": ("name",),
}
_NUMBERS = {*"eta beta1 seed step value bleu chrf loss runs seconds trial".split()}
LEARNED = ("", "alpha", "beta1", "alpha+beta1")
ROWS = ("base", "base_tuned", "guided", "guided_tuned")
_VALUES: Mapping[str, Sequence[str]] = {"learned": LEARNED, "row": ROWS}
_OPTIONAL = {"figure": ("eta", "beta1"), "trials": ("loss",)}  # numbers that may be none
Row = Mapping[str, Any]


def columns(name: str) -> Sequence[str]:
    """Those of a file, which is named without its suffix."""
    return COLUMNS[_kind(name)]


def write(folder: pathlib.Path, name: str, rows: Sequence[Row]) -> pathlib.Path:
    """Writes a file. Numbers are written whole, None as nothing.

    Args:
        folder: is made.
        name: of the file, without its suffix.
        rows: have its columns.
    """
    file = folder / f"{name}.csv"
    with commands.whole(file) as f:
        writer = csv.DictWriter(f, columns(name), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in r.items()} for r in rows)
    return file


def read(folder: pathlib.Path, name: str) -> list[Row]:
    """Reads a file, none if there is no such.

    Raises:
        ValueError: it is no CSV file, or has other columns, no finite number where one
            belongs, a row twice, or not the same seeds of everything.
    """
    file = folder / f"{name}.csv"
    if not file.exists():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as f:
            reader = csv.DictReader(f)
            there, here = [*(reader.fieldnames or ())], [*columns(name)]
            rows = [*reader] if there == here else []
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no CSV file: {error}") from error
    if there != here:
        raise ValueError(
            f"{file} has the columns {','.join(there)}, and this version writes "
            f"{','.join(here)}: remove it, and make it again"
        )
    is_number = _NUMBERS - {"value"} if name == "size" else _NUMBERS
    optional = _OPTIONAL.get(_kind(name), ())
    keys = _KEYS[_kind(name)]
    found: dict[tuple[Any, ...], Row] = {}
    try:
        for row in rows:
            if None in row:
                raise ValueError(f"more cells than columns: {','.join(row[None])}")
            read_row = {
                k: _number(k, v, k in optional) if k in is_number else v
                for k, v in row.items()
            }
            for column, values in _VALUES.items():
                if read_row.get(column, values[0]) not in values:
                    raise ValueError(
                        f"{read_row[column]!r} as {column}, which is none of "
                        f"{', '.join(map(repr, values))}"
                    )
            key = tuple(read_row[k] for k in keys)
            if key in found:
                raise ValueError(f"two rows of {_text(keys, key)}")
            found[key] = read_row
        if "seed" in keys:
            _check_seeds(found, keys)
        if "step" in keys:
            _check_steps(found)
    except ValueError as error:
        raise ValueError(f"{file} has {error}: remove it, and make it again") from error
    return [*found.values()]


def _kind(name: str) -> str:
    return name if name in COLUMNS else "figure"


def _check_seeds(found: Mapping[tuple[Any, ...], Row], keys: Sequence[str]) -> None:
    """Raises ValueError, which names both, unless all have the same seeds."""
    others = [k for k in keys if k not in ("seed", "step")]
    seeds: dict[tuple[Any, ...], dict[int, None]] = {}
    for row in found.values():
        seeds.setdefault(tuple(row[k] for k in others), {})[row["seed"]] = None
    first = next(iter(seeds), ())
    for key, of_key in seeds.items():
        if set(of_key) != set(seeds[first]):
            one, other = (
                f"the seeds {', '.join(map(str, of))} of {_text(others, which)}"
                for which, of in ((first, seeds[first]), (key, of_key))
            )
            raise ValueError(f"{one} and {other}")


def _check_steps(found: Mapping[tuple[Any, ...], Row]) -> None:
    """Raises ValueError, which names two, unless all curves of a quantity end alike."""
    last: dict[str, dict[str, int]] = {}
    for row in found.values():
        of_quantity = last.setdefault(row["quantity"], {})
        of_run = f"{row['run']} from seed {row['seed']}"
        of_quantity[of_run] = max(row["step"], of_quantity.get(of_run, 0))
    for quantity, of_quantity in last.items():
        what = "losses" if quantity == "loss" else quantity
        (first, goal), *others = of_quantity.items()
        for of_run, step in others:
            if step != goal:
                raise ValueError(
                    f"{what} of {first} to step {goal}, of {of_run} to {step}"
                )


def _text(names: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{n} {v!r}" for n, v in zip(names, values, strict=True))


@dataclasses.dataclass(frozen=True)
class Run:
    """A line of a figure.

    Attributes:
        name: distinct in its figure.
        learned: '' without guidance.
        eta, beta1: as in the file.
        curves: quantity -> seed -> curve.
    """

    name: str
    learned: str
    eta: float | None
    beta1: float | None
    curves: Mapping[str, Mapping[int, runs.Curve]]

    def last(self, quantity: str = "loss") -> dict[int, float]:
        """Seed -> the last value."""
        return {s: runs.last_value(c) for s, c in self.of(quantity).items()}

    def of(self, quantity: str) -> Mapping[int, runs.Curve]:
        """Seed -> curve.

        Raises:
            ValueError: there are none.
        """
        if quantity not in self.curves:
            raise ValueError(f"the CSV file has no {quantity} of {self.name}")
        return self.curves[quantity]


class Results:
    """The CSV files of a folder."""

    def __init__(self, folder: pathlib.Path):
        """Reads them as they are asked for.

        Args:
            folder: has some of them.
        """
        self._folder = folder
        self._read: dict[str, list[Row]] = {}

    def rows(self, name: str) -> list[Row]:
        """Those of a file, none if it is not there."""
        if name not in self._read:
            self._read[name] = read(self._folder, name)
        return self._read[name]

    def by_seed(self, name: str, metric: str, /, **chosen: str) -> dict[int, float]:
        """Seed -> a metric, of the rows of a table that have some values.

        Raises:
            ValueError: there are none.
        """
        found = {
            row["seed"]: row[metric]
            for row in self.rows(name)
            if chosen.items() <= row.items()
        }
        if not found:
            which = _text([*chosen], [*chosen.values()])
            raise ValueError(f"{self._folder / name}.csv has no rows of {which}")
        return found

    def distinct(self, name: str, column: str, /, **chosen: str) -> list[str]:
        """The values of a column, in order, of the rows of a table that have others."""
        rows = self.rows(name)
        found = (row[column] for row in rows if chosen.items() <= row.items())
        return [*dict.fromkeys(found)]

    def figure(self, name: str) -> list[Run]:
        """The lines of a figure, in order."""
        first: dict[str, Row] = {}
        curves: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
        for row in self.rows(name):
            first.setdefault(row["run"], row)
            of_run = curves.setdefault(row["run"], {})
            of_seed = of_run.setdefault(row["quantity"], {})
            of_seed.setdefault(row["seed"], {})[row["step"]] = row["value"]
        return [
            Run(run, row["learned"], row["eta"], row["beta1"], curves[run])
            for run, row in first.items()
        ]

    def compared(self, name: str) -> tuple[Run, list[Run]]:
        """The baseline of a figure, and the runs that learn.

        Raises:
            ValueError: one of them is not there, or learns with no η̂.
        """
        found = self.figure(name)
        guided = [run for run in found if run.learned]
        unguided = [run for run in found if not run.learned]
        if not guided or not unguided:
            raise ValueError(
                f"{self._folder / name}.csv has the runs "
                f"{', '.join(run.name for run in found)}: there must be one that learns "
                "nothing, and others"
            )
        for run in guided:
            if run.eta is None:
                raise ValueError(f"{self._folder / name}.csv has no eta of {run.name}")
        return unguided[0], guided

    @property
    def sizes(self) -> dict[str, str]:
        """Name -> value, of size.csv."""
        return {row["name"]: row["value"] for row in self.rows("size")}

    def of_tasks(self, pretrained: str) -> dict[str, dict[int, float]]:
        """Task -> seed -> the mean of its metrics in Table 3."""
        found: dict[str, dict[int, float]] = {}
        for task in self.distinct("table_3", "task"):
            which = {"task": task, "pretrained": pretrained}
            metrics = self.distinct("table_3", "metric", task=task)
            columns = [
                self.by_seed("table_3", "value", metric=metric, **which)
                for metric in metrics
            ]
            found[task] = {
                seed: statistics.fmean(column[seed] for column in columns)
                for seed in columns[0]
            }
        return found

    def hours(self, part: str) -> float | None:
        """What the runs of a part, or of its pieces, took one after the other, if known.

        Raises:
            ValueError: it is no number.
        """
        of_part = f"hours {part}"
        found = []
        for name, text in self.sizes.items():
            if name != of_part and not name.startswith(f"{of_part} "):
                continue
            try:
                found.append(float(text))
            except ValueError as error:
                raise ValueError(
                    f"{self._folder / 'size'}.csv has {name} {text!r}: remove it, and "
                    "make it again"
                ) from error
        return sum(found) if found else None


def _number(name: str, text: str | None, optional: bool) -> float | int | None:
    if not text and optional:
        return None
    there = text or ""
    try:
        value = int(there) if there.lstrip("-").isdigit() else float(there)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} as {name}, which is no finite number")
    return value
