"""Whether a model can train on data, or be evaluated on it: seen before anything runs."""

from collections.abc import Callable, Iterator
import contextlib
import difflib
import operator
import re
import time
from typing import Any

import seqio
from t5x import models, utils
import tensorflow as tf

from gbt_t5x import checks

PAD_ID = 0  # the models mask it
_SECONDS = 20.0  # that may pass without an example
_FEWEST = 1000  # examples read before time is up
_read: set[tuple[Any, ...]] = set()  # of what this process has seen an example


def verify_data(cfg: utils.DatasetConfig, model: models.BaseTransformerModel) -> None:
    """What `train_script.train.verify_matching_vocabs_fn` may be.

    T5X calls it with the data of training, of evaluation with teacher forcing and of
    evaluation by decoding, before it reads any.

    Args:
        cfg: the data.
        model: what is to train on it.

    Raises:
        ValueError: no such task, split or cache; a feature or a length is missing; a
            vocabulary is not the model's, has more ids than the model, or masks tokens;
            a task of the split gives no example.
    """
    check_tasks(cfg, model)
    check_examples(cfg, model.FEATURE_CONVERTER_CLS)


def check_tasks(cfg: utils.DatasetConfig, model: models.BaseTransformerModel) -> None:
    """`verify_data`, but for the examples."""
    converter: Any = model.FEATURE_CONVERTER_CLS
    for task in tasks_with_split(cfg):
        check_features(task, cfg, converter)
        _check_cache(task, cfg)
        for name in converter.TASK_FEATURES:
            _check_vocabulary(task, name, model)


def get_provider(cfg: utils.DatasetConfig) -> seqio.Task | seqio.Mixture:
    """The task or mixture that a configuration names.

    Raises:
        ValueError: no module has registered it.
    """
    if cfg.module:
        utils.import_module(cfg.module)
    name = cfg.mixture_or_task_name
    if not isinstance(name, str):
        return name
    if name in registered():
        return seqio.get_mixture_or_task(name)
    raise not_registered(
        name,
        "set MIXTURE_OR_TASK_NAME, or GUIDANCE_TASK, to one that is, and "
        "MIXTURE_OR_TASK_MODULE to the module that registers it, or import that in a gin "
        "file",
    )


def registered() -> list[str]:
    """The names of all mixtures and tasks."""
    return [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]


def not_registered(name: str, remedy: str) -> ValueError:
    """The error for a name of no task or mixture, with those that are like it."""
    near = difflib.get_close_matches(name, registered())
    but = f", but {', '.join(near)}" if near else ""
    return ValueError(f"no task or mixture {name!r} is registered{but}: {remedy}")


def has_split(task: seqio.Task, split: str) -> bool:
    """Whether a task has a split, or the splits of 'a[:10]+b[5%:]', which TFDS reads.

    A source that was given its splits has these, and no slices of them.
    """
    if split in task.splits:
        return True
    loader = getattr(task.source, "tfds_dataset", None)
    names = {part.partition("[")[0].strip() for part in split.split("+")}
    has_map = getattr(loader, "_split_map", None)
    return loader is not None and not has_map and names <= set(task.splits)


def tasks_with_split(cfg: utils.DatasetConfig) -> list[seqio.Task]:
    """The tasks that have the split: one, or those of a mixture.

    Raises:
        ValueError: none has.
    """
    tasks = seqio.get_subtasks(get_provider(cfg))
    found = [task for task in tasks if has_split(task, cfg.split)]
    if not found:
        known = sorted({split for task in tasks for split in task.splits})
        raise ValueError(
            f"{cfg.mixture_or_task_name} has the splits {known}, not {cfg.split!r}: set "
            "DatasetConfig.split to one of them"
        )
    return found


def check_features(task: seqio.Task, cfg: utils.DatasetConfig, converter: Any) -> None:
    """Raises ValueError unless a task has the model's features, and lengths for them."""
    needed = converter.TASK_FEATURES
    missing = sorted(needed.keys() - task.output_features.keys())
    if missing:
        raise ValueError(
            f"task {task.name} has no feature {missing[0]!r}, and the model needs "
            f"{sorted(needed)}: add it to the task's output_features, or set "
            "MIXTURE_OR_TASK_NAME to a task or mixture that has it"
        )
    lengths = cfg.task_feature_lengths
    if lengths is None:  # the longest example's
        return
    for name in needed:
        least = 1 + task.output_features[name].add_eos
        try:
            long_enough = operator.index(lengths[name]) >= least
        except (KeyError, TypeError):
            long_enough = False
        if not long_enough:
            raise ValueError(
                f"TASK_FEATURE_LENGTHS={dict(lengths)}: {name!r} needs a whole number of "
                f"tokens of at least {least}"
            )


def _check_cache(task: seqio.Task, cfg: utils.DatasetConfig) -> None:
    if cfg.use_cached and task.supports_caching and not task.cache_dir:
        raise ValueError(
            f"task {task.name} is in none of the caches "
            f"{list(seqio.get_global_cache_dirs())}: name the folder of its cache by "
            "--seqio_additional_cache_dirs, or set USE_CACHED_TASKS = False"
        )


def _check_vocabulary(
    task: seqio.Task, feature: str, model: models.BaseTransformerModel
) -> None:
    """Raises ValueError unless a vocabulary is the model's, which masks padding alone."""
    vocabulary = task.output_features[feature].vocabulary
    of_model = {"inputs": model.input_vocabulary, "targets": model.output_vocabulary}
    if of_model.get(feature, vocabulary) != vocabulary:
        raise ValueError(
            f"task {task.name} has the vocabulary {vocabulary} of {feature!r}, the model "
            f"{of_model[feature]}: set VOCABULARY to the task's, or name another task "
            "(MIXTURE_OR_TASK_NAME, or GUIDANCE_TASK)"
        )
    size = getattr(getattr(model.module, "config", None), "vocab_size", None)
    if size is not None and vocabulary.vocab_size > size:
        raise ValueError(
            f"network.T5Config.vocab_size={size} is less than the "
            f"{vocabulary.vocab_size} ids of {vocabulary}: set it to these or more"
        )
    pad = vocabulary.pad_id
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        pad = vocabulary.tokenizer.pad_id()
    ids = {"unk_id": vocabulary.unk_id, "eos_id": vocabulary.eos_id}
    if pad != PAD_ID or PAD_ID in ids.values():
        raise ValueError(
            f"the vocabulary {vocabulary} has pad_id={pad} and "
            f"{', '.join(f'{k}={v}' for k, v in ids.items())}, and the model takes id "
            f"{PAD_ID} for padding, which it masks: set VOCABULARY to one trained with "
            "--pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1"
        )


def check_examples(cfg: utils.DatasetConfig, converter: Any) -> None:
    """Reads the first example of every task that has the split, once in a process.

    Args:
        cfg: the data.
        converter: a model's FEATURE_CONVERTER_CLS.

    Without lengths, as for decoding, tasks without metrics are left out, as then.

    Raises:
        ValueError: in one epoch, or in twenty seconds, a task gives none; what it gives
            lacks a feature of the model's, or is packed and empty; or a file is damaged.
    """
    lengths = cfg.task_feature_lengths and frozenset(cfg.task_feature_lengths.items())
    for task in tasks_with_split(cfg):
        if lengths is None and not (task.metric_fns or task.metric_objs):
            continue
        key = (task, cfg.split, lengths, cfg.use_cached, cfg.pack, converter)
        if key in _read:
            continue
        counts: dict[str, int] = {}
        in_time = Clock(_SECONDS)
        with reading([task], cfg.split):
            dataset = one_epoch(task, cfg, counts, in_time)
        missing = sorted(converter.TASK_FEATURES.keys() - dataset.element_spec.keys())
        if missing:
            raise ValueError(
                f"split {cfg.split!r} of task {task.name} has no feature {missing[0]!r} "
                f"after its preprocessors, and the model needs "
                f"{sorted(converter.TASK_FEATURES)}: add it to the task's examples, or "
                "leave the task out of MIXTURE_OR_TASK_NAME"
            )
        with reading([task], cfg.split):
            first = next(iter(dataset), None)
            if first is not None:
                _check_packed(task, cfg, converter, first)
                _read.add(key)
                continue
            late = not in_time()
            in_time = Clock(_SECONDS)
            for _ in one_epoch(task, cfg, counts, in_time, every_stage=True):
                pass  # to count
            raise ValueError(_no_example(task, cfg, counts, late))


def _check_packed(
    task: seqio.Task, cfg: utils.DatasetConfig, converter: Any, example: Any
) -> None:
    """Raises ValueError for an example that packing would not keep apart.

    seqio 0.0.20 numbers the sequences of inputs and of targets each by itself.
    """
    for name in sorted(converter.TASK_FEATURES) if cfg.pack else ():
        if not tf.size(example[name]):
            raise ValueError(
                f"split {cfg.split!r} of task {task.name} has an example without "
                f"{name!r}: packed behind it, targets would get the inputs of another "
                "example. Set DatasetConfig.pack = False, or end the feature by EOS "
                "(add_eos, and seqio.preprocessors.append_eos_after_trim)"
            )


class Clock:
    """Whether so many seconds have not passed since the first call."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._until: float | None = None

    def __call__(self) -> bool:
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        return time.monotonic() < self._until


def take_while(dataset: tf.data.Dataset, ask: Callable[[], bool]) -> tf.data.Dataset:
    """The examples before the first for which `ask()` is False."""

    @tf.autograph.experimental.do_not_convert
    def go_on(*_: Any) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(ask, [], tf.bool), ())

    return dataset.take_while(go_on)


def _no_example(
    task: seqio.Task, cfg: utils.DatasetConfig, counts: dict[str, int], late: bool
) -> str:
    stages = list(counts)
    time_limit = f" in {_SECONDS:.0f} seconds" if late else ""
    what = f"split {cfg.split!r} of task {task.name} gives no example{time_limit}"
    if not counts[stages[0]]:
        return f"{what}: its source is empty. Set DatasetConfig.split to another"
    dropped_by = next((stage for stage in stages if not counts[stage]), stages[-1])
    numbers = ", ".join(f"{n} after {stage}" for stage, n in counts.items())
    lengths = cfg.task_feature_lengths
    return (
        f"{what}: {dropped_by} drops all that were read ({numbers}). Set "
        f"TASK_FEATURE_LENGTHS, now {lengths and dict(lengths)}, to lengths that they "
        "fit, or change the examples or the task"
    )


def one_epoch(
    task: seqio.Task,
    cfg: utils.DatasetConfig,
    counts: dict[str, int],
    in_time: Callable[[], bool],
    every_stage: bool = False,
    most: int | None = None,
    trim: bool = True,
) -> tf.data.Dataset:
    """What a task gives in one epoch, in order.

    Args:
        task: of seqio.
        cfg: the split, lengths and use of a cache.
        counts: filled, as the data is read, with the examples after the source.
        in_time: reading stops when it is False, unless little was read.
        every_stage: count after every preprocessor too.
        most: of the source's examples; the time limit then holds from the second on.
        trim: let the step that appends the end of a sequence cut it to the lengths.
    """
    steps = list(task.preprocessors)
    kinds = [isinstance(step, seqio.CacheDatasetPlaceholder) for step in steps]
    cached = kinds.index(True) if True in kinds else -1
    use_cached = cfg.use_cached and cached >= 0
    source = task._get_cached_source(cfg.split) if use_cached else task.source

    def counted(dataset: tf.data.Dataset, stage: str) -> tf.data.Dataset:
        stage = f"{stage} ({len(counts)})" if stage in counts else stage
        counts[stage] = 0

        def count() -> bool:
            first = next(iter(counts))
            if stage == first and counts[first] == most:
                return False
            counts[stage] += 1
            fewest = _FEWEST if most is None else 2
            return counts[first] < fewest or in_time()

        return take_while(dataset, count)

    dataset = source.get_dataset(split=cfg.split, shuffle=False, seed=0)
    counts.clear()
    dataset = counted(dataset, "its source")
    with seqio.utils.map_seed_manager(0):
        for i, step in enumerate(steps):
            if kinds[i] or (use_cached and i < cached):
                continue
            trims = name_of(step) == "append_eos_after_trim"
            has_lengths = i > cached and (trim or not trims)
            apply = seqio.utils.add_kwargs_to_transform(
                step,
                output_features=task.output_features,
                sequence_length=cfg.task_feature_lengths if has_lengths else None,
            )
            dataset = apply(dataset)
            if every_stage:
                dataset = counted(dataset, name_of(step))
    return dataset


def name_of(step: Callable) -> str:
    """The name of a preprocessor, which may be a partial function or an object."""
    function = getattr(step, "func", step)
    return getattr(function, "__name__", type(function).__name__)


def parts_of_files(
    source: seqio.DataSource, split: str
) -> list[tuple[str, int, int | None]]:
    """(path, start, stop) of each file of a split, by a source's method `slices`.

    [] of a source without one. A stop of None is the end.

    Raises:
        ValueError: a part that can be of no file.
    """
    find = getattr(source, "slices", None)
    found = [*find(split)] if find else []
    for part in found:
        checks.check_part(f"{type(source).__name__}.slices({split!r})", *part)
    return found


@contextlib.contextmanager
def reading(tasks: list[seqio.Task], split: str) -> Iterator[None]:
    """Where reading fails, says why without TensorFlow's frames, and in which file.

    A source may have a method `damaged_file` of the split: what is wrong and where, or
    None.

    Raises:
        ValueError: a function of a source or task raised it, an assertion of theirs
            failed, or a source knows the file.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raised = re.findall(
            r"^\s*ValueError: (.+)$|assertion failed: \[(.+)\]", str(error.message), re.M
        )
        if raised:
            raise ValueError("".join(raised[-1])) from error
        if isinstance(error, tf.errors.DataLossError):
            for task in tasks:
                find = getattr(task.source, "damaged_file", None)
                if found := find and find(split):
                    raise ValueError(found) from error
        raise
