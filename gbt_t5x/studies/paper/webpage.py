"""The page of the paper's claims: HTML with its figures beside it, from CSV files.

It opens from disk, and takes nothing from a network. A figure is an SVG file for each of
its panels, so that they stand below each other on a narrow screen.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import os
import pathlib
import statistics
from typing import Any

import jinja2

from gbt_t5x.studies import commands, figures, repeats, runs
from gbt_t5x.studies.paper import claims, experiments, measured

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
_ROWS = dict(
    zip(measured.ROWS, ("base", "base, tuned", "guided", "guided, tuned"), strict=True)
)


@dataclasses.dataclass(frozen=True)
class Section:
    """A claim on the page, with what no section before has shown."""

    claim: claims.Claim
    finding: claims.Finding
    figures: Sequence[Mapping[str, Any]]
    tables: Sequence["Table"]
    time: str
    options: Sequence[str]  # of the command that measures it

    @property
    def is_whole(self) -> bool:
        return not any(evidence.missing for evidence in self.finding.evidence)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the page."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    files: Sequence[str]


def make(source: pathlib.Path, page: pathlib.Path) -> None:
    """Writes the page, and in a folder of its name the figures and the numbers.

    Args:
        source: has CSV files of `measured`.
        page: the HTML file.

    Raises:
        ValueError: no numbers are there, or in another form.
    """
    results = measured.Results(source)
    size = results.sizes
    missing = [name for name in vars(experiments.WHOLE) if name not in size]
    if missing:
        raise ValueError(
            f"{source} has no size.csv with {', '.join(missing)}: name the folder that "
            "`python -m gbt_t5x.studies.paper` wrote, results"
        )
    _check_size(results, source)
    found = [claim.finding(results) for claim in claims.CLAIMS]
    folder = page.parent / page.stem
    folder.mkdir(parents=True, exist_ok=True)
    if source.resolve() != folder.resolve():
        _copy(source, folder)
    is_quick = all(
        size[name] == value for name, value in experiments.QUICK.texts().items()
    )
    sections = []
    shown: set[str] = set()
    for claim, finding in zip(claims.CLAIMS, found, strict=True):
        parts = [p for part in claim.parts for p in (part, *_WITH.get(part, ()))]
        new = [part for part in parts if part not in shown and results.rows(part)]
        shown.update(new)
        sections.append(
            Section(
                claim,
                finding,
                [_figure(part, results, folder) for part in new if part in FIGURES],
                [t for part in new if part in _TABLES for t in _TABLES[part](results)],
                _time([results.hours(part) for part in claim.all_parts]),
                [*["--quick"] * is_quick, *_options(claim, results)],
            )
        )
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("webpage.html").render(
        sections=sections,
        size=size,
        folder=folder.name,
        measured=sum(finding.verdict != claims.MISSING for finding in found),
        apart=_apart(results),
    )
    with commands.whole(page) as f:
        f.write(text)


def _check_size(results: measured.Results, source: pathlib.Path) -> None:
    """Raises ValueError, which names both, unless all files are of the size."""
    size = results.sizes
    others = set(size["columns"].split()) - {*claims.LEARNED}
    if others:
        raise ValueError(
            f"{source / 'size.csv'} has the columns {', '.join(sorted(others))}, and "
            f"Table 2 has {', '.join(claims.LEARNED)}"
        )
    for name in [*FIGURES, *_TABLES, "trials"]:
        for of_size, value in sorted(_sizes(name, results.rows(name))):
            if value != size[of_size]:
                raise ValueError(
                    f"{source / name}.csv has {of_size} {value}, and "
                    f"{source / 'size.csv'} {size[of_size]}: they are of two studies"
                )


def _apart(results: measured.Results) -> tuple[float, str, str] | None:
    """How far one run's final losses are apart in two figures; None below 1e-3.

    Of a model a name is one configuration, so that they are of two machines.
    """
    seen: dict[tuple[str, str, int], tuple[float, str]] = {}
    found = (1e-3, "", "")
    for figure, (model, _) in experiments.FIGURES.items():
        here = FIGURES[figure][0].partition(":")[0]
        for run in results.figure(figure):
            for seed, loss in run.last().items():
                first, there = seen.setdefault((model, run.name, seed), (loss, here))
                found = max(found, (abs(loss - first), there, here))
    return found if found[1] else None


def _sizes(name: str, rows: Sequence[measured.Row]) -> Iterator[tuple[str, str]]:
    """Names of size.csv, and what they are by the rows of another file."""
    seeds = dict.fromkeys(str(row["seed"]) for row in rows if "seed" in row)
    if seeds:
        yield "seeds", " ".join(seeds)
    if rows and name in FIGURES:
        model, _ = experiments.FIGURES.get(name, ("trial", []))
        last = max(row["step"] for row in rows)
        yield "pretraining" if model == "t5" else model, str(last)
    if name == "table_2":
        for row in rows:
            if row["row"] == "guided_tuned":
                yield "guided_trials", str(row["runs"])
            if row["row"] == "base_tuned":
                is_papers = row["direction"] == experiments.SEARCHED
                yield "trials" if is_papers else "other_trials", str(row["runs"])


def _copy(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Has the folder hold the numbers of the source, and no others of such a page."""
    names = [*FIGURES, *measured.COLUMNS]
    for name in names:
        there, here = (of / f"{name}.csv" for of in (source, folder))
        if there.exists():
            here.write_bytes(there.read_bytes())
        else:
            here.unlink(missing_ok=True)
            for file in folder.glob(f"{name}_*.svg"):
                file.unlink()


def _options(claim: claims.Claim, results: measured.Results) -> list[str]:
    """The parts of a claim, and the corpora where there are others than templates."""
    rows = (row for part in claim.all_parts for row in results.rows(part))
    corpora = dict.fromkeys(row["corpus"] for row in rows if "corpus" in row)
    others = corpora.keys() - {"templates"}
    return ["--only", *claim.all_parts, *(["--corpora", *corpora] if others else [])]


def _time(hours: Sequence[float | None]) -> str:
    """How long it all took, or '' where that is not known of a part."""
    known = [x for x in hours if x]
    if len(known) < len(hours):
        return ""
    total = sum(known)
    return f"{total:.1f} hours" if total >= 1 else f"{60 * total:.0f} minutes"


def _figure(
    name: str, results: measured.Results, folder: pathlib.Path
) -> Mapping[str, Any]:
    """Draws a figure's panels. Returns what the page says of it."""
    caption, quantities = FIGURES[name]
    found = results.figure(name)
    etas = sorted({run.eta for run in found if run.eta is not None})
    starts = sorted({run.beta1 for run in found if run.beta1 is not None})
    grey = int(all(run.learned for run in found))  # that of a baseline, and of it alone
    panels = []
    for quantity in quantities:
        lines = [
            _line(i + grey, run, run.curves[quantity], etas, starts)
            for i, run in enumerate(found)
            if quantity in run.curves
        ]
        file = folder / f"{name}_{quantity}.svg"
        title, unit, limits = _TITLES[quantity], "", None
        if quantity == "loss":
            unit, limits = "loss per target token", _limits(lines)
            title += f", below {limits[1]:.2g}" if limits else ""
        figures.draw([figures.Panel(title, lines, unit, limits=limits)], file)
        panels.append({"file": os.path.join(folder.name, file.name), "of": quantity})
    return {
        "caption": caption,
        "panels": panels,
        "csv": os.path.join(folder.name, f"{name}.csv"),
    }


def _limits(lines: Sequence[figures.Line]) -> tuple[float, float] | None:
    """The losses that are shown where some have diverged: up to the start's."""
    highest = [max((line.high or line.curve).values()) for line in lines]
    top = max(lines[0].curve.values())
    if max(highest) < 2 * top:
        return None
    lowest = min(min((line.low or line.curve).values()) for line in lines)
    return lowest - 0.1 * (top - lowest), top


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
    colour, dash = number, 0
    if run.eta is not None and len(etas) > 1 and len(starts) > 1:
        colour = 1 + etas.index(run.eta)
        dash = 0 if run.beta1 is None else starts.index(run.beta1)
    return figures.of_several(colour, [*by_seed.values()], label(run), dash=dash)


def label(run: measured.Run) -> str:
    """What the legend says of a line."""
    if run.name in _ROWS:
        return _ROWS[run.name]
    parts = ["" if run.learned else "baseline"]
    if run.learned == "alpha" and run.beta1:  # where others learn both
        parts.append("α alone")
    if run.eta is not None:
        parts.append(f"η̂ = {run.eta:g}")
    if run.beta1 is not None:
        parts.append(f"β1 {'from' if 'beta1' in run.learned else '='} {run.beta1:g}")
    if run.name.endswith(("_inside", "_outside")):
        parts.append(f"rate {run.name.rpartition('_')[2]}")
    return ", ".join(filter(None, parts))


def _cell(by_seed: Mapping[int, float]) -> str:
    """The mean ± the standard deviation, to one digit."""
    return repeats.text([*by_seed.values()], digits=1)


def _table_1(results: measured.Results) -> list[Table]:
    """A table for each corpus."""
    found = []
    for corpus in results.distinct("table_1", "corpus"):
        directions = claims.directions(results, corpus)
        bleu = functools.partial(results.by_seed, "table_1", "bleu", corpus=corpus)
        cells = [
            [symbol, *(_cell(bleu(direction=d, learned=learned)) for d in directions)]
            for learned, symbol in claims.SYMBOLS.items()
        ]
        header = ["", *(direction.replace("_", "-") for direction in directions)]
        found.append(Table(f"Table 1: BLEU, {corpus}", header, cells, ["table_1.csv"]))
    return found


def _table_2(results: measured.Results) -> list[Table]:
    """A table for each corpus, and one of its other directions."""
    corpora = results.distinct("table_2", "corpus", direction=experiments.SEARCHED)
    others = [corpus for corpus in corpora if claims.elsewhere(results, corpus)]
    return [
        *(_searched(results, corpus) for corpus in corpora),
        *(_elsewhere(results, corpus) for corpus in others),
    ]


def _searched(results: measured.Results, corpus: str) -> Table:
    cells = []
    of_columns = claims.searched(results, corpus)
    which = {"corpus": corpus, "direction": experiments.SEARCHED}
    of = functools.partial(results.by_seed, "table_2", **which)
    for kind, name in _ROWS.items():
        columns = {
            metric: [of(metric, row=kind, learned=learned) for learned in of_columns]
            for metric in ("bleu", "seconds", "runs")
        }
        # Of a column every seed has the same time, and number of runs.
        seconds, runs_of = (
            [next(iter(column.values())) for column in columns[metric]]
            for metric in ("seconds", "runs")
        )
        number = "/".join(f"{n:g}" for n in sorted(set(runs_of)))
        minutes = f"{statistics.fmean(seconds) / 60:.0f}"
        cells.append([name, minutes, number, *map(_cell, columns["bleu"])])
    symbols = [claims.SYMBOLS[learned] for learned in of_columns]
    header = ["", "minutes", "runs", *symbols]
    caption = (
        f"Table 2: BLEU, {corpus}, and the time of all runs of a row, one after the "
        "other, the mean of its columns. German to English. Runs have "
        f"{results.sizes['trial']} steps, those of Table 1 {results.sizes['translation']}"
    )
    return Table(caption, header, cells, ["table_2.csv", "trials.csv"])


def _elsewhere(results: measured.Results, corpus: str) -> Table:
    """That of shorter searches, with none for η̂."""
    directions = claims.elsewhere(results, corpus)
    which = {"corpus": corpus, "learned": experiments.ELSEWHERE}
    rows: dict[str, list[str]] = {}
    for kind in ("base", "base_tuned", "guided"):
        for metric, digits in (("bleu", 1), ("loss", 3)):
            name = _ROWS[kind] + (", loss" if metric == "loss" else "")
            of = functools.partial(results.by_seed, "table_2", metric, row=kind, **which)
            columns = [[*of(direction=d).values()] for d in directions]
            rows[name] = [repeats.text(column, digits=digits) for column in columns]
    header = ["", *(direction.replace("_", "-") for direction in directions)]
    caption = (
        f"Table 2 in other directions: BLEU and development loss, {corpus}, of "
        f"{claims.SYMBOLS[experiments.ELSEWHERE]}. Searches have "
        f"{results.sizes['other_trials']} trials, runs {results.sizes['trial']} steps"
    )
    cells = [[name, *columns] for name, columns in rows.items()]
    return Table(caption, header, cells, ["table_2.csv", "trials.csv"])


def _table_3(results: measured.Results) -> list[Table]:
    metrics = [*dict.fromkeys((r["task"], r["metric"]) for r in results.rows("table_3"))]
    cells = []
    for kind, name in (("base", "base"), ("alpha_beta1", "α+β1")):
        columns = {
            (task, metric): results.by_seed(
                "table_3", "value", pretrained=kind, task=task, metric=metric
            )
            for task, metric in metrics
        }
        tasks = [*results.of_tasks(kind).values()]
        average = {seed: statistics.fmean(t[seed] for t in tasks) for seed in tasks[0]}
        cells.append([name, *map(_cell, columns.values()), _cell(average)])
    header = ["", *(f"{task} {metric}" for task, metric in metrics), "average"]
    caption = (
        "Table 3: fine-tuned after pre-training, at a rate of 1e-2 (T5's is 1e-3), no "
        "dropout, in batches of 16; scores of the validation split at the last step"
    )
    return [Table(caption, header, cells, ["table_3.csv"])]


_TABLES = {"table_1": _table_1, "table_2": _table_2, "table_3": _table_3}
