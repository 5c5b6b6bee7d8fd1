"""Says before a run what a task or mixture holds, and whether it can be guided.

The first examples of each split are read, for a few seconds. Lengths are in tokens, with
the end of the sequence, before they are cut. A guidance split that is missing, shares
examples with the training split, or does not fill a batch is an error, as in a run.
"""

import argparse
import ast
from collections.abc import Sequence
import dataclasses
import importlib
import json
import pkgutil
from typing import Any

from gbt_t5x.studies import commands

_TRAIN = "train"
_OTHERS = ("check", "check_text", "survey")


@dataclasses.dataclass(frozen=True)
class Guidance:
    """What is known of a guidance split.

    Attributes:
        split: TASK: SPLIT.
        held_out: whether training reads none of it; None if sources do not say.
        why: what says so.
        same: how many of its first examples have the contents of one of the first
            training examples.
        compared: how many of both were compared.
        rows: that it fills; None if examples repeat until a batch is full.
        rows_needed: for a batch; None if that was not asked.
    """

    split: str
    held_out: bool | None
    why: str
    same: int
    compared: tuple[Any, Any]
    rows: Any
    rows_needed: int | None

    def problems(self) -> list[str]:
        """Why a run refuses it."""
        found = []
        if self.held_out is False:
            found.append(
                f"guidance split {self.split} overlaps the training split ({self.why}): "
                "set GUIDANCE_SPLIT to a split of other examples"
            )
        if self.rows and self.rows_needed and self.rows.number < self.rows_needed:
            found.append(
                f"guidance split {self.split} fills {self.rows} rows of the "
                f"{self.rows_needed} of a batch: enlarge the split, or lower "
                "GUIDANCE_BATCH_SIZE"
            )
        return found


def find(name: str, modules: Sequence[str] = ()) -> Any:
    """A registered task or mixture; ours and t5's are imported if none is yet.

    Raises:
        ValueError: no such name, or a module that cannot be imported.
    """
    import seqio

    def known() -> list[str]:
        return [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]

    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise ValueError(
                f"--module_import={module} cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
    if name not in known():
        from gbt_t5x import tasks

        ours = {module.name for module in pkgutil.iter_modules(tasks.__path__)}
        for module in sorted(ours.difference(_OTHERS)):
            importlib.import_module(f"{tasks.__name__}.{module}")
        importlib.import_module("t5.data.mixtures")
    if name in known():
        return seqio.get_mixture_or_task(name)
    import difflib

    near = difflib.get_close_matches(name, known())
    raise ValueError(
        f"no task or mixture {name!r} is registered{', but ' * bool(near)}"
        f"{', '.join(near)}: --module_import=MODULE imports the module that registers it"
    )


def _vocabularies(task: Any) -> dict[str, dict[str, Any]]:
    """Feature -> name and number of ids of its vocabulary."""
    import tensorflow as tf

    found = {}
    for name, feature in task.output_features.items():
        vocabulary = feature.vocabulary
        file = getattr(vocabulary, "sentencepiece_model_file", None)
        label = type(vocabulary).__name__ + (f" {file}" if file else "")
        try:
            found[name] = {"vocabulary": label, "ids": int(vocabulary.vocab_size)}
        except (OSError, tf.errors.OpError) as error:
            raise ValueError(f"vocabulary {label} cannot be read: {error}") from error
    return found


def survey_of(options: argparse.Namespace) -> dict[str, Any]:
    """All that the command says, by name."""
    import seqio
    from t5x import utils

    from gbt_t5x import data_checks
    from gbt_t5x.tasks import survey

    provider = find(options.task, options.module_import)
    tasks = list(seqio.get_subtasks(provider))
    lengths, split = options.task_feature_lengths, options.guidance_split
    for task in tasks:
        if not task.source.splits:  # TFDS's own
            survey.check_there(task)
        cfg = utils.DatasetConfig(
            task, lengths, _TRAIN, batch_size=1, shuffle=False, seed=0
        )
        data_checks.check_features(task, cfg, seqio.EncDecFeatureConverter)
    trained = [task for task in tasks if data_checks.has_split(task, _TRAIN)]
    if not options.next_batch:
        for task in trained or tasks:
            if not data_checks.has_split(task, split):
                raise ValueError(
                    f"guidance split {split!r} is missing from task {task.name}, which "
                    f"has {', '.join(task.splits)}: give it one, name another by "
                    "--guidance_split (GUIDANCE_SPLIT), or guide by the next training "
                    "batch, --next_batch, which needs none"
                )
    wanted = [] if options.next_batch else [split]
    parts = [
        (task, name)
        for task in tasks
        for name in dict.fromkeys([*task.splits, *wanted])
        if data_checks.has_split(task, name)
    ]
    progress = commands.Progress(len(parts), "splits", after=3.0)
    limits = survey.Limits(options.examples, options.seconds)
    vocabularies = _vocabularies(tasks[0])
    splits = []
    for task, name in parts:
        started = commands.now()
        splits.append(survey.read_split(task, name, lengths, limits))
        progress.done(f"{task.name} {name}", commands.now() - started)
    held_out = [task for task in tasks if data_checks.has_split(task, split)]
    guidance = [] if options.next_batch else _guidance(held_out, trained, options)
    return {
        "task": options.task,
        "tasks": {task.name: type(task.source).__name__ for task in tasks},
        "rates": _rates(provider, trained or tasks),
        "vocabularies": vocabularies,
        "task_feature_lengths": lengths,
        "examples": limits.examples,
        "seconds": limits.seconds,
        "splits": splits,
        "guidance": guidance,
        "problems": [problem for entry in guidance for problem in entry.problems()],
    }


def _rates(provider: Any, tasks: Sequence[Any]) -> dict[str, float]:
    """Task -> its share of a mixture's training data; {} of a task."""
    import seqio

    if not isinstance(provider, seqio.Mixture):
        return {}
    rates = {task.name: float(provider.get_rate(task)) for task in tasks}
    return {name: rate / sum(rates.values()) for name, rate in rates.items()}


def _guidance(
    held_out: Sequence[Any], trained: Sequence[Any], options: argparse.Namespace
) -> list[Guidance]:
    """One entry for each task that has the split."""
    from gbt_t5x import guidance
    from gbt_t5x.tasks import survey

    split, seconds = options.guidance_split, options.seconds
    entries = []
    read: set[bytes] = set()
    numbers = []
    for task in trained:
        hashes, is_all = survey.contents(task, _TRAIN, seconds)
        read.update(hashes)
        numbers.append(survey.Count(len(hashes), is_all))
    of_training = survey.Count(
        sum(n.number for n in numbers), all(n.is_all for n in numbers)
    )
    for task in held_out:
        overlaps = {
            other.name: guidance.overlap(task.source, split, other.source, _TRAIN)
            for other in trained
        }
        shared = [name for name, overlap in overlaps.items() if overlap]
        if shared:
            known, why = False, f"both read {_where(task, split)}"
            if shared != [task.name]:
                why += f", of {', '.join(shared)}"
        elif None in overlaps.values():
            known = None
            why = f"{type(task.source).__name__} does not say which examples it reads"
        else:
            known = True
            why = f"it reads {_where(task, split)}"
            if task in trained:
                why += f", training {_where(task, _TRAIN)}"
        hashes, is_all = survey.contents(task, split, seconds)
        rows = None
        if len(held_out) == 1:
            most = max(64, 4 * (options.batch_size or 0))
            rows = survey.guidance_rows(
                task, split, options.task_feature_lengths, most, seconds
            )
        entries.append(
            Guidance(
                f"{task.name}: {split}",
                known,
                why,
                sum(digest in read for digest in hashes),
                (survey.Count(len(hashes), is_all), of_training),
                rows,
                options.batch_size,
            )
        )
    return entries


def _where(task: Any, split: str) -> str:
    """What a source reads for a split, in short."""
    import seqio

    from gbt_t5x import guidance

    if isinstance(task.source, seqio.TfdsDataSource):
        return str(task.source.tfds_dataset._map_split(split))
    parts = guidance.slices(task.source, split)
    if not parts:
        return repr(split)
    first = parts[0]
    text = str(first.name)
    if (first.start, first.stop) != (0, guidance.END):
        stop = "" if first.stop == guidance.END else first.stop
        text += f"[{first.start or ''}:{stop}]"
    return text + (f" and {len(parts) - 1} files" if len(parts) > 1 else "")


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

    from gbt_t5x.tasks import check_text

    logging.set_verbosity(logging.ERROR)  # seqio's warnings are not about the data
    found = survey_of(options)
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
