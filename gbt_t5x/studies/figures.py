"""Draws curves: the colours, axes, legend and files of all figures.

Colours are Okabe and Ito's, which colour-blind readers tell apart, after a grey for the
first, the baseline. More curves than colours differ by their dashes.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import pathlib
import statistics
from typing import Any

import matplotlib
from matplotlib import axes as mpl_axes, figure, ticker

COLORS = (
    *("#6b6b6b", "#0072b2", "#d55e00", "#009e73"),
    *("#cc79a7", "#e69f00", "#56b4e9", "#7a4f1d"),
)
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_LEGEND: Any = {"frameon": False, "handlelength": 3.0}  # long enough for dashes
_NOTE_HEIGHT = 0.06  # of the axes
_LOG_FROM = 50.0  # of largest to smallest

Curve = Mapping[int, float] | Mapping[float, float]


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve of a panel.

    Attributes:
        index: chooses the colour; one number is one colour in all panels.
        curve: the values.
        label: of the legend; what has the label of a line before is not there twice.
        low, high: a band around the curve, for example of seeds.
        bars: has bars at the values in place of the band.
        marked: whether every value has a mark, as where there are few.
        joined: whether a line joins the values.
        note: stands at the line's end.
        dash: tells it from other lines of its colour.
    """

    index: int
    curve: Curve
    label: str
    low: Curve | None = None
    high: Curve | None = None
    bars: bool = False
    marked: bool = False
    joined: bool = True
    note: str = ""
    dash: int = 0


@dataclasses.dataclass(frozen=True)
class Panel:
    """A part of a figure, with axes of its own.

    Attributes:
        title: above it.
        lines: what it shows.
        unit: of the values.
        levels: index -> value, for what is constant: a thin dotted line.
        across: what the curves are against.
        ticks: the values of that, on a logarithmic axis.
        scale: of that, as Matplotlib names it; without both, whole numbers from 0.
        limits: of the values that are shown; all by default.
    """

    title: str
    lines: Sequence[Line]
    unit: str = ""
    levels: Mapping[int, float] = dataclasses.field(default_factory=dict)
    across: str = "step"
    ticks: Sequence[float] = ()
    scale: str = ""
    limits: tuple[float, float] | None = None


def of_several(
    index: int,
    curves: Sequence[Mapping[Any, float]],
    label: str,
    middle: Callable[[Sequence[float]], float] = statistics.fmean,
    *,
    band: bool = True,
    **look: Any,
) -> Line:
    """A line of several curves, at the steps that all have.

    Args:
        index: of the line.
        curves: at least one.
        label: of the line.
        middle: of the values of a step, which is the line's.
        band: whether one goes from the lowest to the highest, if they are several.
        **look: further attributes of the line.
    """
    of_step = {
        step: [curve[step] for curve in curves]
        for step in curves[0]
        if all(step in curve for curve in curves)
    }
    if band and len(curves) > 1:
        look["low"] = {step: min(values) for step, values in of_step.items()}
        look["high"] = {step: max(values) for step, values in of_step.items()}
    return Line(index, {s: middle(v) for s, v in of_step.items()}, label, **look)


def draw(panels: Sequence[Panel], file: pathlib.Path, *, title: str = "") -> None:
    """Draws panels side by side, with one legend for all.

    Args:
        panels: at least one.
        file: PNG or SVG by its suffix; its folder is made.
        title: of the figure.
    """
    # Of up to three panels one row; of four a square; of more rows of three.
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    labels = {line.label for panel in panels for line in panel.lines}
    width = max(5.2, 4.6 * columns)
    across = max(1, min(len(labels), int(width / 2.6)))
    below = 0.2 * max(0, math.ceil(len(labels) / across) - 3)
    size = (width, 3.6 * rows + 0.9 + below)
    settings: Any = {"font.size": 10, "axes.titlesize": 11, "svg.hashsalt": "gbt_t5x"}
    with matplotlib.rc_context(settings):
        fig = figure.Figure(figsize=size, dpi=120, layout="constrained")
        if title:
            fig.suptitle(title, fontsize=12)
        grid = fig.subplots(rows, columns, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            _draw_panel(axes, panel)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        entries: dict[str, Any] = {}
        for axes in grid:
            handles, labels = axes.get_legend_handles_labels()
            for label, handle in zip(labels, handles, strict=True):
                entries.setdefault(label, handle)
        free = grid[len(panels) :]
        if len(free) and len(entries) <= 14:
            free[0].legend(entries.values(), entries, loc="center", **_LEGEND)
        else:
            fig.legend(
                entries.values(),
                entries,
                loc="outside lower center",
                ncols=across,
                **_LEGEND,
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        # Without the date, two files of the same runs are the same.
        fig.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def style(index: int, dash: int = 0) -> dict[str, Any]:
    """Colour and dashes. The grey is that of index 0 alone."""
    around, colour = divmod(max(index - 1, 0), len(COLORS) - 1)
    dashes = _DASHES[(around + dash) % len(_DASHES)]
    return {"color": COLORS[colour + 1 if index else 0], "linestyle": dashes}


def _draw_panel(axes: mpl_axes.Axes, panel: Panel) -> None:
    for line in panel.lines:
        steps, values = list(line.curve), list(line.curve.values())
        marker = "o" if line.marked else None
        look = style(line.index, line.dash)
        if not line.joined:
            look["linestyle"] = ""
        axes.plot(steps, values, label=line.label, lw=1.8, marker=marker, ms=3.5, **look)
        if line.low is None or line.high is None:
            continue
        band = (list(line.low), list(line.low.values()), list(line.high.values()))
        if line.bars:
            axes.vlines(*band, color=look["color"], lw=1.2)
        else:
            axes.fill_between(*band, color=look["color"], alpha=0.16, lw=0)
    for index, value in panel.levels.items():
        axes.axhline(value, color=style(index)["color"], lw=1.2, ls=":", zorder=1)
    _scale(axes, panel)
    axes.set_title(panel.title)
    axes.set(xlabel=panel.across, ylabel=panel.unit)
    if panel.ticks:
        axes.set_xscale("log")
        axes.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])
        axes.minorticks_off()
    elif panel.scale:
        axes.set_xscale(panel.scale)
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=7, integer=True))
    if panel.limits:
        axes.set_ylim(*panel.limits)
    axes.grid(color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _write_notes(axes, panel)


def _write_notes(axes: mpl_axes.Axes, panel: Panel) -> None:
    """Writes the notes beside the ends of their lines, one above the other."""
    to_axes = axes.transData + axes.transAxes.inverted()
    noted = [line for line in panel.lines if line.note and line.curve]
    ends = [(to_axes.transform([*line.curve.items()][-1])[1], line) for line in noted]
    lowest = -math.inf
    for height, line in sorted(ends, key=lambda end: end[0]):
        lowest = max(height, lowest + _NOTE_HEIGHT)
        axes.text(
            1.01,
            lowest,
            line.note,
            transform=axes.transAxes,
            color=style(line.index)["color"],
            fontsize=8,
            va="center",
        )


def _scale(axes: mpl_axes.Axes, panel: Panel) -> None:
    """Logarithmic where values differ by orders, from 0 where that wastes no room."""
    drawn = [*panel.levels.values()]
    for line in panel.lines:
        for curve in (line.curve, line.low, line.high):
            drawn += [x for x in (curve or {}).values() if math.isfinite(x)]
    if panel.limits:
        low, high = panel.limits
        drawn = [x for x in drawn if low <= x <= high]
    if not drawn or min(drawn) < 0:
        return
    if min(drawn) > 0 and max(drawn) / min(drawn) > _LOG_FROM:
        axes.set_yscale("log")
    elif min(drawn) < 0.25 * max(drawn):
        axes.set_ylim(bottom=0)
