"""The page of the paper's claims: HTML with its figures beside it, from CSV files.

It opens from disk, and takes nothing from a network. A figure is an SVG file for each of
its panels, so that they stand below each other on a narrow screen.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
import statistics
from typing import Any

import jinja2

from gbt_t5x.studies import figures, repeats, runs
from gbt_t5x.studies.paper import claims, measured

# Figure -> its caption, and the quantities of its panels.
FIGURES: Mapping[str, tuple[str, Sequence[str]]] = {
    "figure_1": ("Figure 1: α alone, translation", ["alpha", "loss"]),
    "figure_2": ("Figure 2: β1 alone, translation", ["beta1", "loss"]),
    "figure_3": ("Figure 3: α and β1, T5", ["alpha", "beta1", "loss"]),
    "figure_E1": (
        "Figure E.1: β1 tuned by a search, and learned, translation",
        ["beta1", "loss"],
    ),
    "figure_F2": ("Figure F.2: α alone, T5", ["alpha", "loss"]),
    "figure_F3": ("Figure F.3: β1 alone, T5", ["beta1", "loss"]),
    "why_alpha_rises": (
        "α and β1 with the learning rate inside and outside of the momentum, and α alone "
        "with momentum, T5",
        ["alpha", "beta1", "loss"],
    ),
}
_TITLES = {"alpha": "α", "beta1": "β1", "loss": "development loss"}
_WITH = {"table_2": ["figure_E1"]}  # which the same runs give
_ROWS = {
    "base": "base",
    "base_tuned": "base, tuned",
    "guided": "guided",
    "guided_tuned": "guided, tuned",
}


@dataclasses.dataclass(frozen=True)
class Section:
    """A claim on the page, with what no section before has shown."""

    claim: claims.Claim
    finding: claims.Finding
    figures: Sequence[Mapping[str, Any]]
    tables: Sequence["Table"]
    hours: float


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the page."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    file: str


def make(source: pathlib.Path, page: pathlib.Path) -> None:
    """Writes the page, and in a folder of its name the figures and the numbers.

    Args:
        source: has CSV files of `measured`.
        page: the HTML file.

    Raises:
        ValueError: no numbers are there, or in another form.
    """
    results = measured.Results(source)
    size = {row["name"]: row["value"] for row in results.rows("size")}
    if not size:
        raise ValueError(
            f"{source} has no size.csv: name the folder that "
            "`python -m gbt_t5x.studies.paper` wrote, results"
        )
    folder = page.parent / page.stem
    folder.mkdir(parents=True, exist_ok=True)
    if source.resolve() != folder.resolve():
        for file in sorted(source.glob("*.csv")):
            (folder / file.name).write_bytes(file.read_bytes())
    sections = []
    shown: set[str] = set()
    for claim in claims.CLAIMS:
        parts = [p for part in claim.parts for p in (part, *_WITH.get(part, ()))]
        new = [part for part in parts if part not in shown and results.rows(part)]
        shown.update(new)
        sections.append(
            Section(
                claim,
                claim.finding(results),
                [_figure(part, results, folder) for part in new if part in FIGURES],
                [t for p in new if p in _TABLES for t in _TABLES[p](results.rows(p))],
                sum(float(size.get(f"hours {part}", 0)) for part in claim.all_parts),
            )
        )
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page.write_text(
        environment.get_template("webpage.html").render(
            sections=sections, size=size, folder=folder.name
        ),
        encoding="utf-8",
    )


def _figure(
    name: str, results: measured.Results, folder: pathlib.Path
) -> Mapping[str, Any]:
    """Draws a figure's panels. Returns what the page says of it."""
    caption, quantities = FIGURES[name]
    found = results.figure(name)
    etas = sorted({run.eta for run in found if run.eta is not None})
    starts = sorted({run.beta1 for run in found if run.beta1 is not None})
    panels = []
    for quantity in quantities:
        lines = [
            _line(i, run, run.curves[quantity], etas, starts)
            for i, run in enumerate(found)
            if quantity in run.curves
        ]
        file = folder / f"{name}_{quantity}.svg"
        unit = "loss per target token" if quantity == "loss" else ""
        figures.draw([figures.Panel(_TITLES[quantity], lines, unit)], file)
        panels.append({"file": os.path.join(folder.name, file.name), "of": quantity})
    return {
        "caption": caption,
        "panels": panels,
        "csv": os.path.join(folder.name, f"{name}.csv"),
    }


def _line(
    number: int,
    run: measured.Run,
    by_seed: Mapping[int, runs.Curve],
    etas: Sequence[float],
    starts: Sequence[float],
) -> figures.Line:
    """The mean over seeds, in a band from the lowest to the highest.

    A colour is one η̂, where there are several, and a dash one start of β1.
    """
    grid = len(etas) > 1 and len(starts) > 1 and run.eta is not None
    return figures.of_several(
        1 + etas.index(run.eta) if grid and run.eta is not None else number,
        [*by_seed.values()],
        label(run),
        dash=starts.index(run.beta1) if grid and run.beta1 is not None else 0,
    )


def label(run: measured.Run) -> str:
    """What the legend says of a line."""
    if run.name in _ROWS:
        return _ROWS[run.name]
    parts = [] if run.learned else ["baseline"]
    if run.eta is not None:
        parts.append(f"η̂ = {run.eta:g}")
    if run.beta1 is not None:
        parts.append(f"β1 {'from' if run.learned else '='} {run.beta1:g}")
    if run.name.endswith(("_inside", "_outside")):
        parts.append(f"rate {run.name.rpartition('_')[2]}")
    return ", ".join(parts)


def _cell(by_seed: Mapping[int, float]) -> str:
    """The mean ± the standard deviation, to one digit."""
    return repeats.text([*by_seed.values()], digits=1) if by_seed else "-"


def _table_1(rows: Sequence[measured.Row]) -> list[Table]:
    """A table for each corpus."""
    found = []
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        of = [row for row in rows if row["corpus"] == corpus]
        directions = [*dict.fromkeys(row["direction"] for row in of)]
        cells = []
        for learned, symbol in claims.SYMBOLS.items():
            of_directions = [
                _cell(measured.by_seed(of, "bleu", direction=direction, learned=learned))
                for direction in directions
            ]
            cells.append([symbol, *of_directions])
        header = ["", *(direction.replace("_", "-") for direction in directions)]
        found.append(Table(f"Table 1: BLEU, {corpus}", header, cells, "table_1.csv"))
    return found


def _table_2(rows: Sequence[measured.Row]) -> list[Table]:
    cells = []
    for kind, name in _ROWS.items():
        of = [row for row in rows if row["row"] == kind]
        # Of each column once: every seed has the same.
        minutes = {row["learned"]: row["seconds"] / 60 for row in of}
        number = {row["runs"] for row in of}
        cells.append(
            [
                name,
                f"{statistics.fmean(minutes.values()):.0f}",
                "/".join(map(str, sorted(number))),
                *(
                    _cell(measured.by_seed(of, "bleu", learned=learned))
                    for learned in claims.LEARNED
                ),
            ]
        )
    symbols = [claims.SYMBOLS[learned] for learned in claims.LEARNED]
    header = ["", "minutes", "runs", *symbols]
    caption = "Table 2: BLEU, and the time of all runs of a row, the mean of its columns"
    return [Table(caption, header, cells, "table_2.csv")]


def _table_3(rows: Sequence[measured.Row]) -> list[Table]:
    metrics = [*dict.fromkeys((row["task"], row["metric"]) for row in rows)]
    cells = []
    for kind, name in (("base", "base"), ("alpha_beta1", "α+β1")):
        of = [row for row in rows if row["pretrained"] == kind]
        by_seed: dict[int, list[float]] = {}
        for task in dict.fromkeys(task for task, _ in metrics):
            for seed in dict.fromkeys(row["seed"] for row in of):
                values = [
                    r["value"] for r in of if (r["task"], r["seed"]) == (task, seed)
                ]
                by_seed.setdefault(seed, []).append(statistics.fmean(values))
        cells.append(
            [
                name,
                *(
                    _cell(measured.by_seed(of, "value", task=task, metric=metric))
                    for task, metric in metrics
                ),
                _cell(
                    {seed: statistics.fmean(values) for seed, values in by_seed.items()}
                ),
            ]
        )
    header = ["", *(f"{task} {metric}" for task, metric in metrics), "average"]
    caption = "Table 3: fine-tuned with T5's settings after pre-training"
    return [Table(caption, header, cells, "table_3.csv")]


_TABLES = {"table_1": _table_1, "table_2": _table_2, "table_3": _table_3}
