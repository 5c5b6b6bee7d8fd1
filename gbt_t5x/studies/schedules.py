"""Exports what a guided run learned: a CSV file, and a gin file that replays it.

The CSV file is that of `gbt_t5x.schedule`; `gbt_t5x.studies.exports` has what is in both.
"""

import argparse
from collections.abc import Sequence
import os

from etils import epath

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
    from gbt_t5x import schedule as schedule_lib  # which takes JAX
    from gbt_t5x.studies import exports, runs

    schedule = exports.read(options.model_dir)
    text = ""
    if options.gin:
        path = options.csv if "://" in options.csv else os.path.abspath(options.csv)
        if options.steps is not None:
            schedule.stretched(options.steps)  # checks it
        settings = runs.read_settings(epath.Path(options.model_dir) / "config.gin")
        text = exports.gin_text(schedule, path, settings, options.steps)
    _write(options.csv, schedule_lib.write(schedule))
    names = ", ".join(schedule.table)
    of = f" of {len(schedule.groups)} groups" if schedule.groups else ""
    first, last = schedule.steps[0], schedule.steps[-1]
    print(f"{options.csv}: {names}{of}, steps {first} to {last}")
    if options.gin:
        _write(options.gin, text)
        print(f"{options.gin}: include it after the run's model and run files")


def _write(file: str, text: str) -> None:
    path = epath.Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main()
