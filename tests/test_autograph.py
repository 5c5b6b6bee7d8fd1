"""Preprocessors that AutoGraph leaves alone."""

import functools

import pytest
import seqio
import tensorflow as tf

from gbt_t5x import data_checks
from gbt_t5x.tasks import autograph


def first_or_none(dataset, present):
    def choose(x):
        if x > 0:  # a tensor
            x = x + present
        return x

    return dataset.map(choose)


def test_python_on_tensors_is_an_error():
    dataset = tf.data.Dataset.from_tensors(1)
    assert list(first_or_none(dataset, 2).as_numpy_iterator()) == [3]
    [step] = autograph.off([functools.partial(first_or_none, present=2)])
    assert isinstance(step, functools.partial)
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        step(dataset)


def test_steps_keep_their_names_and_the_arguments_that_seqio_gives():
    [tokenize, placeholder] = autograph.off(
        [seqio.preprocessors.tokenize, seqio.CacheDatasetPlaceholder()]
    )
    assert isinstance(placeholder, seqio.CacheDatasetPlaceholder)
    assert data_checks.name_of(tokenize) == "tokenize"
    feature = seqio.Feature(seqio.ByteVocabulary())
    step = seqio.utils.add_kwargs_to_transform(
        tokenize, output_features={"targets": feature}
    )
    dataset = tf.data.Dataset.from_tensors({"targets": "a"})
    [example] = step(dataset).as_numpy_iterator()
    assert example["targets"].tolist() == feature.vocabulary.encode("a")
