"""The fine-tuning tasks about CPython's source."""

import collections
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import seqio

from gbt_t5x import guidance
from gbt_t5x.tasks import cpython_docs, offline_nlu
import gin_runs

TASKS = ("offline_kind", "offline_module", "offline_questions")
LENGTHS = {"inputs": 128, "targets": 32}


@pytest.fixture(scope="module")
def examples():
    """(task, split) -> examples."""
    return {
        (name, split): list(
            seqio.get_mixture_or_task(name)
            .get_dataset(LENGTHS, split, shuffle=False)
            .as_numpy_iterator()
        )
        for name in TASKS
        for split in offline_nlu.SPLITS
    }


def text(example, feature):
    return example[f"{feature}_pretokenized"].decode()


@pytest.mark.parametrize("name", TASKS)
def test_features_fit_and_end(name, examples):
    for split in offline_nlu.SPLITS:
        for example in examples[name, split]:
            for feature, length in LENGTHS.items():
                ids = example[feature]
                assert ids.dtype == np.int32 and len(ids) <= length
                assert ids[-1] == 1 and 1 not in ids[:-1]
                decoded = cpython_docs.VOCABULARY.decode(ids.tolist())
                assert decoded == text(example, feature), "text was cut"


@pytest.mark.parametrize("name", TASKS)
def test_splits_have_sizes_and_share_no_text(name, examples):
    texts = {
        s: {text(e, "inputs") for e in examples[name, s]} for s in offline_nlu.SPLITS
    }
    assert len(texts["train"]) > 1000
    assert 150 < len(texts["validation"]) < 500
    for split in ("guidance", "validation"):
        assert texts[split].isdisjoint(texts["train"])
    tokens = sum(len(e["inputs"]) for e in examples[name, "guidance"])
    assert tokens > 1.5 * 16 * 128, "guidance fills a batch of 16 rows"


def test_guidance_batch_is_held_out():
    for name in TASKS:
        source = seqio.TaskRegistry.get(name).source
        assert not guidance.overlap(source, "guidance", source, "train")


@pytest.mark.parametrize(
    ("name", "labels"),
    [("offline_kind", offline_nlu.KINDS), ("offline_module", offline_nlu.PACKAGES)],
)
def test_classes_are_balanced(name, labels, examples):
    count = collections.Counter(text(e, "targets") for e in examples[name, "train"])
    assert set(count) == set(labels)
    assert max(count.values()) < 2 * min(count.values())


def test_sentences_do_not_name_their_package(examples):
    for split in offline_nlu.SPLITS:
        for example in examples["offline_module", split]:
            sentence = text(example, "inputs").removeprefix("offline_module sentence: ")
            assert text(example, "targets") not in sentence.lower()


def test_answers_stand_in_the_context(examples):
    questions = examples["offline_questions", "train"]
    assert all(
        text(e, "targets") in text(e, "inputs").partition("context: ")[2]
        for e in questions
    )
    assert any("default of" in text(e, "inputs") for e in questions)
    assert any("parameter after" in text(e, "inputs") for e in questions)


def test_a_documented_function():
    """copytree(src, dst, ...): the parameter after src is dst."""
    found = [
        e for _, e in offline_nlu._questions() if e["context"].startswith("copymode(")
    ]
    asked = {e["question"]: e["answer"] for e in found}
    assert asked["parameter after src"] == "dst"


CASES = {
    # One true positive, one false negative, and no class counts as the other one.
    "offline_kind": (
        ["class", "class", "function", "function"],
        ["class", "rubbish", "function", "function"],
        {"f1": 200 / 3, "accuracy": 75.0},
    ),
    "offline_module": (
        ["email", "email", "xml", "http"],
        ["email", "http", "rubbish", "http"],
        {"accuracy": 50.0},
    ),
    # "CRITICAL" has precision 1 and recall 1/2, so 2/3.
    "offline_questions": (
        ["None", "logging CRITICAL"],
        ["None", "CRITICAL"],
        {"em": 50.0, "f1": 100 * (1 + 2 / 3) / 2},
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_metrics_are_those_computed_by_hand(name):
    task = seqio.TaskRegistry.get(name)
    texts, predictions, expected = CASES[name]
    targets, outputs = (
        [
            task.postprocess_fn(
                given, example={"answers": [target.encode()]}, is_target=is_target
            )
            for given, target in zip(found, texts, strict=True)
        ]
        for found, is_target in ((texts, True), (predictions, False))
    )
    metrics = {}
    for metric_fn in task.metric_fns:
        metrics |= metric_fn(targets, outputs)
    assert {k: float(v) for k, v in metrics.items()} == pytest.approx(expected)


def test_other_processes_have_the_same_examples():
    code = (
        "from gbt_t5x.tasks import offline_nlu as o; import hashlib;"
        "print(hashlib.sha256(repr([list(f()) for f in (o._kinds, o._questions)])"
        ".encode()).hexdigest())"
    )
    digest = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        cwd=gin_runs.ROOT / "tests",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    here = [list(examples()) for examples in (offline_nlu._kinds, offline_nlu._questions)]
    assert digest.strip() == hashlib.sha256(repr(here).encode()).hexdigest()
