"""scripts/train_vocabulary.py, and the vocabularies of tasks."""

import gzip
import itertools
import random

import gin
import numpy as np
import pytest
import seqio
import tensorflow as tf

from gbt_t5x.tasks import (
    offline_translation,  # noqa: F401, registers tasks
    translation,
    tsv,
)
import train_vocabulary

NUMBER = itertools.count()
WORDS = (
    "Haus Baum Wasser Himmel Straße Vogel Berg Garten Fenster Schule Bruder Brot",
    "house tree water sky street bird mountain garden window school brother bread",
)
# Characters that stand in one split each.
LETTERS = {"train": "ж", "guidance": "ф", "validation": "ц", "test": "щ"}


def pairs_of(split, count=400):
    rng = random.Random(split)
    return [
        tuple(
            " ".join(rng.choices(words.split(), k=6)) + LETTERS[split] for words in WORDS
        )
        for _ in range(count)
    ]


@pytest.fixture
def corpus(tmp_path):
    """The name of a corpus of its own, whose vocabularies are in tmp_path."""
    prefix = f"vocabulary_test_{next(NUMBER)}"

    def source(language, english):
        def dataset(split, shuffle_files, seed=None):
            texts = zip(*pairs_of(split), strict=True)
            columns = zip((language, english), map(list, texts), strict=True)
            return tf.data.Dataset.from_tensor_slices(dict(columns))

        return translation.FunctionPairSource(dataset, splits=translation.SPLITS)

    translation.add_tasks(
        prefix, source, vocabulary_dir=str(tmp_path), vocabulary_size=56, filters=False
    )
    yield prefix
    for name in [n for n in seqio.TaskRegistry.names() if n.startswith(prefix)]:
        seqio.TaskRegistry.remove(name)


def test_trains_where_the_task_reads(corpus, tmp_path, capsys):
    train_vocabulary.main([f"--task={corpus}_de_en"])
    assert f"{tmp_path}/de-en.model: 56 ids" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["de-en.model"]
    vocabulary = translation.vocabulary(f"{corpus}_en_de")
    assert vocabulary is translation.vocabulary(f"{corpus}_de_en")
    assert vocabulary.vocab_size == 56
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)
    for word in ("Straße", "street"):
        assert vocabulary.decode(vocabulary.encode(word)) == word


def test_sees_the_training_split_alone(corpus):
    train_vocabulary.main([f"--task={corpus}_de_en"])
    vocabulary = translation.vocabulary(f"{corpus}_de_en")
    known = {s: vocabulary.unk_id not in vocabulary.encode(LETTERS[s]) for s in LETTERS}
    assert known == {s: s == "train" for s in LETTERS}


def test_same_file_again_and_in_the_other_direction(corpus, tmp_path):
    path = tmp_path / "lt-en.model"
    models = []
    for direction in ("lt_en", "lt_en", "en_lt"):
        train_vocabulary.main([f"--task={corpus}_{direction}", "--sample=150"])
        models.append(path.read_bytes())
        path.unlink()
    assert models[0] == models[1] == models[2]
    train_vocabulary.main([f"--task={corpus}_lt_en", "--sample=150", "--seed=1"])
    assert path.read_bytes() != models[0]


def test_size(corpus):
    train_vocabulary.main([f"--task={corpus}_de_en", "--size=48"])
    assert translation.vocabulary(f"{corpus}_de_en").vocab_size == 48


def test_overwrites_when_told(corpus, tmp_path):
    path = tmp_path / "de-en.model"
    path.write_bytes(b"mine")
    with pytest.raises(SystemExit, match=f"{path} exists.*add --overwrite"):
        train_vocabulary.main([f"--task={corpus}_de_en"])
    assert path.read_bytes() == b"mine"
    train_vocabulary.main([f"--task={corpus}_de_en", "--overwrite"])
    assert path.read_bytes() != b"mine"


def test_names_the_tasks_it_knows():
    with pytest.raises(
        SystemExit, match="=wmt19_de_fi is none of.*wmt19_de_en.*wmt19_tsv"
    ):
        train_vocabulary.main(["--task=wmt19_de_fi"])


def test_too_many_ids_for_the_text(corpus, tmp_path):
    with pytest.raises(SystemExit, match="no vocabulary of 5000 ids"):
        train_vocabulary.main([f"--task={corpus}_de_en", "--size=5000"])
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(corpus, tmp_path, monkeypatch):
    """And a line that is none, without TensorFlow's frames."""
    lines = "".join(f"deutsch {i}\tenglish {i}\n" for i in range(5000))
    content = bytearray(gzip.compress(lines.encode()))
    content[len(content) // 2] ^= 255
    cut, bad = tmp_path / "cut.tsv.gz", tmp_path / "bad.tsv"
    cut.write_bytes(content)
    bad.write_text("ein\tone\nzwei two\n")
    task = seqio.TaskRegistry.get(f"{corpus}_de_en")
    for path, message in (
        (cut, f"{cut} is damaged or cut: "),
        (bad, f"{bad}, line 2: 0"),
    ):
        source = tsv.TsvPairSource({"train": tsv.Lines(str(path))}, ("de", "en"))
        monkeypatch.setattr(task, "_source", source)
        with pytest.raises(SystemExit, match=f"^train_vocabulary: {message}") as error:
            train_vocabulary.main([f"--task={corpus}_de_en"])
        assert "\n" not in str(error.value)


def test_sample_is_uniform_and_in_order():
    dataset = tf.data.Dataset.from_tensor_slices({"x": np.arange(20_000)})
    drawn = train_vocabulary.sample(dataset, 1000, seed=0)["x"]
    assert len(set(drawn)) == 1000
    assert list(drawn) == sorted(drawn)
    # The mean of 1,000 draws has a standard deviation of 178.
    assert np.mean(drawn) == pytest.approx(10_000, abs=4 * 178)
    np.testing.assert_array_equal(
        drawn, train_vocabulary.sample(dataset, 1000, seed=0)["x"]
    )
    assert set(drawn) != set(train_vocabulary.sample(dataset, 1000, seed=1)["x"])


def test_sample_of_more_than_there_is():
    dataset = tf.data.Dataset.from_tensor_slices({"x": np.arange(3000)})
    drawn = train_vocabulary.sample(dataset, 5000, seed=0)["x"]
    np.testing.assert_array_equal(drawn, np.arange(3000))


def test_missing_vocabulary_tells_the_command(corpus, tmp_path):
    message = (
        f"no vocabulary at {tmp_path}/fi-en.model.*"
        f"train_vocabulary.py --task={corpus}_fi_en"
    )
    task = seqio.get_mixture_or_task(f"{corpus}_en_fi")
    with pytest.raises(ValueError, match=message):
        task.get_dataset({"inputs": 8, "targets": 8}, "train")
    with pytest.raises(ValueError, match=message):
        _ = translation.vocabulary(f"{corpus}_en_fi").vocab_size


def test_vocabulary_of_a_gin_file():
    text = """
        from __gin__ import dynamic_registration
        from gbt_t5x.tasks import translation
        import seqio
        MIXTURE_OR_TASK_NAME = "offline_en_fi"
        translation.vocabulary.task_name = %MIXTURE_OR_TASK_NAME
        seqio.Feature.vocabulary = @translation.vocabulary()
    """
    gin.clear_config()
    try:
        gin.parse_config("\n".join(line.strip() for line in text.splitlines()))
        feature = gin.get_configurable(seqio.Feature)()
    finally:
        gin.clear_config()
    task = seqio.get_mixture_or_task("offline_en_fi")
    assert feature.vocabulary == task.output_features["targets"].vocabulary
    assert feature.vocabulary != translation.vocabulary("offline_en_lt")


def test_vocabulary_of_an_unknown_task():
    with pytest.raises(
        ValueError, match="no task 'offline_en_sv'.*one of.*offline_en_lt"
    ):
        translation.vocabulary("offline_en_sv")
