"""Learns schedules on a small model, and replays them on a larger one.

The small model is the quickstart's, the larger one has twice its layers and about six
times its parameters between the embeddings. From each seed the small one is trained by
guidance and by the recipe; the larger one replays what was learned from that seed, beside
its own baseline, its own guidance, and the recipe's schedule without guidance. Layers
share the recipe's groups, so that they are those of both models.
"""

import argparse
from collections.abc import Mapping, Sequence
import pathlib

from gbt_t5x.studies import (
    commands,
    compare,
    launch,
    macros,
    processes,
    seeds,
    tables,
)

_GIN = "gbt_t5x/gin"
_BASELINE, _GUIDED, _RECIPE = (
    f"{_GIN}/quickstart_{name}.gin" for name in ("baseline", "guided", "recipe")
)
LARGER = (
    "network.T5Config.emb_dim = 160",
    "network.T5Config.num_heads = 5",
    "network.T5Config.mlp_dim = 512",
    "network.T5Config.num_encoder_layers = 2",
    "network.T5Config.num_decoder_layers = 2",
)
GROUPS = r"GROUPS = ((r'\1.\2', r'(\w+)/layers_\d+/(.*)'), (r'\g<0>', '.*'))"


def small(bindings: Sequence[str] = ()) -> list[launch.Variant]:
    """The runs that learn a schedule.

    Args:
        bindings: of all of them, as `NAME = VALUE`; macros that the recipe alone has are
            those of its run.
    """
    return [
        launch.Variant("guided", [_GUIDED], macros.of_both(bindings, _RECIPE, _GUIDED)),
        launch.Variant("recipe", [_RECIPE], [GROUPS, *bindings]),
    ]


def larger(
    replays: Mapping[str, str], bindings: Sequence[str] = ()
) -> list[launch.Variant]:
    """The runs of the larger model, the baseline first.

    Args:
        replays: `guided` and `recipe` -> the gin file that replays it.
        bindings: of all of them, as `NAME = VALUE`; macros that another gin file lacks
            are not those of its runs.
    """
    unguided = macros.of_both(bindings, _RECIPE, _BASELINE)

    def run(name: str, files: Sequence[str], more: Sequence[str] = ()) -> launch.Variant:
        return launch.Variant(name, files, [*LARGER, *more])

    linear = [_BASELINE, f"{_GIN}/rivals/linear.gin"]
    rate = f"PEAK_RATE = {macros.read([_RECIPE], bindings)['LEARNING_RATE']}"
    return [
        run("baseline", [_BASELINE], unguided),
        run("guided", [_GUIDED], macros.of_both(bindings, _RECIPE, _GUIDED)),
        run("guided_replayed", [_BASELINE, replays["guided"]], unguided),
        run("linear", linear, [rate, *unguided]),
        run("recipe", [_RECIPE], [GROUPS, *bindings]),
        run("recipe_replayed", [*linear, replays["recipe"]], [rate, *unguided]),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = commands.parser(
        "transfer",
        "Trains the quickstart's model by guidance, and a larger one, from the same\n"
        "seeds, that replays what was learned. Runs that are done are not repeated.\n"
        "--gin.NAME=VALUE sets macros of all runs. A run of 1,500 steps takes up to\n"
        "ten minutes on a core; there are 8 for each seed.",
        "--jobs 2\n--seeds 0 --gin.TRAIN_STEPS=300",
    )
    launch.add_options(parser, "runs/transfer")
    commands.add_figure(parser, "report.png in the folder")
    commands.add_format(parser, *tables.STYLES)
    commands.run(_main, *commands.parse_with_gin(parser, argv))


def _main(options: argparse.Namespace, bindings: Sequence[str]) -> None:
    folder = pathlib.Path(options.folder or "runs/transfer").absolute()
    with processes.alone(folder):
        trained = _train(options, bindings, folder)
    compare.report(
        seeds.read_trained(trained),
        style=options.format,
        figure=options.figure or folder / "report.png",
    )


def _train(
    options: argparse.Namespace, bindings: Sequence[str], folder: pathlib.Path
) -> dict[str, list[pathlib.Path]]:
    """The runs of the larger model, by their names."""
    from gbt_t5x.studies import exports  # which takes JAX

    learned = launch.train(
        small(bindings), folder / "small", seeds=options.seeds, jobs=options.jobs
    )
    trained: dict[str, list[pathlib.Path]] = {}
    for number, seed in enumerate(dict.fromkeys(options.seeds)):
        replays: dict[str, str] = {}
        for name, model_dirs in learned.items():
            file = folder / "schedules" / f"{name}_{seed}"
            replays[name] = f"{file}.gin"
            exports.write(model_dirs[number], f"{file}.csv", replays[name])
        of_seed = launch.train(
            larger(replays, bindings),
            folder / "larger",
            seeds=[seed],
            jobs=options.jobs,
        )
        for name, model_dirs in of_seed.items():
            trained.setdefault(name, []).extend(model_dirs)
    return trained


if __name__ == "__main__":
    main()
