"""Translation tasks: what all corpora share.

A source's examples have a text for each of the two languages, as in TFDS: `de` and `en`.
Both directions of a pair share the source, and one vocabulary of both languages.
"""

from collections.abc import Callable, Sequence
import functools
import os
from typing import Any

import sacrebleu
import seqio
import tensorflow as tf

from gbt_t5x.tasks import DATA_DIR, autograph, in_one_order, pair_filters

PAIRS = (("de", "en"), ("fi", "en"), ("lt", "en"))
SPLITS = ("train", "guidance", "validation", "test")
_FILTERED_SPLITS = ("train", "guidance")  # no example of the others is ever dropped
_FILTER_BATCH = 512  # examples to a call of Python


class TrainedVocabulary(seqio.SentencePieceVocabulary):
    """A SentencePiece vocabulary that scripts/train_vocabulary.py makes.

    Args:
        path: of the model.
        size: ids that the script makes unless told otherwise.
        task: names one of its tasks.
    """

    def __init__(self, path: str, size: int, task: str):
        self.size = size
        self._task = task
        super().__init__(path)

    def _model_context(self):
        if not self._model and not tf.io.gfile.exists(self.sentencepiece_model_file):
            raise ValueError(
                f"no vocabulary at {self.sentencepiece_model_file}: train it by "
                f"`python scripts/train_vocabulary.py --task={self._task}`, or set the "
                "environment variable GBT_T5X_DATA_DIR to the folder that has it"
            )
        return super()._model_context()


def vocabulary(task_name: str) -> seqio.Vocabulary:
    """The vocabulary of a task. In gin, the one that its model needs:

        VOCABULARY = @translation.vocabulary()
        translation.vocabulary.task_name = %MIXTURE_OR_TASK_NAME

    Raises:
        ValueError: no such task or mixture.
    """
    if task_name not in (*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()):
        raise ValueError(
            f"no task {task_name!r}: set DIRECTION, or MIXTURE_OR_TASK_NAME, for one of "
            f"{', '.join(trained_tasks())}; or import the module that registers it"
        )
    return seqio.get_mixture_or_task(task_name).output_features["targets"].vocabulary


def trained_tasks() -> list[str]:
    """Names of the registered tasks whose vocabulary is one that we train."""
    return sorted(
        name
        for name in seqio.TaskRegistry.names()
        if isinstance(
            seqio.TaskRegistry.get(name).output_features["targets"].vocabulary,
            TrainedVocabulary,
        )
    )


class MarksFiltered:
    """Mixed into a seqio.DataSource, adds the feature `filtered`: (), int32, 0 or 1.

    Preprocessors do not know the split. It tells them whether they may drop the example.
    seqio's cache holds integers, and no booleans.
    """

    def get_dataset(self, split: str = "train", *args: Any, **kwargs: Any):
        filtered = tf.constant(split in _FILTERED_SPLITS, tf.int32)
        dataset = super().get_dataset(split, *args, **kwargs)  # type: ignore[misc]
        return dataset.map(lambda example: {**example, "filtered": filtered})


class FunctionPairSource(MarksFiltered, seqio.FunctionDataSource):
    """Pairs from a function."""


class TfdsPairSource(MarksFiltered, in_one_order.TfdsInOneOrder):
    """Pairs from TFDS."""


def select(dataset: tf.data.Dataset, languages: tuple[str, str]) -> tf.data.Dataset:
    """Drops pairs that `pair_filters` does not keep, unless they are for evaluation."""

    def keep(filtered, a, b):
        filtered = filtered.astype(bool)
        kept = ~filtered
        kept[filtered] = pair_filters.keep(a[filtered], b[filtered], languages)
        return kept

    def mark(batch):
        arguments = [batch["filtered"], *(batch[language] for language in languages)]
        # Not stateful, so that T5X can save the position in the data.
        kept = tf.numpy_function(keep, arguments, tf.bool, stateful=False)
        return batch, tf.ensure_shape(kept, [None])

    marked = dataset.batch(_FILTER_BATCH).map(mark).unbatch()
    return marked.filter(lambda _, kept: kept).map(lambda example, _: example)


def _direct(dataset: tf.data.Dataset, source: str, target: str) -> tf.data.Dataset:
    return dataset.map(
        lambda example: {
            "inputs": example[source],
            "targets": example[target],
            "filtered": example["filtered"],
        }
    )


def _tokenize(dataset: tf.data.Dataset, output_features) -> tf.data.Dataset:
    """Tokenizes. What is wrong with a vocabulary is raised here, not by TensorFlow."""
    for feature in output_features.values():
        feature.vocabulary.load_model()
    return seqio.preprocessors.tokenize(dataset, output_features)


def _drop_over_long(
    dataset: tf.data.Dataset, output_features, sequence_length=None
) -> tf.data.Dataset:
    """Drops pairs that training would cut. Those for evaluation are kept, and cut."""

    def fits(example):
        lengths = [
            tf.size(example[name]) + int(feature.add_eos) <= sequence_length[name]
            for name, feature in output_features.items()
        ]
        return (example["filtered"] == 0) | tf.reduce_all(lengths)

    if sequence_length is not None:
        dataset = dataset.filter(fits)
    return dataset.map(
        lambda example: {k: example[k] for k in example if k != "filtered"}
    )


def bleu(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU of detokenised text, 0 to 100.

    Signature: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp

    Raises:
        ValueError: there are more of the ones than of the others.

    >>> bleu(["the cat sat on the mat"], ["the cat sat on the mat"])["bleu"]
    100.0
    """
    _check_pairs(targets, predictions)
    score = sacrebleu.corpus_bleu(predictions, [targets]).score
    return {"bleu": round(score, 10)}  # what is perfect is 100.00000000000004 otherwise


def chrf(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus chrF2 of detokenised text, 0 to 100.

    Signature: nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no

    Raises:
        ValueError: there are more of the ones than of the others.

    >>> chrf(["the cat sat on the mat"], ["the cat sat on the mat"])["chrf"]
    100.0
    """
    _check_pairs(targets, predictions)
    score = sacrebleu.corpus_chrf(predictions, [targets]).score
    return {"chrf": round(score, 10)}


def _check_pairs(targets: Sequence[str], predictions: Sequence[str]) -> None:
    # sacrebleu 2.6.0 leaves out what has no partner: findings/sacrebleu_uneven_lists.sh
    if len(targets) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions of {len(targets)} targets.")


def add_tasks(
    prefix: str,
    source: Callable[[str, str], seqio.DataSource],
    *,
    vocabulary_dir: str,
    vocabulary_size: int,
    filters: bool,
) -> None:
    """Registers the tasks of a corpus: `<prefix>_de_en`, `<prefix>_en_de` and so on.

    The inputs have no prefix: a model has one direction.

    Args:
        prefix: of the tasks' names.
        source: makes the source of a pair of languages. Its examples have a feature for
            each, and `filtered`.
        vocabulary_dir: has the vocabularies, in DATA_DIR.
        vocabulary_size: ids of each.
        filters: whether pairs are dropped by `pair_filters`. Those that are longer than
            the model's lengths are in any case.
    """
    for pair in PAIRS:
        pair_source = source(*pair)
        model = os.path.join(DATA_DIR, vocabulary_dir, f"{'-'.join(pair)}.model")
        feature = seqio.Feature(
            TrainedVocabulary(model, vocabulary_size, f"{prefix}_{'_'.join(pair)}"),
            add_eos=True,
        )
        selection = [functools.partial(select, languages=pair)] if filters else []
        for languages in (pair, pair[::-1]):
            seqio.TaskRegistry.add(
                f"{prefix}_{'_'.join(languages)}",
                source=pair_source,
                preprocessors=autograph.off(
                    [
                        *selection,
                        functools.partial(
                            _direct, source=languages[0], target=languages[1]
                        ),
                        _tokenize,
                        seqio.CacheDatasetPlaceholder(),
                        _drop_over_long,
                        seqio.preprocessors.append_eos_after_trim,
                    ]
                ),
                output_features={"inputs": feature, "targets": feature},
                metric_fns=[bleu, chrf],
            )


def texts(task: seqio.Task, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """What of a source's examples the vocabulary encodes: selected inputs and targets."""
    for preprocessor in task.preprocessors:
        if getattr(preprocessor, "__wrapped__", None) is _tokenize:
            return dataset
        dataset = preprocessor(dataset)
    raise ValueError(f"{task.name} is not a task of add_tasks")
