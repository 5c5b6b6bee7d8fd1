"""Trains rivals, each with the same tuning budget.

Tuning runs have the first seed alone, and the best setting of each budget has all seeds,
so budgets share their runs. A run that fails is a result, the worst, and is told.
"""

from collections.abc import Mapping, Sequence
import pathlib

from gbt_t5x.studies import launch, processes, runs, tables
from gbt_t5x.studies.rivals import candidates, scoring


def choose(
    rivals: Sequence[candidates.Rival], names: Sequence[str]
) -> list[candidates.Rival]:
    """Those of some names, and the baseline; all of no names.

    Raises:
        ValueError: there is none of a name.
    """
    known = [rival.name for rival in rivals]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"--only {', '.join(unknown)}: the rivals here are {', '.join(known)}"
        )
    wanted = {*names, candidates.BASELINE} if names else set(known)
    return [rival for rival in rivals if rival.name in wanted]


def settings_table(rivals: Sequence[candidates.Rival], style: str = "text") -> str:
    """The settings of rivals, in the order in which budgets take them."""
    rows = [
        [rival.name, str(number), ", ".join([*rival.bindings, *setting])]
        for rival in rivals
        for number, setting in enumerate(rival.settings, 1)
    ]
    return tables.render(["rival", "setting", "bindings"], rows, style, left=3)


def train(
    rivals: Sequence[candidates.Rival],
    folder: pathlib.Path,
    *,
    budgets: Sequence[int],
    seeds: Sequence[int],
    jobs: int = 1,
) -> scoring.Results:
    """Trains the settings of the largest budget, then the best of each from all seeds.

    Args:
        rivals: with the baseline.
        folder: of the runs.
        budgets: at least one.
        seeds: the first is that of the search.
        jobs: runs at once.

    Raises:
        ValueError: the folder has runs of another study; the baseline failed.
    """
    _check_folder(folder, rivals)
    seeds = [*dict.fromkeys(seeds)]
    with processes.alone(folder):
        trials = _train(rivals, folder, budgets, seeds, jobs)
    return scoring.Results(trials, budgets, seeds)


def _train(
    rivals: Sequence[candidates.Rival],
    folder: pathlib.Path,
    budgets: Sequence[int],
    seeds: Sequence[int],
    jobs: int,
) -> list[scoring.Trial]:
    """All settings from the first seed, and the best of each budget from the others."""
    trials: list[scoring.Trial] = []

    def add(chosen: Mapping[str, Sequence[int]], seeds: Sequence[int]) -> None:
        # The first settings of all rivals, then the second ones: they compare early.
        settings = sorted({s for of_rival in chosen.values() for s in of_rival})
        planned = [
            (rival, setting)
            for setting in settings
            for rival in rivals
            if setting in chosen[rival.name]
        ]
        variants = [rival.variant(setting) for rival, setting in planned]
        failures: dict[pathlib.Path, str] = {}
        trained = launch.train(
            variants, folder, seeds=seeds, jobs=jobs, failures=failures
        )
        for (rival, setting), variant in zip(planned, variants, strict=True):
            trials.extend(
                _trial(rival, setting, seed, model_dir, failures.get(model_dir, ""))
                for seed, model_dir in zip(seeds, trained[variant.name], strict=True)
            )

    largest = max(budgets)
    add({r.name: range(1, min(largest, len(r.settings)) + 1) for r in rivals}, seeds[:1])
    best = {
        rival.name: {
            scoring.best(trials, rival.name, budget, seeds[0]) for budget in budgets
        }
        for rival in rivals
    }
    best[candidates.BASELINE] |= {1}  # the target
    if seeds[1:]:
        add({name: sorted(of_rival) for name, of_rival in best.items()}, seeds[1:])
    return trials


def _check_folder(folder: pathlib.Path, rivals: Sequence[candidates.Rival]) -> None:
    """Raises ValueError if runs of another study are there."""
    found = {path.parent.parent.name for path in folder.glob(f"*/*/{launch.STATE}")}
    ours = {name for name in found if name.rpartition("_")[2].isdigit()}
    others = sorted(found - ours)
    if others:
        here = ", ".join(rival.variant(1).name for rival in rivals)
        raise ValueError(
            f"{folder} has the runs {', '.join(others)}, of another study, and those of "
            f"this one are {here} and further settings: name another --folder"
        )


def _trial(
    rival: candidates.Rival,
    setting: int,
    seed: int,
    model_dir: pathlib.Path,
    problem: str,
) -> scoring.Trial:
    try:
        run = runs.read_run(model_dir) if problem else runs.read_finished_run(model_dir)
    except ValueError:
        if not problem:
            raise
        run = None  # it failed before its first evaluation
    return scoring.Trial(
        task=run.task if run else "",
        rival=rival.name,
        setting=setting,
        bindings=", ".join(rival.settings[setting - 1]),
        is_guided=rival.is_guided,
        seed=seed,
        loss=run.loss if run else {},
        seconds_per_step=run.seconds_per_step if run else None,
        problem=problem,
    )
