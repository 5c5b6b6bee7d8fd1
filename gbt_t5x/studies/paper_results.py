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
import pathlib
from typing import Any

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


def _number(text: str) -> float | int | None:
    if not text:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)
