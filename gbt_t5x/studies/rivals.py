"""Trains what a user would pick in place of guidance, each with the same tuning budget.

`rival_settings` has the rivals and their settings, `rival_results` how they are compared.
Tuning runs have the first seed alone, and the best setting of each budget has all seeds,
so budgets share their runs. A run that fails is a result, the worst, and is told.
"""

import argparse
from collections.abc import Mapping, Sequence
import pathlib

from gbt_t5x.studies import (
    commands,
    launch,
    rival_results,
    rival_settings,
    runs,
    tables,
)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = commands.parser(
        "rivals",
        "Trains a small model by guidance and by what a user would pick instead, on the\n"
        "same data and steps. Each rival is tuned by a number of runs, its budget, from\n"
        "the first seed; its best setting is then run from every seed. Runs that are\n"
        "done are not repeated, and budgets share them: begin with --budgets 1.\n"
        "--gin.NAME=VALUE sets macros of all runs.",
        "quickstart --budgets 1\n"
        'offline_translation --gin.DIRECTION=\\"de_en\\" --only cosine recipe\n'
        "quickstart --from rivals.csv --figure rivals.png",
    )
    parser.add_argument("corpus", choices=rival_settings.CORPORA)
    launch.add_options(parser, "runs/rivals/CORPUS")
    parser.set_defaults(seeds=None)
    known = rival_settings.BUDGETS
    parser.add_argument(
        "--budgets",
        type=int,
        nargs="+",
        metavar="N",
        help=f"runs to tune each rival by, up to {known[-1]}; "
        f"default: {' '.join(map(str, known))}",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"these rivals, and {rival_settings.BASELINE}, the baseline",
    )
    parser.add_argument(
        "--csv",
        type=pathlib.Path,
        metavar="FILE",
        help="every run's numbers, and beside it FILE_curves the losses; default: "
        "rivals.csv in the folder",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=pathlib.Path,
        metavar="CSV",
        help="trains nothing: shows what such a file has",
    )
    parser.add_argument(
        "--list", action="store_true", help="trains nothing: shows the settings"
    )
    commands.add_figure(parser, "rivals.png in the folder")
    commands.add_format(parser, *tables.STYLES)
    commands.run(_main, *commands.parse_with_gin(parser, argv))


def _main(options: argparse.Namespace, bindings: Sequence[str]) -> None:
    budgets = options.budgets or ()
    if not set(budgets) <= set(range(1, rival_settings.BUDGETS[-1] + 1)):
        raise ValueError(
            f"--budgets {' '.join(map(str, budgets))}: a rival has "
            f"{rival_settings.BUDGETS[-1]} settings, and a budget is of 1 or more"
        )
    csv, figure = options.csv, options.figure
    if options.source:
        seeds = options.seeds or ()
        results = rival_results.read(options.source, budgets, seeds, options.only)
    else:
        chosen = choose(rival_settings.rivals(options.corpus, bindings), options.only)
        if options.list:
            print(settings_table(chosen, options.format), end="")
            return
        folder = pathlib.Path(options.folder or f"runs/rivals/{options.corpus}")
        results = train(
            chosen,
            folder,
            budgets=budgets or rival_settings.BUDGETS,
            seeds=options.seeds or [0, 1, 2],
            jobs=options.jobs,
        )
        csv, figure = csv or folder / "rivals.csv", figure or folder / "rivals.png"
    if csv:
        rival_results.write(results, csv)
    print(rival_results.table(results, options.format), end="")
    if figure:
        from gbt_t5x.studies import rival_figure  # which takes matplotlib

        rival_figure.draw(results, figure)


def choose(
    rivals: Sequence[rival_settings.Rival], names: Sequence[str]
) -> list[rival_settings.Rival]:
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
    wanted = {*names, rival_settings.BASELINE} if names else set(known)
    return [rival for rival in rivals if rival.name in wanted]


def settings_table(rivals: Sequence[rival_settings.Rival], style: str = "text") -> str:
    """The settings of rivals, in the order in which budgets take them."""
    rows = [
        [rival.name, str(number), ", ".join([*rival.bindings, *setting])]
        for rival in rivals
        for number, setting in enumerate(rival.settings, 1)
    ]
    return tables.render(["rival", "setting", "bindings"], rows, style, left=3)


def train(
    rivals: Sequence[rival_settings.Rival],
    folder: pathlib.Path,
    *,
    budgets: Sequence[int],
    seeds: Sequence[int],
    jobs: int = 1,
) -> rival_results.Results:
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
    seeds = list(dict.fromkeys(seeds))
    trials: list[rival_results.Trial] = []

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
            rival_results.best(trials, rival.name, budget, seeds[0]) for budget in budgets
        }
        for rival in rivals
    }
    best[rival_settings.BASELINE] |= {1}  # the target
    if seeds[1:]:
        add({name: sorted(of_rival) for name, of_rival in best.items()}, seeds[1:])
    return rival_results.Results(trials, budgets, seeds)


def _check_folder(folder: pathlib.Path, rivals: Sequence[rival_settings.Rival]) -> None:
    """Raises ValueError if runs of another study are there."""
    found = {path.parent.parent.name for path in folder.glob("*/*/study.json")}
    corpus_names = {name for name in found if name.rpartition("_")[2].isdigit()}
    others = sorted(found - corpus_names)
    if others:
        here = ", ".join(rival.variant(1).name for rival in rivals)
        raise ValueError(
            f"{folder} has the runs {', '.join(others)}, of another study, and those of "
            f"this one are {here} and further settings: name another --folder"
        )


def _trial(
    rival: rival_settings.Rival,
    setting: int,
    seed: int,
    model_dir: pathlib.Path,
    problem: str,
) -> rival_results.Trial:
    try:
        run = runs.read_run(model_dir)
    except ValueError:
        if not problem:
            raise
        run = None  # it failed before its first evaluation
    return rival_results.Trial(
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


if __name__ == "__main__":
    main()
