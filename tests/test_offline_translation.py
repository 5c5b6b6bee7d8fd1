"""Phrases of babel, num2words and pycountry: splits, contents, and the six tasks."""

import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
import seqio

from gbt_t5x.tasks import offline_translation, phrases, translation

DIRECTIONS = ("de_en", "en_de", "fi_en", "en_fi", "lt_en", "en_lt")
LANGUAGES = ("de", "fi", "lt")
LENGTHS = {"inputs": 32, "targets": 32}


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_share_no_text_in_either_language(language):
    splits = offline_translation.pairs(language)
    assert tuple(splits) == translation.SPLITS
    for a, b in itertools.combinations(splits, 2):
        for side in (0, 1):
            assert not {p[side] for p in splits[a]} & {p[side] for p in splits[b]}
    everything = [pair for split in splits.values() for pair in split]
    for side in (0, 1):  # nor is any translated in two ways
        assert len({pair[side] for pair in everything}) == len(everything)


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_have_their_sizes(language):
    sizes = {k: len(v) for k, v in offline_translation.pairs(language).items()}
    assert 40_000 < sizes["train"] < 60_000
    assert 200 < sizes["guidance"] < 450
    assert 150 < sizes["validation"] < 300
    assert 700 < sizes["test"] < 1000


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_test_split_has_all_kinds_but_names(language):
    kinds = phrases.pairs(language)
    known = set(kinds.values())
    seen = {kinds[b, a] for a, b in offline_translation.pairs(language)["test"]}
    assert phrases.NAMES in known
    assert seen == known - {phrases.NAMES}
    assert ("ordinal" in known) == ("year" in known) == (language != "lt")


def test_phrases_translate_each_other():
    """Phrases looked up in the libraries' output, and read by a person."""
    expected = {
        "de": [
            ("seventy-eight", "achtundsiebzig"),
            ("eighteen forty-six", "achtzehnhundertsechsundvierzig"),
            ("Friday, April 13, 1906", "Freitag, 13. April 1906"),
            ("Aug 30, 1990, 8:46:16 AM", "30.08.1990, 08:46:16"),
            ("12.9 joules", "12,9 Joule"),
            ("Switzerland", "Schweiz"),
        ],
        "fi": [
            ("seventy-eight", "seitsemänkymmentäkahdeksan"),
            ("Friday, April 13, 1906", "perjantai 13. huhtikuuta 1906"),
            ("5,349.2 kilowatts", "5 349,2 kilowattia"),
            ("4 months ago", "4 kuukautta sitten"),
        ],
        "lt": [
            ("seventy-eight", "septyniasdešimt aštuoni"),
            ("Friday, April 13, 1906", "1906 m. balandžio 13 d., penktadienis"),
            ("12.9 joules", "12,9 džaulio"),
            ("in 4 months", "po 4 mėnesių"),
        ],
    }
    for language, pairs in expected.items():
        known = phrases.pairs(language)
        assert not [pair for pair in pairs if pair not in known]


def test_phrases_are_the_same_in_another_process():
    program = (
        "from gbt_t5x.tasks import phrases; import hashlib;"
        "print(hashlib.sha256(repr(phrases._composed('lt')).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    here = hashlib.sha256(repr(phrases._composed("lt")).encode()).hexdigest()
    assert printed.strip() == here


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_task_reads_its_direction(direction, offline_vocabularies):
    source, target = direction.split("_")
    task = seqio.get_mixture_or_task(f"offline_{direction}")
    vocabulary = translation.vocabulary(f"offline_{direction}")
    assert vocabulary.vocab_size == 2048
    for split in translation.SPLITS:
        pairs = offline_translation.pairs(source if target == "en" else target)[split]
        dataset = task.get_dataset(LENGTHS, split, shuffle=False).take(50)
        examples = list(dataset.as_numpy_iterator())
        assert len(examples) == 50
        for example in examples:
            texts = {k: example[f"{k}_pretokenized"].decode() for k in LENGTHS}
            pair = (texts["inputs"], texts["targets"])
            assert (pair if target == "en" else pair[::-1]) in pairs
            for name, text in texts.items():
                assert example[name].dtype == np.int32
                assert len(example[name]) <= LENGTHS[name]
                assert list(example[name]) == [*vocabulary.encode(text), 1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_vocabulary_writes_what_is_evaluated(language, offline_vocabularies):
    vocabulary = translation.vocabulary(f"offline_{language}_en")
    splits = offline_translation.pairs(language)
    texts = [text for s in ("validation", "test") for pair in splits[s] for text in pair]
    whole = [vocabulary.decode(vocabulary.encode(text)) == text for text in texts]
    assert np.mean(whole) > 0.99


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_what_has_no_partner_is_not_left_out(metric):
    with pytest.raises(ValueError, match=r"^1 predictions of 2 targets\.$"):
        getattr(translation, metric)(["a b c d", "e f g h"], ["a b c d"])
