"""The eight tasks of SuperGLUE in T5's format, and their mixture `guided_super_glue`.

`guided_super_glue_wsc` is a mixture too: of training, on the examples whose pronoun means
what they ask about, and of evaluation, on all. The metrics are those of the paper's
Tables 3, 6 and 7:

| Task | Metrics |
| --- | --- |
| boolq, copa, rte, wic, wsc_eval | `accuracy` |
| cb | `mean_3class_f1`, `accuracy` |
| multirc | `f1` over all answers, `exact_match` |
| record | `f1`, `em` |

Guidance is cut from `train`. To train on all of it, without guidance, name t5's own task,
for example `super_glue_cb_v102`, as docs/t5.md says.
"""

import functools

import seqio
from t5.data import glue_utils, postprocessors, preprocessors
from t5.evaluation import metrics
import tensorflow_datasets as tfds

from gbt_t5x.tasks import in_one_order, text_to_text

# As in `glue`. An example of ReCoRD has several answers, each of which makes one of its
# 138,854 training examples. Of WSC's, 259 of 554 are for training.
TRAIN_EXAMPLES = {
    "boolq": (9_427, 32),
    "cb": (250, 56),
    "copa": (400, 128),
    "multirc": (27_243, 24),
    "record": (138_854, 24),
    "rte": (2_490, 80),
    "wic": (5_428, 128),
    "wsc": (259, 200),
}
_EVALUATION = {"validation": "validation", "test": "test"}


def _add(name: str, guidance: int) -> None:
    config = tfds.text.super_glue.SuperGlue.builder_configs[name]
    text_to_text.add_task(
        f"guided_super_glue_{name}",
        f"super_glue/{name}:1.0.2",
        text_to_text.training_splits(guidance) | _EVALUATION,
        glue_utils.get_glue_text_preprocessor(config),
        source=seqio.TfdsDataSource if name != "record" else in_one_order.TfdsInOneOrder,
        postprocess_fn=glue_utils.get_glue_postprocess_fn(config),
        metric_fns=glue_utils.get_super_glue_metric(name),
    )


def _add_wsc(guidance: int) -> None:
    data_set = "super_glue/wsc.fixed:1.0.2"
    text_to_text.add_task(
        "guided_super_glue_wsc_train",
        data_set,
        text_to_text.training_splits(guidance),
        functools.partial(preprocessors.wsc_simple, correct_referent_only=True),
        source=in_one_order.TfdsInOneOrder,
    )
    text_to_text.add_task(
        "guided_super_glue_wsc_eval",
        data_set,
        _EVALUATION,
        functools.partial(preprocessors.wsc_simple, correct_referent_only=False),
        postprocess_fn=postprocessors.wsc_simple,
        metric_fns=[metrics.accuracy],
    )
    seqio.MixtureRegistry.add(
        "guided_super_glue_wsc",
        ["guided_super_glue_wsc_train", "guided_super_glue_wsc_eval"],
        default_rate=1.0,
    )


for _name, (_, _guidance) in TRAIN_EXAMPLES.items():
    if _name == "wsc":
        _add_wsc(_guidance)
    else:
        _add(_name, _guidance)

# In proportion to the training examples. WSC's other rate matters to evaluation alone.
_rates = {f"guided_super_glue_{name}": n for name, (n, _) in TRAIN_EXAMPLES.items()}
_rates["guided_super_glue_wsc_train"] = _rates.pop("guided_super_glue_wsc")
_rates["guided_super_glue_wsc_eval"] = 104
seqio.MixtureRegistry.add("guided_super_glue", list(_rates.items()))
