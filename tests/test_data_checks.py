"""Data that a model cannot train on is an error that says what to set."""

import functools
import inspect
import time

import numpy as np
import pytest
import sentencepiece
import seqio
from t5x import adafactor, models, utils
from t5x.examples.t5 import network
import tensorflow as tf

from gbt_t5x import data_checks
from gbt_t5x.tasks import (
    catalogues as catalogues,
    offline_translation as offline_translation,
    span_corruption,
    translation,
    wmt19 as wmt19,
)
import small_tasks
import text_runs

GOOD = small_tasks.task("good")


def make_model(vocabulary=small_tasks.VOCABULARY, vocab_size=384):
    module = network.Transformer(network.T5Config(vocab_size=vocab_size))
    return models.EncoderDecoderModel(
        module, vocabulary, vocabulary, adafactor.Adafactor()
    )


def verify(of, model=None, **changes):
    cfg = small_tasks.dataset_cfg(of, **changes)
    data_checks.verify_data(cfg, model or make_model())


def refused(message, of, model=None, **changes):
    with pytest.raises(ValueError, match=message):
        verify(of, model, **changes)


def test_an_unregistered_task_offers_near_names():
    verify(text_runs.TASK)
    message = "'tiny_text' is registered, but tiny_texts.*: set MIXTURE_OR_TASK_NAME"
    refused(message, "tiny_text")
    refused("MIXTURE_OR_TASK_MODULE to the module that registers it", "glue_xyz_v002")


def test_a_module_that_registers_the_task_is_imported(tmp_path, monkeypatch):
    (tmp_path / "registers_a_task.py").write_text(
        "import seqio\n"
        "import text_runs\n"
        f"task = seqio.TaskRegistry.get({text_runs.TASK!r})\n"
        "seqio.TaskRegistry.add(\n"
        "    'registered_late', source=task.source, preprocessors=task.preprocessors,\n"
        "    output_features=task.output_features, metric_fns=task.metric_fns)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    verify("registered_late", module="registers_a_task")


def test_a_missing_split():
    refused(
        r"\['guidance', 'train', 'validation'\], not 'test'.*split", GOOD, split="test"
    )


def test_features_that_a_task_lacks():
    features = {"targets": small_tasks.feature()}
    lacks = small_tasks.task("lacks", features=features)
    message = "lacks has no feature 'inputs', and the model needs .*MIXTURE_OR_TASK_NAME"
    refused(message, lacks)
    verify(GOOD)


def test_features_that_the_examples_lack():
    """seqio lets a feature be missing that is not required."""
    features = {
        "inputs": small_tasks.feature(required=False),
        "targets": small_tasks.feature(),
    }
    without = small_tasks.task(
        "without", steps=[small_tasks.without("inputs")], features=features
    )
    message = "'train' of task without has no feature 'inputs' after its preprocessors"
    refused(message, seqio.Mixture("mixed", [GOOD, without], default_rate=1))


@pytest.mark.parametrize("length", [None, 0, -3, 1, 2.5, "16", True])
def test_a_length_that_is_none(length):
    lengths = {"targets": 16} | ({} if length is None else {"inputs": length})
    message = "TASK_FEATURE_LENGTHS=.*'inputs' needs a whole number of .*at least 2"
    # The embedded DatasetConfig refuses what is no count by itself.
    own = r"DatasetConfig.task_feature_lengths=.*'inputs': .*a whole number in \[1,"
    refused(f"{message}|{own}", GOOD, task_feature_lengths=lengths)


def test_a_length_without_room_for_the_end():
    no_end = {name: small_tasks.feature(add_eos=False) for name in small_tasks.LENGTHS}
    task = small_tasks.task("no_end", features=no_end)
    verify(task, task_feature_lengths={"inputs": 1, "targets": 1})
    verify(GOOD, task_feature_lengths=None)  # evaluation takes the longest example's


def test_no_cache():
    refused(
        "--seqio_additional_cache_dirs, or set USE_CACHED_TASKS", GOOD, use_cached=True
    )
    cfg = small_tasks.dataset_cfg(GOOD, use_cached=True)
    with pytest.raises(ValueError, match="--seqio_additional_cache_dirs"):
        utils.get_tasks_with_split(cfg)


if not text_runs.EMBEDDED:
    test_no_cache = text_runs.embedded_only(test_no_cache)


def test_another_vocabulary_than_the_models():
    other = seqio.ByteVocabulary(extra_ids=0)
    refused("good has the vocabulary .*set VOCABULARY", GOOD, make_model(other))


def test_ids_that_the_model_lacks():
    message = "network.T5Config.vocab_size=358 is less than the 359 ids of"
    refused(message, GOOD, make_model(vocab_size=358))
    verify(GOOD, make_model(vocab_size=359))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({}, "pad_id=-1 and unk_id=0, eos_id=2"),
        ({"pad_id": 3}, "pad_id=3 and unk_id=0"),
        ({"unk_id": 1, "bos_id": -1, "eos_id": 0}, "pad_id=-1 and unk_id=1, eos_id=0"),
        ({"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, None),
    ],
)
def test_sentencepiece_ids(ids, message, tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(small_tasks.TEXTS),
        model_prefix=str(tmp_path / "model"),
        vocab_size=23,
        minloglevel=2,
        **ids,
    )
    vocabulary = seqio.SentencePieceVocabulary(str(tmp_path / "model.model"), 100)
    features = {
        name: small_tasks.feature(vocabulary, add_eos=False)
        for name in ("inputs", "targets")
    }
    task, model = small_tasks.task("pieces", features=features), make_model(vocabulary)
    if message:
        remedy = "set VOCABULARY to one trained with --pad_id=0 --eos_id=1"
        refused(f"{message}.*{remedy}", task, model)
    else:
        verify(task, model)


def pairs(name, texts):
    """A task of pairs that are dropped if they are too long."""

    def direct(dataset):
        zero = tf.constant(1, tf.int32)
        return dataset.map(
            lambda x: {"inputs": x["text"], "targets": x["text"], "filtered": zero}
        )

    steps = [
        direct,
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        translation._drop_over_long,
        seqio.preprocessors.append_eos_after_trim,
    ]
    return small_tasks.task(name, texts, preprocessors=steps)


@pytest.mark.parametrize("split", ["train", "guidance", "validation"])
def test_no_pair_fits_the_lengths(split):
    lengths = {"inputs": 8, "targets": 8}
    message = (
        f"split '{split}' of task pairs gives no example: _drop_over_long drops all .*"
        r"64 after its source, 64 after direct, 64 after tokenize, 0 after _drop_over"
        ".* Set TASK_FEATURE_LENGTHS"
    )
    task = pairs("pairs", small_tasks.TEXTS)
    refused(message, task, split=split, task_feature_lengths=lengths)
    verify(task, split=split, task_feature_lengths={"inputs": 9, "targets": 9})


def test_what_is_packed_is_not_empty():
    def no_inputs(dataset):
        return dataset.map(lambda x: {"inputs": "", "targets": x["text"]})

    features = {
        "inputs": small_tasks.feature(add_eos=False),
        "targets": small_tasks.feature(),
    }
    task = small_tasks.task("no_inputs", steps=[no_inputs], features=features)
    refused("has an example without 'inputs': packed behind it", task, pack=True)
    verify(task, pack=False)
    verify(small_tasks.task("ended", steps=[no_inputs]), pack=True)


def test_without_lengths_what_is_not_decoded_is_not_read():
    """As T5X's finetune.gin has it: seqio evaluates tasks with metrics alone."""

    def cut(dataset, sequence_length):
        return dataset.take(sequence_length["inputs"])

    def accuracy(targets, predictions):
        return {"accuracy": float(targets == predictions)}

    steps = [small_tasks.copied, seqio.CacheDatasetPlaceholder(), cut]
    task = functools.partial(small_tasks.task, preprocessors=steps)
    verify(task("no_metrics", metric_fns=[]), task_feature_lengths=None)
    with pytest.raises(TypeError):
        verify(task("metrics", metric_fns=[accuracy]), task_feature_lengths=None)


@pytest.mark.parametrize("name", ["wmt19_de_en", "offline_de_en", "catalogues_de_en"])
def test_translation_takes_the_lengths_of_its_examples(name):
    """As seqio asks of a task that is to be decoded without lengths."""
    for step in seqio.TaskRegistry.get(name).preprocessors:
        of_lengths = inspect.signature(step).parameters.get("sequence_length")
        assert of_lengths is None or of_lengths.default is None, step


def test_one_task_of_a_mixture_gives_nothing():
    mixed = seqio.Mixture("mixed", [GOOD, pairs("long", ["x" * 99])], default_rate=1)
    refused("of task long gives no example: _drop_over_long drops all", mixed)


def test_every_line_is_empty():
    name = "empty_span_corruption"
    source = seqio.FunctionDataSource(
        lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
            {"text": [""] * 500}
        ),
        splits=["train"],
    )
    if name not in seqio.TaskRegistry.names():
        span_corruption.add_task(name, source, small_tasks.VOCABULARY)
    refused("gives no example.*: .* drops all that were read .500 after its source", name)


def test_an_empty_split():
    refused("gives no example: its source is empty", small_tasks.task("empty", []))


def test_endless_data_of_which_nothing_is_left(monkeypatch):
    def endless():
        return tf.data.Dataset.from_tensors({"text": "x" * 99}).repeat()

    monkeypatch.setattr(data_checks, "_SECONDS", 0.5)
    started = time.monotonic()
    refused(
        "gives no example in 0 seconds: .*[0-9]{4} after its source", pairs("e", endless)
    )
    assert time.monotonic() - started < 30
    verify(small_tasks.task("endless", endless))


def test_reading_stops_at_the_first_example():
    read = []

    def counted():
        dataset = tf.data.Dataset.from_tensor_slices({"text": list(small_tasks.TEXTS)})
        note = lambda x: tf.numpy_function(
            lambda t: (read.append(t), t)[1], [x], tf.string
        )
        return dataset.map(lambda x: {"text": tf.ensure_shape(note(x["text"]), ())})

    verify(small_tasks.task("counted", counted))
    assert np.size(read) < 32  # TensorFlow reads ahead
