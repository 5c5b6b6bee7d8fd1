"""The figure of rivals: losses and times to the target by tuning budget, and curves.

Guided configurations have no budget, and are level lines. Losses are shown as far above
the target as the best is below it; what is beyond is named, as is what does not get there
from every seed.
"""

from collections.abc import Mapping, Sequence
import math
import pathlib

from gbt_t5x.studies import figures, repeats, runs
from gbt_t5x.studies.rivals import candidates, scoring

_SHIFT = 1.025  # from one rival to the next, so that bars stand side by side
_MARGIN = 1.3  # beyond the budgets
_UNIT = "loss per target token"
_ORDER = (  # of colours and legends
    *("t5_default", "guided", "next_batch", "recipe", "linear", "cosine"),
    *("warmup_stable_decay", "constant", "adamw", "schedule_free_adamw", "prodigy"),
    "muon",
)
_Values = Mapping[float, tuple[float, float]]  # budget -> mean, deviation


def draw(results: scoring.Results, file: pathlib.Path) -> None:
    """Draws it.

    Args:
        results: what to draw.
        file: PNG or SVG by its suffix.
    """
    # A rival has its colour in all figures, though others are not there.
    every = dict.fromkeys([*_ORDER, *results.names])
    known = {name: index for index, name in enumerate(every)}
    names = sorted(results.names, key=known.__getitem__)
    losses, times, curves = [], [], []
    for name in names:
        index = known[name]
        entries = [results.entry(name, budget) for budget in results.budgets]
        guided = results.is_guided(name)
        if guided:
            ends = results.budgets[0] / _MARGIN, results.budgets[-1] * _MARGIN
            at = dict.fromkeys(ends, entries[0])
        else:
            shift = _SHIFT ** (index - len(_ORDER) / 2)
            at = {entry.budget * shift: entry for entry in entries}
        of_loss = {
            place: (entry.mean, repeats.sample_std(entry.losses) or 0.0)
            for place, entry in at.items()
            if math.isfinite(entry.mean)
        }
        ratios = {place: results.mean_ratio(entry) for place, entry in at.items()}
        of_time = {p: (ratio, 0.0) for p, ratio in ratios.items() if ratio is not None}
        losses.append(_line(index, name, of_loss, guided))
        times.append(_line(index, name, of_time, guided))
        last = [trial.loss for trial in entries[-1].trials]
        curves.append(figures.Line(index, runs.mean(last), name))
    limits, beyond = _limits(results)
    never = [line.label for line in times if not line.curve]
    tuned = f"{results.budgets[-1]} run{'s' * (results.budgets[-1] > 1)}"
    across, baseline = "runs to tune", candidates.BASELINE
    figures.draw(
        [
            figures.Panel(
                _title("Final development loss", "beyond", beyond),
                losses,
                _UNIT,
                across=across,
                ticks=results.budgets,
                limits=limits,
            ),
            figures.Panel(
                _title(f"Time to {baseline}'s final loss", "not from every seed", never),
                times,
                "of its own time",
                levels={0: 1.0},
                across=across,
                ticks=results.budgets,
            ),
            figures.Panel(
                f"Development loss, tuned by {tuned}", curves, _UNIT, limits=limits
            ),
        ],
        file,
        title=f"Task {results.task}",
    )


def _line(index: int, name: str, values: _Values, guided: bool) -> figures.Line:
    """Of a guided configuration a level line with a band, of a rival marks with bars."""
    return figures.Line(
        index,
        {place: mean for place, (mean, _) in values.items()},
        name,
        low={place: mean - deviation for place, (mean, deviation) in values.items()},
        high={place: mean + deviation for place, (mean, deviation) in values.items()},
        bars=not guided,
        marked=not guided,
    )


def _limits(
    results: scoring.Results,
) -> tuple[tuple[float, float], list[str]]:
    """The losses that are shown, and the names of rivals that are above them."""
    means: dict[str, list[float]] = {}
    for budget in results.budgets:
        for entry in results.of_budget(budget):
            means.setdefault(entry.rival, []).append(entry.mean)
    target = results.baseline.mean
    lowest = min(map(min, means.values()))
    room = max(target - lowest, 0.02 * target)
    beyond = [name for name, of_name in means.items() if min(of_name) > target + room]
    return (lowest - 0.25 * room, target + room), beyond


def _title(title: str, what: str, names: Sequence[str]) -> str:
    """With the names, if there are any, in lines of up to three."""
    if not names:
        return title
    lines = [", ".join(names[i : i + 3]) for i in range(0, len(names), 3)]
    return f"{title}\n{what}: " + ",\n".join(lines)
