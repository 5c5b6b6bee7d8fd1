"""The WMT19 tasks, on small TFDS directories and TSV files; filters and metrics."""

import fcntl
import functools
import itertools

import numpy as np
import pytest
import sacrebleu
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.translate import wmt

from gbt_t5x import guidance
from gbt_t5x.tasks import pair_filters, translation, tsv, wmt19
import gin_runs
import train_vocabulary

DIRECTIONS = ("de_en", "en_de", "fi_en", "en_fi", "lt_en", "en_lt")
TASKS = [f"{prefix}_{d}" for prefix in ("wmt19", "wmt19_tsv") for d in DIRECTIONS]
LENGTHS = {"inputs": 120, "targets": 120}
FRENCH = "Le train numéro {} part aujourd'hui à huit heures pour la capitale."
TRAIN = {
    "de": "Der Zug Nummer {} fährt heute um acht Uhr in die Hauptstadt.",
    "en": "Train number {} leaves for the capital at eight o'clock today.",
    "fi": "Juna numero {} lähtee tänään kello kahdeksan pääkaupunkiin.",
    "lt": "Traukinys numeris {} šiandien aštuntą valandą išvyksta į sostinę.",
}
SENTENCES = {
    "de": (
        "Guten Morgen!",
        "Die Kommission hat ihren Vorschlag gestern vorgelegt.",
        "Ich weiß nicht, ob wir morgen noch Zeit dafür haben.",
        "Alle Zimmer verfügen über ein eigenes Bad.",
    ),
    "en": (
        "Good morning!",
        "The Commission presented its proposal yesterday.",
        "I do not know whether we will have time for it tomorrow.",
        "All rooms have their own bathroom.",
    ),
    "fi": (
        "Hyvää huomenta!",
        "Komissio esitti ehdotuksensa eilen.",
        "En tiedä, onko meillä huomenna aikaa siihen.",
        "Kaikissa huoneissa on oma kylpyhuone.",
    ),
    "lt": (
        "Labas rytas!",
        "Komisija vakar pateikė savo pasiūlymą.",
        "Nežinau, ar rytoj turėsime tam laiko.",
        "Visi kambariai turi atskirą vonios kambarį.",
    ),
}
TRAIN_PAIRS = wmt19.GUIDANCE_PAIRS + 240
EVALUATED_PAIRS = 20


def sentence(language, number):
    """A text of the corpus, with its number."""
    return f"{TRAIN[language].format(number)} {SENTENCES[language][number % 4]}"


def corpus(language, split):
    """Pairs of a language and English. Of the training text, every tenth is French."""
    if split != "train":
        # As long as no training text is, in the wrong language, and with an empty side.
        odd = [(FRENCH.format(split) * 20, FRENCH), (f"{split} only", " ")]
        return odd + [
            tuple(f"{sentence(k, i)} ({split})" for k in (language, "en"))
            for i in range(EVALUATED_PAIRS - len(odd))
        ]
    return [
        tuple(sentence(k, i) if i % 10 else FRENCH.format(i) for k in (language, "en"))
        for i in range(TRAIN_PAIRS)
    ]


def _prepare_tfds(folder, language, monkeypatch):
    """Writes the data set with TFDS's own builder, from our text."""
    splits = ("train", "validation")
    monkeypatch.setattr(
        wmt.WmtTranslate,
        "_split_generators",
        lambda self, _: {s: self._generate_examples(s) for s in splits},
    )
    monkeypatch.setattr(
        wmt.WmtTranslate,
        "_generate_examples",
        lambda self, split: (
            (i, {language: a, "en": b})
            for i, (a, b) in enumerate(corpus(language, split))
        ),
    )
    builder = tfds.builder(f"wmt19_translate/{language}-en:1.0.0", data_dir=str(folder))
    files = tfds.download.DownloadConfig(num_shards=20)
    builder.download_and_prepare(download_config=files)


@pytest.fixture(scope="module", autouse=True)
def data(data_dir):
    """TSV files, TFDS directories, and vocabularies, once for all processes."""
    tfds_dir = data_dir / "tfds"
    with (
        open(data_dir / "wmt19.lock", "w") as lock,
        pytest.MonkeyPatch.context() as patch,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        for language in ("de", "fi", "lt"):
            folder = data_dir / "wmt19" / f"{language}-en"
            if (data_dir / "wmt19" / f"{language}-en.model").exists():
                continue
            folder.mkdir(parents=True)
            for split in ("train", "validation", "test"):
                lines = map("\t".join, corpus(language, split))
                (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
            _prepare_tfds(tfds_dir, language, patch)
            name = f"--task=wmt19_tsv_{language}_en"
            train_vocabulary.main([name, "--size=96"])
    seqio.set_tfds_data_dir_override(str(tfds_dir))
    yield
    seqio.set_tfds_data_dir_override(None)


def read(task, split, lengths=LENGTHS, **kwargs):
    dataset = seqio.get_mixture_or_task(task).get_dataset(
        lengths, split, shuffle=False, **kwargs
    )
    return list(dataset.as_numpy_iterator())


@functools.cache
def first(task, split):
    """The first examples, read once for several tests."""
    dataset = seqio.get_mixture_or_task(task).get_dataset(LENGTHS, split, shuffle=False)
    return list(dataset.take(100).as_numpy_iterator())


def texts(examples):
    return [
        tuple(example[f"{k}_pretokenized"].decode() for k in LENGTHS)
        for example in examples
    ]


def check(example, vocabulary):
    """The features, their types, lengths and ends."""
    assert set(example) == {*LENGTHS, *(f"{k}_pretokenized" for k in LENGTHS)}
    for k, length in LENGTHS.items():
        assert example[k].dtype == np.int32
        assert 0 < len(example[k]) <= length
        assert list(example[k]).count(vocabulary.eos_id) == 1
        assert example[k][-1] == vocabulary.eos_id
        ids = vocabulary.encode(example[f"{k}_pretokenized"].decode())
        assert list(example[k][:-1]) == ids[: length - 1]


@pytest.mark.parametrize("name", TASKS)
def test_examples_are_well_formed(name):
    task = seqio.get_mixture_or_task(name)
    assert tuple(task.splits) == translation.SPLITS
    vocabulary = translation.vocabulary(name)
    for split in translation.SPLITS:
        for example in first(name, split):
            check(example, vocabulary)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_mocked_data_gives_well_formed_examples(direction, monkeypatch):
    name = f"wmt19_{direction}"
    language = direction.replace("_", "").replace("en", "")

    def as_dataset(builder, *args, **kwargs):
        assert set(builder.info.features) == {language, "en"}
        pairs = [tuple(sentence(k, i) for k in (language, "en")) for i in range(30)]
        columns = zip(*pairs, strict=True)
        return tf.data.Dataset.from_tensor_slices(
            {k: list(c) for k, c in zip((language, "en"), columns, strict=True)}
        )

    # Mocked data has no sizes of splits, which seqio asks for.
    source = seqio.TfdsDataSource
    monkeypatch.setattr(source, "list_shards", lambda self, split: ["0"])
    monkeypatch.setattr(source, "num_input_examples", lambda self, split: 30)
    # seqio keeps builders for later; those of mocked data have to be forgotten.
    monkeypatch.setattr(seqio.utils.LazyTfdsLoader, "_MEMOIZED_BUILDERS", {})
    with tfds.testing.mock_data(num_examples=30, as_dataset_fn=as_dataset):
        for split in translation.SPLITS:
            examples = read(name, split)
            assert len(examples) == 30
            for example in examples:
                check(example, translation.vocabulary(name))


@pytest.mark.parametrize("name", TASKS)
def test_direction(name):
    source, target = name.split("_")[-2:]
    for a, b in texts(first(name, "guidance")):
        number = int("".join(c for c in a if c.isdigit()))
        assert (a, b) == (sentence(source, number), sentence(target, number))


@pytest.mark.parametrize("name", [name for name in TASKS if name.endswith("_en")])
def test_guidance_is_held_out(name):
    pairs = {s: set(texts(read(name, s))) for s in translation.SPLITS}
    for a, b in itertools.combinations(pairs, 2):
        assert not pairs[a] & pairs[b]
    language = name.split("_")[-2]
    whole = [pair for pair in corpus(language, "train") if pair[0] != pair[1]]
    assert len(pairs["guidance"]) + len(pairs["train"]) == len(whole)
    assert 0.85 < len(pairs["guidance"]) / wmt19.GUIDANCE_PAIRS < 0.95
    source = seqio.get_mixture_or_task(name).source
    assert not guidance.overlap(source, "guidance", source, "train")


@pytest.mark.parametrize("name", TASKS)
def test_evaluation_keeps_every_example(name):
    validation, test = (texts(first(name, s)) for s in ("validation", "test"))
    if name.startswith("wmt19_tsv"):
        assert len(validation) == len(test) == EVALUATED_PAIRS
    else:  # the halves of one
        assert len(validation) == len(test) == EVALUATED_PAIRS / 2
        assert len(set(validation + test)) == EVALUATED_PAIRS


def test_both_directions_share_source_and_vocabulary():
    for a, b in (("de_en", "en_de"), ("fi_en", "en_fi"), ("lt_en", "en_lt")):
        names = [f"{p}_{d}" for p in ("wmt19", "wmt19_tsv") for d in (a, b)]
        tasks = [seqio.get_mixture_or_task(name) for name in names]
        assert tasks[0].source is tasks[1].source
        assert tasks[2].source is tasks[3].source
        paths = {translation.vocabulary(n).sentencepiece_model_file for n in names}
        assert len(paths) == 1
        assert translation.vocabulary(names[0]).size == 32768


def test_training_drops_what_is_longer_than_the_model_and_evaluation_cuts_it():
    task, short = "wmt19_tsv_de_en", {"inputs": 70, "targets": 60}
    vocabulary = translation.vocabulary(task)
    every = {s: texts(read(task, s, lengths=None)) for s in ("train", "test")}
    fits = [
        (a, b)
        for a, b in every["train"]
        if len(vocabulary.encode(a)) < 70 and len(vocabulary.encode(b)) < 60
    ]
    assert 0 < len(fits) < len(every["train"])
    assert texts(read(task, "train", short)) == fits
    assert texts(read(task, "test", short)) == every["test"]


def test_hosts_share_the_lines_out():
    whole = texts(first("wmt19_tsv_fi_en", "test"))
    hosts = [
        texts(read("wmt19_tsv_fi_en", "test", shard_info=seqio.ShardInfo(i, 3)))
        for i in range(3)
    ]
    assert all(host == whole[i::3] for i, host in enumerate(hosts))


def test_position_in_filtered_data_can_be_saved(tmp_path):
    dataset = seqio.get_mixture_or_task("wmt19_tsv_lt_en").get_dataset(
        LENGTHS, "train", shuffle=True, seed=0
    )
    iterator = iter(dataset)
    for _ in range(7):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "position"))
    expected = [next(iterator)["inputs_pretokenized"].numpy() for _ in range(5)]
    other = iter(dataset)
    tf.train.Checkpoint(iterator=other).restore(path).assert_consumed()
    assert [next(other)["inputs_pretokenized"].numpy() for _ in range(5)] == expected


def test_position_near_the_end_of_an_epoch_holds_for_the_next_ones(tmp_path, monkeypatch):
    # What is small is read once, into memory: here it is read as what is large.
    monkeypatch.setattr(seqio.dataset_providers, "_MAX_EXAMPLES_TO_MEM_CACHE", 0)
    read_config = functools.partial(tfds.ReadConfig, try_autocache=False)
    monkeypatch.setattr(tfds, "ReadConfig", read_config)
    task = seqio.get_mixture_or_task("wmt19_de_en")

    def iterate():  # as another process does: epochs belong to a data set
        keywords = {"num_epochs": None, "shuffle_buffer_size": 5}
        return iter(task.get_dataset(LENGTHS, "train", shuffle=True, seed=0, **keywords))

    def texts(iterator, number):
        return [next(iterator)["inputs_pretokenized"].numpy() for _ in range(number)]

    epoch = sum(i % 10 > 0 for i in range(wmt19.GUIDANCE_PAIRS, TRAIN_PAIRS))
    step, end = 2 * epoch - 5, 8 * epoch
    expected = texts(iterate(), end)
    iterator, other = iterate(), iterate()
    assert texts(iterator, step) == expected[:step]
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "position"))
    tf.train.Checkpoint(iterator=other).restore(path).assert_consumed()
    assert texts(other, end - step) == expected[step:]


@pytest.mark.parametrize("language", ["de", "fi", "lt"])
def test_filter_keeps_translations(language):
    pairs = [SENTENCES[k] for k in (language, "en")]
    sides = [[text.encode() for text in side] for side in pairs]
    assert pair_filters.keep(*sides, (language, "en")).all()
    assert pair_filters.keep(*sides[::-1], ("en", language)).all()


@pytest.mark.parametrize("language", ["de", "fi", "lt", "en"])
def test_filter_drops_other_languages(language):
    for other in {"de", "en", "fi", "lt"} - {language}:
        assert not any(pair_filters.may_be(t, language) for t in SENTENCES[other][1:])
    assert not pair_filters.may_be(FRENCH, language)
    assert pair_filters.may_be("12 / 2019", language)  # in any language


@pytest.mark.parametrize(
    ("a", "b", "sound"),
    [
        ("Ja", "Yes, of course", True),
        ("a" * 1000, "b" * 1000, True),
        ("a" * 1001, "b" * 1000, False),
        ("a" * 20, "b" * 70, True),
        ("a" * 20, "b" * 71, False),
        ("", "b", False),
        ("\u00a0 ", "b", False),
    ],
)
def test_length_filter(a, b, sound):
    assert pair_filters.has_sound_length(a, b) is sound
    assert pair_filters.has_sound_length(b, a) is sound


def _tsv_source(path, content, **lines):
    path.write_bytes(content)
    return tsv.TsvPairSource({"train": tsv.Lines(str(path), **lines)}, ("de", "en"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nur Deutsch", "line 2: 0 tabs, not the one of de<TAB>en"),
        ("", "line 2: 0 tabs, not the one of de<TAB>en"),
        ("a\tb\tc", "line 2: 2 tabs, not the one of de<TAB>en"),
        ("Stra\udcdfe\tstreet", "line 2: not UTF-8"),
    ],
)
def test_malformed_line(line, message, tmp_path):
    content = f"Ja\tYes\n{line}\nNein\tNo\n".encode(errors="surrogateescape")
    source = _tsv_source(tmp_path / "bad.tsv", content)
    dataset = source.get_dataset("train", shuffle=False).as_numpy_iterator()
    assert next(dataset) == {"de": b"Ja", "en": b"Yes", "filtered": 1}
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"bad.tsv, {message}"):
        list(dataset)


def test_lines_of_a_file(tmp_path):
    content = b"".join(b"%d\t%d\r\n" % (i, -i) for i in range(10))
    source = _tsv_source(tmp_path / "some.tsv", content, start=3, stop=6)
    examples = source.get_dataset("train").as_numpy_iterator()
    assert [(e["de"], e["en"]) for e in examples] == [
        (b"3", b"-3"),
        (b"4", b"-4"),
        (b"5", b"-5"),
    ]


def test_missing_and_empty_files(tmp_path):
    source = _tsv_source(tmp_path / "empty.tsv", b"")
    with pytest.raises(ValueError, match="empty.tsv is empty: add pairs"):
        source.get_dataset("train")
    source = _tsv_source(tmp_path / "short.tsv", b"a\tb\n" * 5, start=5)
    with pytest.raises(ValueError, match="no line after line 5, where split 'train'"):
        source.get_dataset("train")
    (tmp_path / "short.tsv").unlink()
    with pytest.raises(ValueError, match="no file .*short.tsv.*de<TAB>en.*DATA_DIR"):
        source.get_dataset("train")


def test_metrics_are_those_of_sacrebleu():
    targets = ["The cat sat on the mat.", "It is raining again, isn't it?"]
    predictions = ["The cat sat on a mat.", "It is raining, is it not?"]
    task = seqio.get_mixture_or_task("wmt19_de_en")
    scores = {k: v for fn in task.metric_fns for k, v in fn(targets, predictions).items()}
    assert scores["bleu"] == pytest.approx(
        sacrebleu.BLEU().corpus_score(predictions, [targets]).score
    )
    assert scores["chrf"] == pytest.approx(
        sacrebleu.CHRF().corpus_score(predictions, [targets]).score
    )


def test_bleu_by_hand():
    # 4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; same length.
    score = translation.bleu(["a b c d e"], ["a b c d x"])["bleu"]
    assert score == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert translation.bleu(["a b c d e"], ["v w x y z"])["bleu"] < 15
    assert translation.bleu(["a b c d"], ["a b c d"])["bleu"] == 100


def test_signatures_in_the_docstrings():
    for metric, name in ((sacrebleu.BLEU(), "bleu"), (sacrebleu.CHRF(), "chrf")):
        metric.corpus_score(["a"], [["a"]])
        signature = str(metric.get_signature()).rsplit("|version", 1)[0]
        assert signature in getattr(translation, name).__doc__


@pytest.mark.parametrize("corpus_name", ["wmt19_", "wmt19_tsv_"])
def test_guided_training_takes_two_steps(corpus_name, tmp_path):
    step, state = gin_runs.train(
        "gin/wmt19_guided.gin",
        tmp_path,
        f"CORPUS = {corpus_name!r}",
        f"TASK_FEATURE_LENGTHS = {LENGTHS!r}",
        "network.T5Config.vocab_size = 128",
        "network.T5Config.dtype = 'float32'",
        "EVALUATOR_NUM_EXAMPLES = 2",
    )
    assert step == int(state.step) == 2
    values = state._optimizer.state.hyperparams
    assert values.keys() == {"alpha", "beta1"}
    assert all(np.isfinite(x) for x in values.values())
