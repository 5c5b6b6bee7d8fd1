"""The tasks of the paper's Tables 3, 6 and 7, and the metrics of each."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Metric:
    """A row: its heading, and its task and key in seqio."""

    heading: str
    task: str
    key: str


@dataclasses.dataclass(frozen=True)
class Task:
    """Metrics whose mean is the task's."""

    name: str
    metrics: tuple[Metric, ...]


def _task(name: str, seqio_name: str, **metrics: str) -> Task:
    """A task of one seqio task, from heading = metric key."""
    return Task(name, tuple(Metric(h, seqio_name, key) for h, key in metrics.items()))


def _glue(name: str, config: str, **metrics: str) -> Task:
    return _task(name, f"guided_glue_{config}", **metrics)


def _super_glue(name: str, config: str, **metrics: str) -> Task:
    return _task(name, f"guided_super_glue_{config}", **metrics)


_ACC = {"acc": "accuracy"}
_F1_ACC = {"F1": "f1", "acc": "accuracy"}
SUITES = {
    "GLUE": (
        _glue("CoLA", "cola", corr="matthews_corrcoef"),
        _glue("SST", "sst2", **_ACC),
        _glue("MRPC", "mrpc", **_F1_ACC),
        _glue("STS", "stsb", Pearson="pearson_corrcoef", Spearman="spearman_corrcoef"),
        _glue("QQP", "qqp", **_F1_ACC),
        Task(
            "MNLI",
            (
                *_glue("", "mnli_matched", **{"m acc": "accuracy"}).metrics,
                *_glue("", "mnli_mismatched", **{"mm acc": "accuracy"}).metrics,
            ),
        ),
        _glue("QNLI", "qnli", **_ACC),
        _glue("RTE", "rte", **_ACC),
        _glue("WNLI", "wnli", **_ACC),
    ),
    "SQuAD": (_task("SQuAD", "guided_squad", EM="em", F1="f1"),),
    "SuperGLUE": (
        _super_glue("BoolQ", "boolq", **_ACC),
        _super_glue("CB", "cb", F1="mean_3class_f1", acc="accuracy"),
        _super_glue("COPA", "copa", **_ACC),
        _super_glue("MultiRC", "multirc", F1a="f1", EM="exact_match"),
        _super_glue("ReCoRD", "record", F1="f1", acc="em"),
        _super_glue("RTE", "rte", **_ACC),
        _super_glue("WiC", "wic", **_ACC),
        _super_glue("WSC", "wsc_eval", **_ACC),
    ),
}
# t5's names of the same tasks, as super_glue_wsc_v102_simple_eval.
_T5_NAME = re.compile(r"((?:super_)?glue_\w+?)_v\d+(?:_simple(_eval))?")


def canonical(task: str) -> str:
    """The name of a task in SUITES, given that or t5's; others are unchanged."""
    if task == "squad_v010_allanswers":
        return "guided_squad"
    match = _T5_NAME.fullmatch(task)
    return f"guided_{match[1]}{match[2] or ''}" if match else task
