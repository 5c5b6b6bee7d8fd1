"""Translation of programs' messages: `catalogues_de_en`, `catalogues_en_de`, ...

People translated them. `scripts/download_catalogues.py` makes the files, a split each, in
`$GBT_T5X_DATA_DIR/catalogues/de-en/`, with German in the first column and English in the
second. Texts have 6 words on average; no text of a split is like one of another.
"""

import os

from gbt_t5x.tasks import DATA_DIR, translation, tsv

LANGUAGES = tuple(language for language, _ in translation.PAIRS)


def folder(language: str) -> str:
    """Has the language's files."""
    return os.path.join(DATA_DIR, "catalogues", f"{language}-en")


def _source(language: str, english: str) -> tsv.TsvPairSource:
    files = {s: os.path.join(folder(language), f"{s}.tsv") for s in translation.SPLITS}
    return tsv.TsvPairSource(
        {split: tsv.Lines(file) for split, file in files.items()},
        (language, english),
        "make it by `python scripts/download_catalogues.py`",
    )


translation.add_tasks(
    "catalogues",
    _source,
    vocabulary_dir="catalogues",
    vocabulary_size=2048,
    filters=False,
)
