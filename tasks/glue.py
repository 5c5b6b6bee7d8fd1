"""The nine tasks of GLUE in T5's format, and their mixture `guided_glue`.

`guided_glue_mnli` is a mixture too: of training, and of the matched and the mismatched
evaluation. The metrics are those of the paper's Tables 3, 6 and 7:

| Task | Metrics |
| --- | --- |
| cola | `matthews_corrcoef` |
| sst2, mnli_matched, mnli_mismatched, qnli, rte, wnli | `accuracy` |
| mrpc, qqp | `f1`, `accuracy` |
| stsb | `pearson_corrcoef`, `spearman_corrcoef` |

Guidance is cut from `train`. To train on all of it, without guidance, name t5's own task,
for example `glue_cola_v002`, as docs/t5.md says.
"""

import seqio
from t5.data import glue_utils
import tensorflow_datasets as tfds

from gbt_t5x.tasks import text_to_text

# Training examples, and how many of them are for guidance: about 1.5 times those that
# fill 8 rows of 512 tokens, at the task's mean length.
TRAIN_EXAMPLES = {
    "cola": (8_551, 480),
    "sst2": (67_349, 320),
    "mrpc": (3_668, 96),
    "stsb": (5_749, 160),
    "qqp": (363_849, 160),
    "mnli": (392_702, 112),
    "qnli": (104_743, 96),
    "rte": (2_490, 80),
    "wnli": (635, 112),
}
_EVALUATION = {"validation": "validation", "test": "test"}


def _add(name: str, config: str, splits: dict[str, str], metrics_of: str | None) -> None:
    builder_config = tfds.text.glue.Glue.builder_configs[config]
    text_to_text.add_task(
        f"guided_glue_{name}",
        f"glue/{config}:2.0.0",
        splits,
        glue_utils.get_glue_text_preprocessor(builder_config),
        postprocess_fn=glue_utils.get_glue_postprocess_fn(builder_config),
        metric_fns=glue_utils.get_glue_metric(metrics_of) if metrics_of else (),
    )


for _name, (_, _guidance) in TRAIN_EXAMPLES.items():
    _splits = text_to_text.training_splits(_guidance)
    if _name == "mnli":
        _add("mnli_train", _name, _splits, None)
    else:
        _add(_name, _name, _splits | _EVALUATION, _name)

_MNLI = ["guided_glue_mnli_train"]
for _half in ("matched", "mismatched"):
    _MNLI.append(f"guided_glue_mnli_{_half}")
    _halves = {split: f"{split}_{_half}" for split in _EVALUATION}
    _add(f"mnli_{_half}", "mnli", _halves, f"mnli_{_half}")

seqio.MixtureRegistry.add("guided_glue_mnli", _MNLI, default_rate=1.0)
# In proportion to the training examples. The other rates matter to evaluation alone.
_rates = {f"guided_glue_{name}": n for name, (n, _) in TRAIN_EXAMPLES.items()}
_rates |= dict.fromkeys(_MNLI, 9_800) | {_MNLI[0]: _rates.pop("guided_glue_mnli")}
seqio.MixtureRegistry.add("guided_glue", list(_rates.items()))
