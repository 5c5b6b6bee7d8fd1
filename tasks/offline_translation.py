"""Translation of phrases that need no download: `offline_de_en`, `offline_en_de`, ...

The phrases are those of `phrases`: numbers, amounts of money, quantities, dates, times
and lists, of which a small model can translate some that it has not seen; and names,
which it can only memorise and which are in the training split alone. Others go to a split
by a hash of their English. No text of one split is in another, in either language.
"""

import functools

import tensorflow as tf

from gbt_t5x.tasks import phrases, splits, translation

_SPLIT_PERMILLE = {"guidance": 8, "validation": 5, "test": 18}  # training has the rest


def split_of(english: str, kind: str) -> str:
    """The split that a phrase belongs to."""
    if kind == phrases.NAMES:
        return "train"
    return splits.split_of(english, _SPLIT_PERMILLE, whole=1000)


@functools.cache
def pairs(language: str) -> dict[str, list[tuple[str, str]]]:
    """split -> (text in the language, English), in an order that mixes the kinds."""
    found: dict[str, list[tuple[str, str]]] = {s: [] for s in translation.SPLITS}
    known = phrases.pairs(language)
    for english, other in sorted(known, key=lambda pair: splits.hash_of(pair[0])):
        found[split_of(english, known[english, other])].append((other, english))
    return found


def _source(language: str, english: str) -> translation.FunctionPairSource:
    def dataset(
        split: str, shuffle_files: bool, seed: int | None = None
    ) -> tf.data.Dataset:
        del shuffle_files, seed  # seqio shuffles the examples
        texts = zip(*pairs(language)[split], strict=True)
        return tf.data.Dataset.from_tensor_slices(
            {k: list(v) for k, v in zip((language, english), texts, strict=True)}
        )

    return translation.FunctionPairSource(dataset, splits=translation.SPLITS)


translation.add_tasks(
    "offline",
    _source,
    vocabulary_dir="offline_translation",
    vocabulary_size=2048,
    filters=False,
)
