"""GLUE, SuperGLUE and SQuAD: features, formats, and metrics computed by hand."""

import re

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from gbt_t5x import guidance
from gbt_t5x.studies import suites
from gbt_t5x.tasks import (
    glue,  # noqa: F401, registers the tasks
    in_one_order as tfds_in_one_order,
    squad,  # noqa: F401
    super_glue,  # noqa: F401
)
import mock_tfds

TASKS = [
    name
    for name in seqio.TaskRegistry.names()
    if re.match("guided_(glue|super_glue|squad)", name)
]
MIXTURES = [
    *("guided_glue", "guided_super_glue", "guided_glue_mnli", "guided_super_glue_wsc")
]
LENGTHS = {"inputs": 512, "targets": 128}
SEVERAL = "train|guidance"  # splits that are packed


def labels(name):
    """Texts that a task's targets may be, as a regular expression."""
    config = name.removeprefix("guided_").removeprefix("super_").removeprefix("glue_")
    config = re.sub("_(train|matched|mismatched)$", "", config)
    if config == "stsb":
        return r"\d+\.[02468]"
    if config.startswith("wsc"):
        return "Mark"
    if config in ("record", "squad"):
        return ".*"
    suite = tfds.text.super_glue.SuperGlue if "super" in name else tfds.text.glue.Glue
    return "|".join(suite.builder_configs[config].label_classes)


@pytest.mark.parametrize("name", TASKS + MIXTURES)
def test_every_split_yields_features(name, sizeless_tfds, tiny_t5_vocabulary):
    task = seqio.get_mixture_or_task(name)
    splits = {s for t in seqio.get_subtasks(task) for s in t.splits}
    assert "guidance" in splits or name.endswith(("matched", "wsc_eval"))
    for split in sorted(splits):
        packed = split in SEVERAL
        with mock_tfds.mock_data():
            rows = list(
                seqio.get_dataset(
                    name,
                    task_feature_lengths=LENGTHS,
                    dataset_split=split,
                    shuffle=False,
                    num_epochs=1,
                    feature_converter=seqio.EncDecFeatureConverter(pack=packed),
                )
                .take(3)
                .as_numpy_iterator()
            )
        assert rows, split
        for row in rows:
            inputs, targets = row["encoder_input_tokens"], row["decoder_target_tokens"]
            assert inputs.shape == (512,) and targets.shape == (128,)
            assert inputs.dtype == targets.dtype == np.int32
            assert 0 <= inputs.min() and inputs.max() < tiny_t5_vocabulary.vocab_size
            assert 1 in inputs and 1 in targets, "no end of sequence"
            texts = np.split(targets, np.flatnonzero(targets == 1) + 1)[:-1]
            assert len(texts) == (row["decoder_segment_ids"].max() if packed else 1)
            assert not np.any(targets[sum(map(len, texts)) :]), "text after the end"
            if name in TASKS and split != "test":
                for text in texts:
                    assert re.fullmatch(
                        labels(name), tiny_t5_vocabulary.decode(text.tolist())
                    )


@pytest.mark.parametrize("name", ["guided_squad", *MIXTURES])
def test_guidance_is_not_trained_on(name):
    for task in seqio.get_subtasks(seqio.get_mixture_or_task(name)):
        if "guidance" in task.splits:
            for split in set(task.splits) - {"guidance"}:
                assert not guidance.overlap(task.source, "guidance", task.source, split)


@pytest.mark.parametrize("name", TASKS)
def test_files_have_one_order_where_other_numbers_of_examples_are_made(
    name, sizeless_tfds, tiny_t5_vocabulary
):
    """Else a position near an epoch's end goes on in another order."""
    task = seqio.TaskRegistry.get(name)
    split = "train" if "train" in task.splits else "validation"
    with mock_tfds.mock_data():
        dataset = task.source.get_dataset(split, shuffle=True)
        read, made = (
            sum(1 for _ in x) for x in (dataset, task.preprocessors[0](dataset))
        )
    in_one_order = isinstance(task.source, tfds_in_one_order.TfdsInOneOrder)
    assert in_one_order == (read != made)


def test_mixtures_are_proportional():
    rates = {
        name: {t.name: m.get_rate(t) for t in m.tasks if "train" in t.splits}
        for name in ("guided_glue", "guided_super_glue")
        for m in [seqio.MixtureRegistry.get(name)]
    }
    assert len(rates["guided_glue"]) == 9
    assert len(rates["guided_super_glue"]) == 8
    assert rates["guided_glue"]["guided_glue_mnli_train"] == 392_702
    assert rates["guided_super_glue"]["guided_super_glue_wsc_train"] == 259


def pair(a, b, names=("sentence1", "sentence2"), **more):
    return dict(zip(names, (a, b), strict=True)) | more


QUESTION = {"question": "Where is it?", "context": "It is in New York.", "title": ""}


def squad_example(index, *answers):
    starts = np.zeros(len(answers), np.int32)
    found = {"text": list(answers), "answer_start": starts}
    return QUESTION | {"id": str(index), "answers": found}


def multirc(question, answer, label):
    idx = {"paragraph": 0, "question": question, "answer": answer}
    text = {"paragraph": "<b>P</b>", "question": "Q?", "answer": "A"}
    return text | {"idx": idx, "label": label}


def record(query, *answers):
    return {
        "passage": "In Paris.\n@highlight\nAlso New York.",
        "query": "He left @placeholder.",
        "entities": ["Paris", "New York", "NYC"],
        "answers": list(answers),
        "idx": {"passage": 0, "query": query},
    }


def labelled(features, count):
    """Examples with labels 0, 1, 1, 0 or 0, 1, 2, 0: three have distinct labels."""
    numbers = [0, 1, count - 1, 0]
    return [features | {"label": n, "idx": i} for i, n in enumerate(numbers)]


NLI = ("premise", "hypothesis")
P = {"premise": "P.", "hypothesis": "H."}
# task -> (TFDS's examples, the first as inputs and targets, predictions, metrics)
THREE_OF_FOUR = {"accuracy": 75.0}  # the second is no class
CASES = {
    "glue_cola": (
        # True positives 1, true negatives 2, false negatives 1, false positives 0:
        # (1·2 - 0·1) / sqrt(1·2·2·3).
        [{"sentence": "A cat sat.", "label": n, "idx": 0} for n in (1, 1, 0, 0)],
        ("cola sentence: A cat sat.", "acceptable"),
        ["acceptable", "unacceptable", "unacceptable", "unacceptable"],
        {"matthews_corrcoef": 100 * 2 / 12**0.5},
    ),
    "glue_sst2": (
        labelled({"sentence": "bad"}, 2),
        ("sst2 sentence: bad", "negative"),
        ["negative", "rubbish", "positive", "negative"],
        THREE_OF_FOUR,
    ),
    "glue_mrpc": (
        # One true positive, and the invalid one counts as a false negative: 2 / (2 + 1).
        labelled(pair("A.", "B."), 2),
        ("mrpc sentence1: A. sentence2: B.", "not_equivalent"),
        ["not_equivalent", "rubbish", "equivalent", "not_equivalent"],
        {"f1": 200 / 3} | THREE_OF_FOUR,
    ),
    "glue_qqp": (
        # One true positive, one false negative, one false positive: 2 / (2 + 1 + 1).
        labelled(pair("A?", "B?", ("question1", "question2")), 2),
        ("qqp question1: A? question2: B?", "not_duplicate"),
        ["duplicate", "not_duplicate", "duplicate", "not_duplicate"],
        {"f1": 50.0, "accuracy": 50.0},
    ),
    "glue_stsb": (
        # Deviations -1, 0, 1 and -1, 1, 0: 1 / sqrt(2·2).
        [pair("A.", "B.", label=np.float32(x), idx=0) for x in (1.09, 2.0, 3.0)],
        ("stsb sentence1: A. sentence2: B.", "1.0"),
        ["1.0", "3.0", "2.0"],
        {"pearson_corrcoef": 50.0, "spearman_corrcoef": 50.0},
    ),
    "glue_mnli_matched": (
        labelled(P, 3),
        ("mnli hypothesis: H. premise: P.", "entailment"),
        ["entailment", "rubbish", "contradiction", "entailment"],
        THREE_OF_FOUR,
    ),
    "glue_mnli_mismatched": (
        labelled(P, 3),
        ("mnli hypothesis: H. premise: P.", "entailment"),
        ["entailment", "neutral", "contradiction", "neutral"],
        THREE_OF_FOUR,
    ),
    "glue_qnli": (
        labelled(pair("Q?", "S.", ("question", "sentence")), 2),
        ("qnli question: Q? sentence: S.", "entailment"),
        ["entailment", "rubbish", "not_entailment", "entailment"],
        THREE_OF_FOUR,
    ),
    "glue_rte": (
        labelled(pair("A.", "B."), 2),
        ("rte sentence1: A. sentence2: B.", "entailment"),
        ["entailment", "entailment", "not_entailment", "entailment"],
        THREE_OF_FOUR,
    ),
    "glue_wnli": (
        labelled(pair("A.", "B."), 2),
        ("wnli sentence1: A. sentence2: B.", "not_entailment"),
        ["not_entailment", "rubbish", "entailment", "not_entailment"],
        THREE_OF_FOUR,
    ),
    "super_glue_boolq": (
        labelled({"passage": "P.", "question": "Q"}, 2),
        ("boolq passage: P. question: Q", "False"),
        ["False", "rubbish", "True", "False"],
        THREE_OF_FOUR,
    ),
    "super_glue_cb": (
        # Of entailment 2 / (2 + 1), of contradiction 1, of neutral 2 / (2 + 1).
        labelled(P, 3),
        ("cb hypothesis: H. premise: P.", "entailment"),
        ["entailment", "contradiction", "neutral", "neutral"],
        {"mean_3class_f1": 100 * 7 / 9} | THREE_OF_FOUR,
    ),
    "super_glue_copa": (
        labelled({"choice1": "A", "choice2": "B", "premise": "P.", "question": "why"}, 2),
        ("copa choice1: A choice2: B premise: P. question: why", "choice1"),
        ["choice1", "rubbish", "choice2", "choice1"],
        THREE_OF_FOUR,
    ),
    "super_glue_multirc": (
        # Two true positives and one false negative: 4 / (4 + 1). Of two questions, the
        # answers to one are all right.
        [multirc(0, 0, 1), multirc(0, 1, 0), multirc(1, 0, 1), multirc(1, 1, 1)],
        ("multirc question: Q? answer: A paragraph: P", "True"),
        ["True", "False", "True", "False"],
        {"f1": 80.0, "exact_match": 50.0},
    ),
    "super_glue_record": (
        # Of two queries, one is right. "New" has precision 1 and recall 1/2, so 2/3. The
        # second query makes two examples, which count once.
        [record(0, "Paris"), record(1, "New York", "NYC")],
        (
            "record query: He left @placeholder. entities: Paris, New York, NYC "
            "passage: In Paris. Also New York.",
            "Paris",
        ),
        ["Paris", "New", "New"],
        {"em": 50.0, "f1": 100 * (1 + 2 / 3) / 2},
    ),
    "super_glue_rte": (
        labelled(P, 2),
        ("rte hypothesis: H. premise: P.", "entailment"),
        ["entailment", "rubbish", "not_entailment", "entailment"],
        THREE_OF_FOUR,
    ),
    "super_glue_wic": (
        labelled(pair("A.", "B.", word="w", start1=0, end1=1, start2=0, end2=1), 2),
        ("wic sentence1: A. sentence2: B. word: w", "False"),
        ["False", "rubbish", "True", "False"],
        THREE_OF_FOUR,
    ),
    "super_glue_wsc_eval": (
        # Right: "mark" is what they ask about, and "Pete" is not; wrong the other way.
        [mock_tfds.wsc(i, label) for i, label in enumerate((1, 0, 1, 1))],
        (
            "wsc: Mark told Pete many lies about himself, which Pete included in "
            "*his* book.",
            "Mark",
        ),
        ["mark", "Pete", "Pete", "Mark"],
        THREE_OF_FOUR,
    ),
    "squad": (
        # The best of the answers counts: one exact match of two, and "New", 2/3.
        [squad_example(0, "New York", "in New York"), squad_example(1, "New York")],
        ("question: Where is it ? context: It is in New York . ", "New York"),
        ["in New York", "New"],
        {"em": 50.0, "f1": 100 * (1 + 2 / 3) / 2},
    ),
}


def test_every_task_with_metrics_has_a_case():
    with_metrics = {n for n in TASKS if seqio.TaskRegistry.get(n).metric_fns}
    assert {f"guided_{name}" for name in CASES} == with_metrics


def preprocessed(name):
    """TFDS's examples of a case as T5's."""
    task = seqio.TaskRegistry.get(f"guided_{name}")
    texts = []
    for example in CASES[name][0]:
        dataset = tf.data.Dataset.from_tensors(example)
        texts += task.preprocessors[0](dataset).as_numpy_iterator()
    return [text | {"targets_pretokenized": text["targets"]} for text in texts]


@pytest.mark.parametrize("name", CASES)
def test_format_is_t5s(name):
    first = preprocessed(name)[0]
    assert (first["inputs"].decode(), first["targets"].decode()) == CASES[name][1]


@pytest.mark.parametrize("name", CASES)
def test_metrics_are_those_computed_by_hand(name):
    task = seqio.TaskRegistry.get(f"guided_{name}")
    _, _, predictions, expected = CASES[name]
    examples = preprocessed(name)
    targets = [
        task.postprocess_fn(e["targets"].decode(), example=e, is_target=True)
        for e in examples
    ]
    outputs = [
        task.postprocess_fn(text, example=e, is_target=False)
        for text, e in zip(predictions, examples, strict=True)
    ]
    found = {}
    for metric_fn in task.metric_fns:
        found |= metric_fn(targets, outputs)
    assert {k: float(v) for k, v in found.items()} == pytest.approx(expected)
    of_tables = {
        metric.key
        for tasks in suites.SUITES.values()
        for row in tasks
        for metric in row.metrics
        if metric.task == f"guided_{name}"
    }
    assert of_tables == found.keys()
