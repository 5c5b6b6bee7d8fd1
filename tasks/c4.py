"""T5's span corruption on C4, with the guidance documents cut from the training split."""

import functools

import seqio
from t5.data import preprocessors

TASK = "guided_c4_span_corruption"
_VOCABULARY = seqio.SentencePieceVocabulary(
    "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
)
# C4 documents average about 480 tokens; 1,024 documents pack into more than one batch of
# 256 rows of 512 tokens, and the guidance set is the first batch (Appendix C.3.2).
GUIDANCE_DOCUMENTS = 1024

seqio.TaskRegistry.add(
    TASK,
    source=seqio.TfdsDataSource(
        "c4/en:3.1.0",
        splits={
            "train": f"train[{GUIDANCE_DOCUMENTS}:]",
            "guidance": f"train[:{GUIDANCE_DOCUMENTS}]",
            "validation": "validation",
        },
    ),
    preprocessors=[
        functools.partial(
            seqio.preprocessors.rekey, key_map={"inputs": None, "targets": "text"}
        ),
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        preprocessors.span_corruption,
        seqio.preprocessors.append_eos_after_trim,
    ],
    output_features={
        name: seqio.Feature(vocabulary=_VOCABULARY, add_eos=True)
        for name in ("inputs", "targets")
    },
    metric_fns=[],
)
