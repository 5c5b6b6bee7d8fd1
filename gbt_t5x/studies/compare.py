"""Compares runs, or runs from several seeds, with the first: the baseline.

Times are steps times the median seconds of a step, as of one machine: evaluations and the
start do not count. The baseline's final loss is reached at the first evaluation at or
below it. Of several seeds the curves are means over them. ± of a loss is the sample
standard deviation (n - 1) over the seeds, of a difference the standard error of the mean
of the differences of each seed.
"""

import argparse
from collections.abc import Iterable, Sequence
import pathlib
import statistics

from gbt_t5x.studies import commands, repeats, seeds, tables

_MANY_GROUPS = 4  # of a hyper-parameter; more than these are shown as a range


def table(compared: Sequence[seeds.Seeds], style: str = "text") -> str:
    """The comparison: of up to three single runs a column each, of others a row each.

    Args:
        compared: the baseline first.
        style: one of `tables.STYLES`. CSV has a row for each.
    """
    several = len(compared[0].runs) > 1
    columns = _columns(compared)
    title = f"Task {compared[0].task}, loss per target token"
    if several or len(compared) > 3 or style == "csv":
        if several:
            title += f", {len(compared[0].runs)} seeds"
        headings, cells = zip(*columns, *_short_schedules(compared), strict=True)
        rows = [
            [entry.label, *row]
            for entry, row in zip(compared, zip(*cells, strict=True), strict=True)
        ]
        return tables.render(["", *headings], rows, style, title=title)
    columns[-1:-1] = _schedules(compared)
    header = ["", *(entry.label for entry in compared)]
    return tables.render(header, [[h, *c] for h, c in columns], style, title=title)


_Column = tuple[str, list[str]]  # heading, and a cell for each of those compared


def _columns(compared: Sequence[seeds.Seeds]) -> list[_Column]:
    """All but the hyper-parameters; the seconds of a step come last."""
    first = compared[0]
    goal = statistics.fmean(first.final_losses)
    columns = [("steps", [str(entry.last_step) for entry in compared])]
    if len(first.runs) > 1:
        by_seed = [", ".join(f"{x:.4f}" for x in s.final_losses) for s in compared]
        columns.append(("final development loss by seed", by_seed))
        columns.append(("mean", [repeats.text(entry.final_losses) for entry in compared]))
    else:
        losses = [repeats.text(entry.final_losses) for entry in compared]
        columns.append(("final development loss", losses))
    if len(compared) > 1:
        against = ["-", *(_difference(entry, first) for entry in compared[1:])]
        columns.append(("difference to the baseline", against))
    steps = [entry.steps_to(goal) for entry in compared]
    seconds = [entry.seconds_to(goal) for entry in compared]
    columns += [
        (
            "steps to the baseline's final loss",
            ["not reached" if x is None else str(x) for x in steps],
        ),
        (
            "seconds to the baseline's final loss",
            [
                "not reached" if step is None else "-" if x is None else f"{x:.1f}"
                for step, x in zip(steps, seconds, strict=True)
            ],
        ),
    ]
    each = [entry.seconds_per_step for entry in compared]
    columns.append(("seconds per step", ["-" if t is None else f"{t:.4f}" for t in each]))
    return columns


def _difference(entry: seeds.Seeds, first: seeds.Seeds) -> str:
    """Of the final losses, if they are of the same step."""
    if entry.last_step != first.last_step:
        return "-"
    pairs = zip(entry.final_losses, first.final_losses, strict=True)
    return repeats.with_error([a - b for a, b in pairs])


def _schedules(compared: Sequence[seeds.Seeds]) -> list[_Column]:
    """Every learned hyper-parameter, at the first and last steps where one learns it."""
    ends: dict[str, set[int]] = {}
    for entry in compared:
        for name, curve in entry.hyperparams.items():
            ends.setdefault(name, set()).update((min(curve), max(curve)))
    columns = []
    for kind, names in _by_kind(ends).items():
        if len(names) <= _MANY_GROUPS:
            columns += [
                (f"{name} at step {step}", [_at(s, [name], step) for s in compared])
                for name in names
                for step in sorted(ends[name])
            ]
            continue
        for step in sorted(set().union(*(ends[name] for name in names))):
            groups = [n for n in names if "/" in n]
            number = max(sum(n in s.hyperparams for n in groups) for s in compared)
            heading = f"{kind} at step {step}, {number} groups"
            columns.append((heading, [_at(s, names, step) for s in compared]))
    return columns


def _by_kind(names: Iterable[str]) -> dict[str, list[str]]:
    """`alpha` -> `alpha/encoder`, `alpha/decoder`."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.partition("/")[0], []).append(name)
    return kinds


def _at(entry: seeds.Seeds, names: Sequence[str], step: int) -> str:
    """The value of a hyper-parameter at a step, or the range of its groups' values."""
    learned = [entry.hyperparams[name] for name in names if name in entry.hyperparams]
    if not learned:
        fixed = entry.fixed(names[0])
        return fixed.lower() if isinstance(fixed, str) else _plain(fixed)
    values = [curve[step] for curve in learned if step in curve]
    if len(values) < 2:
        return _number(values[0]) if values else "-"
    return f"{_number(min(values))} to {_number(max(values))}"


def _short_schedules(compared: Sequence[seeds.Seeds]) -> list[_Column]:
    """All learned hyper-parameters of each, in one cell for the first and last step."""

    def cell(entry: seeds.Seeds, end: int) -> str:
        parts = []
        for kind, names in _by_kind(entry.hyperparams).items():
            values = {n: list(entry.hyperparams[n].values())[end] for n in names}
            if len(names) <= _MANY_GROUPS:
                parts += [f"{name} {_short(value)}" for name, value in values.items()]
            else:
                low, high = min(values.values()), max(values.values())
                parts.append(f"{kind} {_short(low)} to {_short(high)}")
        return ", ".join(parts) or ("replayed" if entry.is_replayed else "-")

    if not any(entry.hyperparams for entry in compared):
        return []
    return [
        ("learned, at the first step", [cell(entry, 0) for entry in compared]),
        ("learned, at the last step", [cell(entry, -1) for entry in compared]),
    ]


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 1e-3 or not value else f"{value:.2e}"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 1e-2 or not value else f"{value:.1e}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def report(
    compared: Sequence[seeds.Seeds],
    *,
    style: str = "text",
    figure: pathlib.Path | None = None,
) -> None:
    """Prints the comparison, and draws it.

    Args:
        compared: the baseline first.
        style: one of `tables.STYLES`.
        figure: a file to draw to, PNG or SVG.

    Raises:
        ValueError: they do not compare.
    """
    seeds.check(compared)
    first = compared[0]
    for entry in compared[1:]:
        if entry.last_step != first.last_step:
            commands.say(
                f"{entry.label} was evaluated last at step {entry.last_step}, and "
                f"{first.label} at {first.last_step}: their final losses do not compare"
            )
    print(table(compared, style), end="")
    if figure:
        from gbt_t5x.studies import panels  # which takes matplotlib

        panels.draw(compared, figure)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = commands.parser(
        "compare",
        "Compares runs with the first, the baseline. A DIR is a MODEL_DIR, or a folder\n"
        "that holds one for every seed. ± of a loss is the standard deviation over the\n"
        "seeds, of a difference the standard error of its mean.",
        "runs/quickstart/baseline runs/quickstart/guided --figure runs/report.png",
    )
    parser.add_argument("runs", nargs="+", metavar="[LABEL=]DIR", help="a run, or seeds")
    commands.add_figure(parser)
    commands.add_format(parser, *tables.STYLES)
    commands.run(_main, parser.parse_intermixed_args(argv))


def _main(options: argparse.Namespace) -> None:
    labelled = commands.all_labelled(options.runs)
    compared = [seeds.read(label, folder) for label, folder in labelled]
    report(compared, style=options.format, figure=options.figure)


if __name__ == "__main__":
    main()
