"""What T5's fine-tuning tasks share: a vocabulary, and their splits of TFDS."""

from collections.abc import Callable, Mapping, Sequence

import seqio

from gbt_t5x.tasks import autograph

VOCABULARY = seqio.SentencePieceVocabulary(
    "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
)


def training_splits(guidance: int) -> dict[str, str]:
    """TFDS' training split without its first examples, and these.

    Args:
        guidance: how many.
    """
    return {"train": f"train[{guidance}:]", "guidance": f"train[:{guidance}]"}


def add_task(
    name: str,
    tfds_name: str,
    splits: Mapping[str, str],
    to_text: Callable,
    *,
    source: type[seqio.TfdsDataSource] = seqio.TfdsDataSource,
    postprocess_fn: Callable | None = None,
    metric_fns: Sequence[Callable] = (),
) -> None:
    """Registers a task in T5's text-to-text format.

    Args:
        name: of the task.
        tfds_name: `name/config:version` of TFDS.
        splits: split -> that of TFDS, or a slice of it.
        to_text: makes `inputs` and `targets`, texts, of a dataset of TFDS.
        source: `in_one_order.TfdsInOneOrder` where `to_text` gives another number of
            examples than it reads.
        postprocess_fn: makes what the metrics compare of a text.
        metric_fns: for evaluation.
    """
    feature = seqio.Feature(VOCABULARY, add_eos=True)
    seqio.TaskRegistry.add(
        name,
        source=source(tfds_name, splits=splits),
        preprocessors=[
            to_text,
            *autograph.off(
                [
                    seqio.preprocessors.tokenize,
                    seqio.CacheDatasetPlaceholder(),
                    seqio.preprocessors.append_eos_after_trim,
                ]
            ),
        ],
        output_features={"inputs": feature, "targets": feature},
        postprocess_fn=postprocess_fn,
        metric_fns=list(metric_fns),
    )
