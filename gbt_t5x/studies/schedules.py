"""Exports what a guided run learned: a CSV file, and a gin file that replays it.

The CSV file is that of `gbt_t5x.schedule`; `gbt_t5x.studies.exports` has what is in both.
"""

import argparse
from collections.abc import Sequence

from gbt_t5x.studies import commands


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = commands.parser(
        "schedules",
        "Exports what a guided run learned, as a CSV file and as a gin file that\n"
        "replays it without guidance, after the run's model and run files.",
        "runs/quickstart/guided --csv learned.csv --gin learned.gin",
    )
    parser.add_argument("model_dir", metavar="MODEL_DIR", help="of a guided run")
    parser.add_argument("--csv", required=True, metavar="FILE", help="is written")
    parser.add_argument(
        "--gin", metavar="FILE", help="is written, and names the CSV file"
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="stretches what the gin file replays: it ends at step N",
    )
    commands.run(_main, parser.parse_args(argv))


def _main(options: argparse.Namespace) -> None:
    if options.steps is not None and not options.gin:
        raise ValueError("--steps is for the gin file: add --gin FILE")
    from gbt_t5x.studies import exports  # which takes JAX

    schedule = exports.write(options.model_dir, options.csv, options.gin, options.steps)
    names = ", ".join(schedule.table)
    of = f" of {len(schedule.groups)} groups" if schedule.groups else ""
    first, last = schedule.steps[0], schedule.steps[-1]
    print(f"{options.csv}: {names}{of}, steps {first} to {last}")
    if options.gin:
        print(f"{options.gin}: include it after the run's model and run files")


if __name__ == "__main__":
    main()
