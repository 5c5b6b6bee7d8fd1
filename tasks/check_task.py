"""What a task or mixture holds: its splits, rates, vocabularies and guidance."""

import argparse
from collections.abc import Sequence
import importlib
import pkgutil
from typing import Any

import seqio
from t5x import utils
import tensorflow as tf

from gbt_t5x import data_checks, tasks as our_tasks
from gbt_t5x.studies import commands
from gbt_t5x.tasks import check_guidance, survey

_NO_TASKS = ("check", "check_guidance", "check_task", "check_text", "survey")


def find(name: str, modules: Sequence[str] = ()) -> Any:
    """A registered task or mixture; ours and t5's are imported if none is yet.

    Raises:
        ValueError: no such name, or a module that cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise ValueError(
                f"--module_import={module} cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
    if name not in data_checks.registered():
        ours = {module.name for module in pkgutil.iter_modules(our_tasks.__path__)}
        for module in sorted(ours.difference(_NO_TASKS)):
            importlib.import_module(f"{our_tasks.__name__}.{module}")
        importlib.import_module("t5.data.mixtures")
    if name in data_checks.registered():
        return seqio.get_mixture_or_task(name)
    raise data_checks.not_registered(
        name, "--module_import=MODULE imports the module that registers it"
    )


def _vocabularies(task: Any) -> dict[str, dict[str, Any]]:
    """Feature -> name and number of ids of its vocabulary."""
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
    provider = find(options.task, options.module_import)
    tasks = list(seqio.get_subtasks(provider))
    lengths, split = options.task_feature_lengths, options.guidance_split
    for task in tasks:
        if not task.source.splits:  # TFDS's own
            survey.check_there(task)
        cfg = utils.DatasetConfig(
            task, lengths, "train", batch_size=1, shuffle=False, seed=0
        )
        data_checks.check_features(task, cfg, seqio.EncDecFeatureConverter)
    trained = [task for task in tasks if data_checks.has_split(task, "train")]
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
    guidance = []
    if not options.next_batch:
        guidance = check_guidance.guidance_of(held_out, trained, options)
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
    if not isinstance(provider, seqio.Mixture):
        return {}
    rates = {task.name: float(provider.get_rate(task)) for task in tasks}
    return {name: rate / sum(rates.values()) for name, rate in rates.items()}
