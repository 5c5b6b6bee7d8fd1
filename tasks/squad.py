"""SQuAD 1.1 in T5's format: `guided_squad`, with the metrics `em` and `f1`.

A question has one answer in training and several in validation, of which the best counts.
"""

from t5.data import postprocessors, preprocessors
from t5.evaluation import metrics

from gbt_t5x.tasks import text_to_text

GUIDANCE_EXAMPLES = 32  # as in `glue`

text_to_text.add_task(
    "guided_squad",
    "squad/v1.1:3.0.0",
    text_to_text.training_splits(GUIDANCE_EXAMPLES) | {"validation": "validation"},
    preprocessors.squad,
    postprocess_fn=postprocessors.qa,
    metric_fns=[metrics.squad],
)
