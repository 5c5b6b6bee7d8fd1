"""Repeats the paper's experiments at the size of two cores, and makes a page of them.

The page has each claim of the paper beside what was measured, and the figures and tables
in the paper's form. Its numbers are those of CSV files, which the runs of a folder give;
runs that are done are not repeated.
"""

import argparse
from collections.abc import Sequence
import pathlib

from gbt_t5x.studies import commands, launch, processes
from gbt_t5x.studies.paper import experiments


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = commands.parser(
        "paper",
        "Repeats the paper's experiments on small models, and writes a page with each\n"
        "claim beside what was measured. Runs that are done are not repeated. The whole\n"
        "takes two cores most of a day, --quick half an hour. scripts/paper.sh makes\n"
        "the vocabularies before.",
        "--quick --jobs 2\n--only figure_1 table_1 --jobs 2\n--from docs/results/paper",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one seed, few steps, 3 trials a search"
    )
    launch.add_options(parser, "runs/paper, with --quick runs/paper_quick", seeds=False)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=experiments.PARTS,
        default=experiments.PARTS,
        metavar="PART",
        help=f"of {', '.join(experiments.PARTS)}; default: all",
    )
    parser.add_argument(
        "--corpora",
        nargs="+",
        choices=experiments.CORPORA,
        default=["templates"],
        metavar="NAME",
        help=f"of Tables 1 and 2: {', '.join(experiments.CORPORA)}; default: templates",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=pathlib.Path,
        metavar="DIR",
        help="trains nothing: makes the page of CSV files",
    )
    parser.add_argument(
        "--page",
        type=_html,
        metavar="FILE",
        help="the page; its figures are in a folder of its name; default: paper.html, "
        "beside the folder of the CSV files",
    )
    commands.run(_main, parser.parse_args(argv))


def _html(argument: str) -> pathlib.Path:
    path = pathlib.Path(argument)
    if path.suffix != ".html":
        raise argparse.ArgumentTypeError(f"{argument} is not FILE.html")
    return path


def _main(options: argparse.Namespace) -> None:
    from gbt_t5x.studies.paper import study, webpage  # which take jax and matplotlib

    default = "runs/paper_quick" if options.quick else "runs/paper"
    folder = pathlib.Path(options.folder or default)
    source = options.source
    if source is None:
        size = experiments.QUICK if options.quick else experiments.WHOLE
        made = study.Study(folder.absolute(), size, options.jobs)
        with processes.alone(folder):
            for part in options.only:
                made.make(part, options.corpora)
        source = made.results
    page = options.page or source.parent / "paper.html"
    webpage.make(source, page)
    print(page)


if __name__ == "__main__":
    main()
