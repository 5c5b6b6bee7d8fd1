"""Compares runs with different sources of the guidance gradient: a table and a picture.

Command: python scripts/report_sources.py DIR ... --png FILE

DIR is named after a source and holds a MODEL_DIR for every seed, as
scripts/compare_sources.sh makes them.
"""

import argparse
from collections.abc import Mapping, Sequence
import pathlib
import statistics

from matplotlib import figure

import report

_BASELINE = "baseline"
_COLORS = ("#1f5fa8", "#c2691c", "#2a7f62", "#7a4fa3", "#b03a48", "#2b8c9b", "#96631f")

Runs = Mapping[str, Sequence[report.Run]]  # source -> one run for every seed


def read(folders: Sequence[pathlib.Path]) -> Runs:
    """Reads every seed of every source, the baseline first.

    Raises:
        SystemExit: a source has no run, or other seeds than the first has.
    """
    seeds = {f.name: sorted(p for p in f.iterdir() if p.is_dir()) for f in folders}
    names = {name: [path.name for path in paths] for name, paths in seeds.items()}
    for name in names:
        if not names[name] or names[name] != names[next(iter(names))]:
            raise SystemExit(f"report_sources: seeds differ, {name} has {names[name]}")
    order = sorted(seeds, key=lambda name: (name != _BASELINE, name))
    return {name: [report.read_run(path) for path in seeds[name]] for name in order}


def _mean(curves: Sequence[report.Curve]) -> report.Curve:
    return {step: statistics.fmean(c[step] for c in curves) for step in curves[0]}


def _final(run: report.Run) -> float:
    return list(run.loss.values())[-1]


def table(runs: Runs) -> str:
    """Development loss of each seed at the last step, and the schedules' end."""
    baseline = [_final(run) for run in runs[_BASELINE]] if _BASELINE in runs else None
    lines = ["| Source | Development loss by seed | Mean | Against the baseline | λ |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name, of_seeds in runs.items():
        losses = [_final(run) for run in of_seeds]
        against = "-"
        if baseline and name != _BASELINE:
            differences = [a - b for a, b in zip(losses, baseline, strict=True)]
            against = f"{statistics.fmean(differences):+.4f}"
            if len(differences) > 1:
                against += f" ± {statistics.stdev(differences):.4f}"
        learned = ", ".join(
            f"{h} {list(_mean([r.hyperparams[h] for r in of_seeds]).values())[-1]:.3f}"
            for h in of_seeds[0].hyperparams
        )
        by_seed = ", ".join(f"{x:.4f}" for x in losses)
        mean = f"{statistics.fmean(losses):.4f}"
        lines.append(f"| {name} | {by_seed} | {mean} | {against} | {learned or '-'} |")
    return "\n".join(lines)


def draw(runs: Runs, png: pathlib.Path) -> None:
    """Draws means over the seeds: losses against the baseline's, and schedules."""
    learned = sorted({h for of_seeds in runs.values() for h in of_seeds[0].hyperparams})
    task = next(iter(runs.values()))[0].task
    fig = figure.Figure(
        figsize=(5 * (1 + len(learned)), 5), dpi=100, layout="constrained"
    )
    fig.suptitle(f"Sources of the guidance gradient, means over seeds: {task}")
    left, *others = fig.subplots(1, 1 + len(learned), squeeze=False)[0]
    reference = _mean([run.loss for run in runs[next(iter(runs))]])
    colors = dict(zip(runs, ("#808080", *_COLORS), strict=False))
    for name, of_seeds in runs.items():
        loss = _mean([run.loss for run in of_seeds])
        values = [loss[step] - reference[step] for step in loss]
        left.plot(list(loss), values, "o-", ms=3, color=colors[name], label=name)
    first = next(iter(runs))
    left.set(title=f"Development loss, less that of {first}", ylabel="per target token")
    for axes, hyperparam in zip(others, learned, strict=True):
        for name, of_seeds in runs.items():
            if hyperparam in of_seeds[0].hyperparams:
                curve = _mean([run.hyperparams[hyperparam] for run in of_seeds])
                axes.plot(list(curve), list(curve.values()), color=colors[name])
        axes.set(title=f"{hyperparam}, learned")
        axes.set_ylim(bottom=0)
    for axes in (left, *others):
        axes.set_xlabel("step")
        axes.grid(color="#e6e6e6", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    png.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(png)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=pathlib.Path, nargs="+", metavar="DIR")
    parser.add_argument("--png", type=pathlib.Path, required=True, metavar="FILE")
    args = parser.parse_args(argv)
    runs = read(args.folders)
    print(table(runs))
    draw(runs, args.png)


if __name__ == "__main__":
    main()
