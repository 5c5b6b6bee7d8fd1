"""Trains by each source of the guidance gradient, and compares with no guidance.

The paper holds out a batch for every step, `heldout`. With a quarter of the batch at
every fourth step λ moves a quarter as often, so that has a run at four times the η̂ too.
"""

import argparse
from collections.abc import Sequence
import pathlib

from gbt_t5x.studies import commands, compare, launch, macros, seeds, tables

CORPORA = ("quickstart", "offline_translation")
_NEXT = "gbt_t5x/gin/guidance/next_batch.gin"


def variants(corpus: str, bindings: Sequence[str] = ()) -> list[launch.Variant]:
    """The baseline and every source.

    Args:
        corpus: one of CORPORA.
        bindings: of all of them, as `NAME = VALUE`; the macros of guidance are those of
            the sources alone.

    Raises:
        ValueError: the batch size is not divisible by 4, or η̂ is no number.
    """
    baseline, guided = (
        f"gbt_t5x/gin/{corpus}_{method}.gin" for method in ("baseline", "guided")
    )
    settings = macros.read([guided], bindings)
    batch_size, rate = settings["BATCH_SIZE"], settings["META_LEARNING_RATE"]
    if not isinstance(batch_size, int) or batch_size % 4:
        raise ValueError(f"BATCH_SIZE={batch_size} must be divisible by 4")
    if not isinstance(rate, int | float):
        raise ValueError(f"META_LEARNING_RATE={rate} must be one number")
    every_4 = (f"GUIDANCE_BATCH_SIZE = {batch_size // 4}", "GUIDANCE_PERIOD = 4")
    of_baseline = macros.of_both(bindings, guided, baseline)

    def source(name: str, *more: str, files: Sequence[str] = ()) -> launch.Variant:
        return launch.Variant(name, [guided, *files], [*bindings, *more])

    return [
        launch.Variant("baseline", [baseline], of_baseline),
        source("heldout"),
        source("next_batch", files=[_NEXT]),
        source("next_batch_float32", "SENSITIVITY_DTYPE = 'float32'", files=[_NEXT]),
        source("heldout_quarter_every_4", *every_4),
        source(
            "heldout_quarter_every_4_rate_4",
            *every_4,
            f"META_LEARNING_RATE = {4 * rate:g}",
        ),
        source("heldout_cycle_of_4", "GUIDANCE_BATCHES = 4"),
        source("heldout_discount", "DISCOUNT = 0.9"),
        source("next_batch_discount", "DISCOUNT = 0.9", files=[_NEXT]),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = commands.parser(
        "sources",
        "Trains a small model from several seeds without guidance and by each source of\n"
        "the guidance gradient, then compares losses and learned schedules. Runs that\n"
        "are done are not repeated. --gin.NAME=VALUE sets macros of all runs.\n"
        "1,000 steps of the quickstart take two minutes; there are 27 runs.",
        "quickstart --gin.TRAIN_STEPS=1000\n"
        'offline_translation --seeds 0 1 --gin.DIRECTION=\\"de_en\\"',
    )
    parser.add_argument("corpus", choices=CORPORA)
    launch.add_options(parser, "runs/sources/CORPUS")
    commands.add_figure(parser, "report.png in the folder")
    commands.add_format(parser, *tables.STYLES)
    commands.run(_main, *commands.parse_with_gin(parser, argv))


def _main(options: argparse.Namespace, bindings: Sequence[str]) -> None:
    folder = pathlib.Path(options.folder or f"runs/sources/{options.corpus}")
    study = variants(options.corpus, bindings)
    trained = launch.train(study, folder, seeds=options.seeds, jobs=options.jobs)
    compare.report(
        seeds.read_trained(trained),
        style=options.format,
        figure=options.figure or folder / "report.png",
    )


if __name__ == "__main__":
    main()
