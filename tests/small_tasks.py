"""Makes small tasks of texts, which stand for those of users."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

import seqio
from t5x import utils
import tensorflow as tf

VOCABULARY = seqio.ByteVocabulary(extra_ids=100)
SPLITS = ("train", "guidance", "validation")
LENGTHS = {"inputs": 16, "targets": 16}
TEXTS = tuple(f"text {i:03}" for i in range(64))


def feature(vocabulary: Any = VOCABULARY, **settings: Any) -> seqio.Feature:
    return seqio.Feature(vocabulary, **{"add_eos": True} | settings)


def copied(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Targets that are the inputs."""
    return dataset.map(lambda x: {"inputs": x["text"], "targets": x["text"]})


def task(
    name: str,
    texts: Mapping[str, Sequence[str]] | Sequence[str] | Callable = TEXTS,
    steps: Sequence[Callable] = (copied,),
    *,
    features: Mapping[str, seqio.Feature] | None = None,
    register: bool = False,
    **settings: Any,
) -> seqio.Task:
    """A task of texts.

    Args:
        name: of the task.
        texts: split -> texts; or those of every split; or a data set of them.
        steps: preprocessors before tokens.
        features: default, inputs and targets of bytes.
        register: for gin files to name it.
        **settings: of seqio.Task.
    """

    def examples(split, shuffle_files=False, seed=None):
        if callable(texts):
            return texts()
        found = texts[split] if isinstance(texts, Mapping) else texts
        return tf.data.Dataset.from_tensor_slices({"text": tf.constant(found, tf.string)})

    settings = {
        "source": seqio.FunctionDataSource(
            examples, splits=list(texts) if isinstance(texts, Mapping) else SPLITS
        ),
        "preprocessors": [
            *steps,
            seqio.preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        "output_features": features or {name: feature() for name in LENGTHS},
    } | settings
    if register and name not in seqio.TaskRegistry.names():
        seqio.TaskRegistry.add(name, **{"metric_fns": []} | settings)
    return seqio.TaskRegistry.get(name) if register else seqio.Task(name, **settings)


def dataset_cfg(of: Any, split: str = "train", **changes: Any) -> utils.DatasetConfig:
    """A configuration of a task or mixture, in batches of 4."""
    settings: dict[str, Any] = {
        "mixture_or_task_name": of,
        "task_feature_lengths": LENGTHS,
        "split": split,
        "batch_size": 4,
        "shuffle": True,
        "seed": 0,
        "pack": True,
    }
    return utils.DatasetConfig(**settings | changes)


def from_generator() -> tf.data.Dataset:
    return tf.data.Dataset.from_generator(
        lambda: ({"text": text} for text in TEXTS),
        output_signature={"text": tf.TensorSpec((), tf.string)},
    )


def by_python(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """As `copied`, by code of Python that TensorFlow knows nothing of."""

    def upper(x: Any) -> tf.Tensor:
        text = tf.py_function(lambda t: t.numpy().upper(), [x["text"]], tf.string)
        return tf.ensure_shape(text, ())

    return copied(dataset.map(lambda x: {"text": upper(x)}))


def at_random(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """As `copied`, cut where a generator without seed says."""

    def cut(x: Any) -> tf.Tensor:
        length = tf.random.uniform((), 1, 4, tf.int32)
        return tf.strings.substr(x["text"], 0, length)

    return copied(dataset.map(lambda x: {"text": cut(x)}))


def without(feature_name: str) -> Callable:
    """As `copied`, without a feature."""

    def drop(dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.map(lambda x: {k: x[k] for k in x if k != feature_name})

    return functools.partial(lambda dataset: drop(copied(dataset)))
