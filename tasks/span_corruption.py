"""T5's pre-training objective, for any source of text."""

from collections.abc import Mapping
import functools

import seqio
from t5.data import preprocessors
import tensorflow as tf

from gbt_t5x.tasks import autograph

_DENSITY, _SPAN = 0.15, 3.0  # of masked tokens; tokens of a span, on average
_SENTINELS = 100  # of a vocabulary that does not say


def add_task(name: str, source: seqio.DataSource, vocabulary: seqio.Vocabulary) -> None:
    """Registers span corruption: 15% of tokens masked, in spans of mean length 3.

    Args:
        name: of the task.
        source: its examples have a feature `text`.
        vocabulary: its last ids, `extra_ids` of them or else 100, are the sentinels.
    """
    seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=autograph.off(
            [
                functools.partial(
                    seqio.preprocessors.rekey,
                    key_map={"inputs": None, "targets": "text"},
                ),
                seqio.preprocessors.tokenize,
                seqio.CacheDatasetPlaceholder(),
                span_corruption,
                seqio.preprocessors.append_eos_after_trim,
            ]
        ),
        output_features={
            feature: seqio.Feature(vocabulary=vocabulary, add_eos=True)
            for feature in ("inputs", "targets")
        },
        metric_fns=[],
    )


def span_corruption(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int],
    output_features: Mapping[str, seqio.Feature],
) -> tf.data.Dataset:
    """t5's preprocessor, which takes ordinary ids where sentinels run out.

    Raises:
        ValueError: inputs are so long that they have more spans than there are sentinels.
    """
    inputs = sequence_length["inputs"]
    with_sentinels, without = (
        preprocessors.random_spans_helper(inputs, _DENSITY, _SPAN, 1, each)[1]
        for each in (1, 0)
    )
    spans = with_sentinels - without
    sentinels = output_features["targets"].vocabulary.extra_ids or _SENTINELS
    if spans > sentinels:
        raise ValueError(
            f"TASK_FEATURE_LENGTHS has inputs of {inputs} tokens, with {spans} masked "
            f"spans, and the vocabulary has {sentinels} sentinels: shorten inputs, or "
            f"give the vocabulary extra_ids={spans}"
        )
    return preprocessors.span_corruption(
        dataset,
        sequence_length,
        output_features,
        mean_noise_span_length=_SPAN,
        noise_density=_DENSITY,
    )
