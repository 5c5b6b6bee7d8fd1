"""Trains what a user would pick in place of guidance, tuned by the same budgets."""

import argparse
from collections.abc import Sequence
import pathlib

from gbt_t5x.studies import commands, launch, tables
from gbt_t5x.studies.rivals import candidates, files, scoring, study


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = commands.parser(
        "rivals",
        "Trains a small model by guidance and by what a user would pick instead, on the\n"
        "same data and steps. Each rival is tuned by a number of runs, its budget, from\n"
        "the first seed; its best setting is then run from every seed. Runs that are\n"
        "done are not repeated, and budgets share them: begin with --budgets 1.\n"
        "--gin.NAME=VALUE sets macros of all runs. ± of a loss is its standard\n"
        "deviation over the seeds, of a difference the standard error of its mean.",
        "quickstart --budgets 1\n"
        'offline_translation --gin.DIRECTION=\\"de_en\\" --only cosine recipe\n'
        "quickstart --from rivals.csv --figure rivals.png",
    )
    parser.add_argument("corpus", choices=candidates.CORPORA)
    launch.add_options(parser, "runs/rivals/CORPUS")
    parser.set_defaults(seeds=None)
    known = candidates.BUDGETS
    parser.add_argument(
        "--budgets",
        type=commands.number(int),
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
        help=f"these rivals, and {candidates.BASELINE}, the baseline",
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
        help="trains nothing: shows what such a file has, of whichever corpus",
    )
    parser.add_argument(
        "--list", action="store_true", help="trains nothing: shows the settings"
    )
    commands.add_figure(parser, "rivals.png in the folder")
    commands.add_format(parser, *tables.STYLES)
    commands.run(_main, *commands.parse_with_gin(parser, argv))


def _main(options: argparse.Namespace, bindings: Sequence[str]) -> None:
    budgets = options.budgets or ()
    if max(budgets, default=1) > candidates.BUDGETS[-1]:
        raise ValueError(
            f"--budgets {' '.join(map(str, budgets))}: a rival has "
            f"{candidates.BUDGETS[-1]} settings"
        )
    csv, figure = options.csv, options.figure
    if options.source:
        if bindings or options.list or options.folder:
            raise ValueError(
                "--from takes what was trained, as it is: not with --gin, --list and "
                "--folder"
            )
        seeds = options.seeds or ()
        results = files.read(options.source, budgets, seeds, options.only)
    else:
        chosen = study.choose(candidates.rivals(options.corpus, bindings), options.only)
        if options.list:
            print(study.settings_table(chosen, options.format), end="")
            return
        folder = pathlib.Path(options.folder or f"runs/rivals/{options.corpus}")
        results = study.train(
            chosen,
            folder,
            budgets=budgets or candidates.BUDGETS,
            seeds=options.seeds or [0, 1, 2],
            jobs=options.jobs,
        )
        csv, figure = csv or folder / "rivals.csv", figure or folder / "rivals.png"
    if csv:
        files.write(results, csv)
    print(scoring.table(results, options.format), end="")
    if figure:
        from gbt_t5x.studies.rivals import plot  # which takes matplotlib

        plot.draw(results, figure)


if __name__ == "__main__":
    main()
