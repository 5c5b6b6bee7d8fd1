"""Says before a run what a task or mixture holds, and whether it can be guided.

The first examples of each split are read, for a few seconds. Lengths are in tokens, with
the end of the sequence, before they are cut. A guidance split that is missing, shares
examples with the training split, or does not fill a batch is an error, as in a run.
"""

import argparse
import ast
from collections.abc import Sequence
import dataclasses
import json

from gbt_t5x.studies import commands


def _feature_lengths(argument: str) -> dict[str, int]:
    try:
        found = ast.literal_eval(argument)
    except (SyntaxError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(
        isinstance(k, str) and type(v) is int and v > 0 for k, v in found.items()
    ):
        raise argparse.ArgumentTypeError(
            f"{argument} is not like {{'inputs': 512, 'targets': 128}}"
        )
    return found


def _parser() -> argparse.ArgumentParser:
    options = commands.parser(
        "check",
        __doc__,
        "cpython_docs_span_corruption --batch_size=16\n"
        "my_task --module_import=my_tasks --task_feature_lengths=\"{'inputs': 256, "
        "'targets': 64}\"",
        package="gbt_t5x.tasks",
    )
    options.add_argument("task", help="a registered task or mixture")
    options.add_argument(
        "--module_import",
        action="append",
        default=[],
        metavar="MODULE",
        help="registers it; may be given several times. This project's tasks and t5's "
        "need none",
    )
    options.add_argument(
        "--task_feature_lengths",
        type=_feature_lengths,
        default={"inputs": 512, "targets": 128},
        metavar="LENGTHS",
        help="TASK_FEATURE_LENGTHS of the run; default: {'inputs': 512, 'targets': 128}",
    )
    options.add_argument(
        "--batch_size",
        type=commands.number(int),
        metavar="ROWS",
        help="rows of a guidance batch: GUIDANCE_BATCH_SIZE, or else BATCH_SIZE",
    )
    options.add_argument(
        "--guidance_split",
        default="guidance",
        metavar="SPLIT",
        help="GUIDANCE_SPLIT; default: guidance",
    )
    options.add_argument(
        "--next_batch",
        action="store_true",
        help="the next training batch guides, and no split",
    )
    options.add_argument(
        "--examples",
        type=commands.number(int),
        default=2000,
        metavar="N",
        help="reads so many of each split; default: 2000",
    )
    options.add_argument(
        "--seconds",
        type=commands.number(float),
        default=5.0,
        metavar="SECONDS",
        help="reads a split, counts it, or compares it, for so long; default: 5",
    )
    options.add_argument("--json", action="store_true", help="prints JSON")
    return options


def _check(options: argparse.Namespace) -> None:
    from absl import logging

    from gbt_t5x.tasks import check_task, check_text

    logging.set_verbosity(logging.ERROR)  # seqio's warnings are not about the data
    found = check_task.survey_of(options)
    if options.json:
        print(json.dumps(found, default=dataclasses.asdict, indent=2))
    else:
        print(check_text.render(found), end="")
    if found["problems"]:
        raise ValueError(". ".join(found["problems"]))


def main(argv: Sequence[str] | None = None) -> None:
    """Checks one task or mixture.

    Args:
        argv: the command line.
    """
    commands.run(_check, _parser().parse_args(argv))


if __name__ == "__main__":
    main()
