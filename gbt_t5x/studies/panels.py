"""The figure of a comparison: development losses and learned schedules.

Of several seeds lines are means, and where few are compared bands go from the lowest to
the highest seed. Of groups the line is the median, and the band goes from the lowest to
the highest group; a few groups of one run have lines with their names.
"""

from collections.abc import Mapping, Sequence
import pathlib
import statistics

from gbt_t5x.studies import figures, runs, seeds

_FEW = 4  # lines with bands; groups with lines


def draw(compared: Sequence[seeds.Seeds], file: pathlib.Path) -> None:
    """Draws the comparison.

    Args:
        compared: the baseline first.
        file: PNG or SVG, by its suffix.
    """
    few = len(compared) <= _FEW
    losses = [[run.loss for run in entry.runs] for entry in compared]
    panels = [_losses("Development loss", compared, losses, few)]
    if len(compared) > 1:
        panels += _differences(compared, few)
    panels += _learning_rates(compared)
    kinds = {name.partition("/")[0] for entry in compared for name in entry.hyperparams}
    panels += [_hyperparam(kind, compared) for kind in sorted(kinds)]
    figures.draw(panels, file, title=f"Task {compared[0].task}")


def _losses(
    title: str,
    compared: Sequence[seeds.Seeds],
    curves: Sequence[Sequence[runs.Curve]],
    bands: bool,
) -> figures.Panel:
    """A panel of the curves of every run."""
    lines = [
        figures.of_several(index, of_runs, entry.label, band=bands, marked=True)
        for index, (entry, of_runs) in enumerate(zip(compared, curves, strict=True))
    ]
    return figures.Panel(title, lines, "loss per target token")


def _differences(compared: Sequence[seeds.Seeds], bands: bool) -> list[figures.Panel]:
    """Losses less that of the baseline's run of the same seed, where both have one."""
    first = compared[0]
    shared = [s for s in first.loss if all(s in entry.loss for entry in compared)]
    if not shared:
        return []
    curves = [
        [
            {step: run.loss[step] - baseline.loss[step] for step in shared}
            for run, baseline in zip(entry.runs, first.runs, strict=True)
        ]
        for entry in compared
    ]
    return [_losses(f"Difference to {first.label}", compared, curves, bands)]


def _learning_rates(compared: Sequence[seeds.Seeds]) -> list[figures.Panel]:
    curves = {
        index: entry.effective_learning_rate
        for index, entry in enumerate(compared)
        if entry.effective_learning_rate
    }
    title = "Learning rate, times alpha"
    return [_schedules(title, compared, curves)] if curves else []


def _hyperparam(kind: str, compared: Sequence[seeds.Seeds]) -> figures.Panel:
    curves: dict[int, runs.Curves] = {}
    levels: dict[int, float] = {}
    for index, entry in enumerate(compared):
        of_kind = {
            name.partition("/")[2]: curve
            for name, curve in entry.hyperparams.items()
            if name.partition("/")[0] == kind
        }
        fixed = entry.fixed(kind)
        if of_kind:
            curves[index] = of_kind
        elif isinstance(fixed, float) and fixed not in levels.values():
            levels[index] = fixed
    return _schedules(f"{kind}, learned", compared, curves, levels)


def _schedules(
    title: str,
    compared: Sequence[seeds.Seeds],
    curves: Mapping[int, runs.Curves],
    levels: Mapping[int, float] | None = None,
) -> figures.Panel:
    """A panel of index -> group -> curve."""
    groups = {index: len(of_group) for index, of_group in curves.items()}
    single = sum(number > 1 for number in groups.values()) == 1
    lines: list[figures.Line] = []
    for index, of_group in curves.items():
        label = compared[index].label
        if groups[index] > 1 and not (single and groups[index] <= _FEW):
            groups_of = [*of_group.values()]
            lines.append(figures.of_several(index, groups_of, label, statistics.median))
            title += f"\nmedian and range of {groups[index]} groups" * single
            continue
        lines += [
            figures.Line(index, curve, label, note=group, dash=number)
            for number, (group, curve) in enumerate(of_group.items())
        ]
    if not single and max(groups.values(), default=1) > 1:
        title += "\nmedians and ranges of groups"
    return figures.Panel(title, lines, levels=levels or {})
