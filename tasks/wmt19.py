"""WMT19 German, Finnish and Lithuanian, to and from English (Appendix C.1.2).

Tasks `wmt19_de_en`, `wmt19_en_de`, ... read TFDS; `wmt19_tsv_de_en`, ... read
`train.tsv`, `validation.tsv` and `test.tsv` in `$GBT_T5X_DATA_DIR/wmt19/de-en/`, German
in the first column and English in the second for both directions. They share the
vocabulary `$GBT_T5X_DATA_DIR/wmt19/de-en.model`. Lines of `train.tsv` should be in random
order: the first are the guidance split.

One core filters about 5,000 pairs a second. Caching keeps that work and the tokens. With
Apache Beam installed,

    seqio_cache_tasks --module_import=gbt_t5x.tasks.wmt19 --tasks=wmt19_de_en \
        --output_cache_dir=gs://bucket/cache

and training with `--seqio_additional_cache_dirs=gs://bucket/cache` and
`USE_CACHED_TASKS = True`.

Differences:
    TFDS has no test split of WMT19. Its validation split, newstest2018 or for Lithuanian
    newsdev2019, in the random order of TFDS, is cut in half into validation and test. To
    report on newstest2019, put it into `test.tsv`, which
    `sacrebleu -t wmt19 -l de-en --echo src ref` prints.
"""

import os

from gbt_t5x.tasks import DATA_DIR, translation, tsv

# Before the filters. The paper has 2,165 to 2,363 examples, one batch, after its own.
GUIDANCE_PAIRS = 2560


def _tfds(language: str, english: str) -> translation.TfdsPairSource:
    return translation.TfdsPairSource(
        f"wmt19_translate/{language}-{english}:1.0.0",
        splits={
            "train": f"train[{GUIDANCE_PAIRS}:]",
            "guidance": f"train[:{GUIDANCE_PAIRS}]",
            "validation": "validation[:50%]",
            "test": "validation[50%:]",
        },
    )


def _tsv(language: str, english: str) -> tsv.TsvPairSource:
    folder = os.path.join(DATA_DIR, "wmt19", f"{language}-{english}")
    train = os.path.join(folder, "train.tsv")
    return tsv.TsvPairSource(
        {
            "train": tsv.Lines(train, GUIDANCE_PAIRS),
            "guidance": tsv.Lines(train, 0, GUIDANCE_PAIRS),
            "validation": tsv.Lines(os.path.join(folder, "validation.tsv")),
            "test": tsv.Lines(os.path.join(folder, "test.tsv")),
        },
        (language, english),
    )


for _prefix, _source in (("wmt19", _tfds), ("wmt19_tsv", _tsv)):
    translation.add_tasks(
        _prefix,
        _source,
        vocabulary_dir="wmt19",
        vocabulary_size=32768,
        filters=True,
    )
