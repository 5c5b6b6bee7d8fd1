"""Span corruption on C4, with the guidance documents cut from the training split.

`guided_c4_span_corruption` reads TFDS. `guided_c4_files_span_corruption` reads the files
`*train*` and `*validation*` in `$GBT_T5X_DATA_DIR/c4/`: JSON lines with a field `text`,
as C4 is distributed (`c4-train.00000-of-01024.json.gz`), or any text with a document to a
line. Documents should be in random order: the first are the guidance split.
"""

import os

import seqio

from gbt_t5x.tasks import DATA_DIR, span_corruption, text_files, text_to_text

# The guidance set is one batch of 256 rows of 512 tokens (Appendix C.3.2). These
# documents fill it if they average 142 tokens; only the first batch is read.
GUIDANCE_DOCUMENTS = 1024
_TRAIN, _VALIDATION = (
    os.path.join(DATA_DIR, "c4", f"*{split}*") for split in ("train", "validation")
)

span_corruption.add_task(
    "guided_c4_span_corruption",
    seqio.TfdsDataSource(
        "c4/en:3.1.0",
        splits={
            "train": f"train[{GUIDANCE_DOCUMENTS}:]",
            "guidance": f"train[:{GUIDANCE_DOCUMENTS}]",
            "validation": "validation",
        },
    ),
    text_to_text.VOCABULARY,
)

span_corruption.add_task(
    "guided_c4_files_span_corruption",
    text_files.TextFileSource(
        {
            "train": text_files.Documents(_TRAIN, GUIDANCE_DOCUMENTS),
            "guidance": text_files.Documents(_TRAIN, 0, GUIDANCE_DOCUMENTS),
            "validation": text_files.Documents(_VALIDATION),
        }
    ),
    text_to_text.VOCABULARY,
)
