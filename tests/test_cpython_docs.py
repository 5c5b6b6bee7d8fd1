"""The offline English task: disjoint splits and T5's span corruption."""

import itertools

import numpy as np
import pytest
import seqio

from gbt_t5x.tasks import cpython_docs

LENGTHS = {"inputs": 64, "targets": 32}
SPLITS = ("train", "guidance", "validation")


def read(split, **kwargs):
    return seqio.get_mixture_or_task(cpython_docs.TASK).get_dataset(
        sequence_length=LENGTHS, split=split, shuffle=False, **kwargs
    )


def test_splits_share_no_document_and_no_text():
    corpus = cpython_docs.paragraphs()
    assert set(corpus) == set(SPLITS)
    texts = {s: set(itertools.chain(*corpus[s].values())) for s in SPLITS}
    for a, b in itertools.combinations(SPLITS, 2):
        assert not set(corpus[a]) & set(corpus[b])
        assert not texts[a] & texts[b]


def test_splits_are_large_enough():
    characters = {
        split: sum(len(t) for texts in documents.values() for t in texts)
        for split, documents in cpython_docs.paragraphs().items()
    }
    assert characters["train"] > 1_000_000
    assert characters["guidance"] > 50_000
    assert characters["validation"] > 50_000


def test_a_document_keeps_its_split_whatever_the_others_are():
    assert cpython_docs.split_of("argparse.py") == cpython_docs.split_of("argparse.py")
    shares = [cpython_docs.split_of(f"document {i}") for i in range(10_000)]
    assert shares.count("guidance") == pytest.approx(500, rel=0.2)
    assert shares.count("validation") == pytest.approx(500, rel=0.2)


@pytest.mark.parametrize("split", SPLITS)
def test_inputs_and_targets_restore_the_text(split):
    everything = "".join(itertools.chain(*cpython_docs.paragraphs()[split].values()))
    vocabulary = cpython_docs.VOCABULARY
    first_sentinel = vocabulary.vocab_size - 100
    examples = list(read(split).take(20).as_numpy_iterator())
    assert len(examples) == 20
    masked = total = found = 0
    for example in examples:
        assert all(len(example[k]) <= LENGTHS[k] for k in LENGTHS)
        assert all(example[k][-1] == vocabulary.eos_id for k in LENGTHS)
        inputs, targets = (list(map(int, example[k][:-1])) for k in LENGTHS)
        masked += sum(t < first_sentinel for t in targets)
        total += sum(t < first_sentinel for t in inputs + targets)
        spans: dict[int, list[int]] = {}
        for token in targets:
            if token >= first_sentinel:
                spans[token] = []
            else:
                spans[max(spans, default=0) and list(spans)[-1]].append(token)
        restored = [
            t for token in inputs for t in (spans[token] if token in spans else [token])
        ]
        text = vocabulary.decode(restored)
        longest = max(text.split("\n"), key=len)  # examples may join two paragraphs
        found += longest[2:-2] in everything
    assert masked / total == pytest.approx(0.15, abs=0.02)
    assert found >= 18


def test_reads_the_same_examples_again():
    one, other = (
        list(read("train", seed=3).take(5).as_numpy_iterator()) for _ in range(2)
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a["inputs"], b["inputs"])
