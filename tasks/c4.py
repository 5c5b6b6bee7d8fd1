"""Span corruption on C4, with the guidance documents cut from the training split."""

import seqio

from gbt_t5x.tasks import span_corruption, text_to_text

# The guidance set is one batch of 256 rows of 512 tokens (Appendix C.3.2). These
# documents fill it if they average 142 tokens; only the first batch is read.
GUIDANCE_DOCUMENTS = 1024

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
