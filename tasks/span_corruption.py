"""T5's pre-training objective, for any source of text."""

import functools

import seqio
from t5.data import preprocessors

from gbt_t5x.tasks import autograph


def add_task(name: str, source: seqio.DataSource, vocabulary: seqio.Vocabulary) -> None:
    """Registers span corruption: 15% of tokens masked, in spans of mean length 3.

    Args:
        name: of the task.
        source: its examples have a feature `text`.
        vocabulary: its last 100 ids are the sentinels.
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
                preprocessors.span_corruption,
                seqio.preprocessors.append_eos_after_trim,
            ]
        ),
        output_features={
            feature: seqio.Feature(vocabulary=vocabulary, add_eos=True)
            for feature in ("inputs", "targets")
        },
        metric_fns=[],
    )
