"""The numbers of the paper's figures and tables, as CSV files, one for each.

    figure_*.csv    run, learned, eta, beta1, seed, quantity, step, value: a line for
                    every value of `loss`, `alpha` and `beta1`
    table_1.csv     corpus, direction, learned, seed, bleu, chrf, loss
    table_2.csv     learned, row, runs, seconds, seed, bleu, loss, settings
    trials.csv      learned, row, trial, settings, loss, seconds, problem
    table_3.csv     pretrained, task, metric, seed, value
    size.csv        name, value: how much was trained

`learned` is '' without guidance; `row` is base, base_tuned, guided or guided_tuned.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import pathlib
from typing import Any

from gbt_t5x.studies import runs

COLUMNS: Mapping[str, Sequence[str]] = {
    "figure": ("run", "learned", "eta", "beta1", "seed", "quantity", "step", "value"),
    "table_1": ("corpus", "direction", "learned", "seed", "bleu", "chrf", "loss"),
    "table_2": (
        *("learned", "row", "runs", "seconds", "seed", "bleu", "loss", "settings"),
    ),
    "trials": ("learned", "row", "trial", "settings", "loss", "seconds", "problem"),
    "table_3": ("pretrained", "task", "metric", "seed", "value"),
    "size": ("name", "value"),
}
_NUMBERS = {
    *("eta", "beta1", "seed", "step", "value", "bleu", "chrf", "loss"),
    *("runs", "seconds", "trial"),
}
Row = Mapping[str, Any]


def columns(name: str) -> Sequence[str]:
    """Those of a file, which is named without its suffix."""
    return COLUMNS.get(name, COLUMNS["figure"])


def write(folder: pathlib.Path, name: str, rows: Sequence[Row]) -> pathlib.Path:
    """Writes a file. Numbers are written whole, None as nothing.

    Args:
        folder: is made.
        name: of the file, without its suffix.
        rows: have its columns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.csv"
    with file.open("w", newline="") as f:
        writer = csv.DictWriter(f, columns(name), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in r.items()} for r in rows)
    return file


def read(folder: pathlib.Path, name: str) -> list[Row]:
    """Reads a file, none if there is no such.

    Raises:
        ValueError: it has other columns, or text where numbers are.
    """
    file = folder / f"{name}.csv"
    if not file.exists():
        return []
    with file.open(newline="") as f:
        reader = csv.DictReader(f)
        there, here = tuple(reader.fieldnames or ()), tuple(columns(name))
        if there != here:
            raise ValueError(
                f"{file} has the columns {','.join(there)}, and this version writes "
                f"{','.join(here)}: make it again"
            )
        rows = [*reader]
    is_number = _NUMBERS - {"value"} if name == "size" else _NUMBERS
    try:
        return [
            {k: _number(v) if k in is_number else v for k, v in row.items()}
            for row in rows
        ]
    except ValueError as error:
        raise ValueError(f"{file} has {error}: make it again") from error


def by_seed(rows: Sequence[Row], metric: str, /, **chosen: str) -> dict[int, float]:
    """Seed -> a metric, of the rows that have some values."""
    of = [row for row in rows if all(row[k] == v for k, v in chosen.items())]
    return {row["seed"]: row[metric] for row in of}


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
        return {s: [*c.values()][-1] for s, c in self.curves[quantity].items()}


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


def _number(text: str) -> float | int | None:
    if not text:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)
