"""C4 from TFDS and from local files."""

import gzip
import json
import pathlib

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from gbt_t5x.tasks import c4, span_corruption, text_files, text_to_text

SPLITS = ("train", "guidance", "validation")


def documents(file, count):
    return [f"Document {i} of file {file}." for i in range(count)]


@pytest.fixture
def folder(tmp_path):
    """Two JSON files, one compressed, of 5 and 3 documents, and one of text."""
    lines = [
        [json.dumps({"text": text, "url": "u"}) for text in documents(i, 5 - 2 * i)]
        for i in (0, 1)
    ]
    with gzip.open(tmp_path / "c4-train.00000-of-00002.json.gz", "wt") as f:
        f.write("\n".join(lines[0]) + "\n")
    (tmp_path / "c4-train.00001-of-00002.jsonl").write_text("\n".join(lines[1]) + "\n")
    (tmp_path / "validation.txt").write_text("\n".join(documents(2, 4)) + "\n")
    return tmp_path


def source(folder, guidance=2):
    train = f"{folder}/*train*"
    return text_files.TextFileSource(
        {
            "train": text_files.Documents(train, guidance),
            "guidance": text_files.Documents(train, 0, guidance),
            "validation": text_files.Documents(f"{folder}/*validation*"),
        }
    )


def texts(dataset):
    return [example["text"].decode() for example in dataset.as_numpy_iterator()]


def test_splits_of_files(folder):
    read = {s: texts(source(folder).get_dataset(s, shuffle=False)) for s in SPLITS}
    assert read["guidance"] == documents(0, 5)[:2]
    assert sorted(read["train"]) == sorted(documents(0, 5)[2:] + documents(1, 3))
    assert read["validation"] == documents(2, 4)


def test_files_are_shuffled_by_seed(folder):
    for i in range(8):
        (folder / f"train-{i}.txt").write_text(f"text {i}\n")
    orders = {
        seed: texts(source(folder).get_dataset("train", shuffle=True, seed=seed))
        for seed in (1, 2)
    }
    assert orders[1] == texts(source(folder).get_dataset("train", seed=1))
    assert orders[1] != orders[2]
    assert sorted(orders[1]) == sorted(orders[2])


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_read_all_documents_once(hosts, folder):
    task = seqio.Task("files", source(folder), {}, [])
    parts = [
        texts(
            task.get_dataset(
                None, "train", shuffle=False, shard_info=seqio.ShardInfo(i, hosts)
            )
        )
        for i in range(hosts)
    ]
    assert all(parts)
    assert sorted(sum(parts, [])) == sorted(documents(0, 5)[2:] + documents(1, 3))


def test_guidance_reads_no_other_file(folder):
    (folder / "c4-train.00001-of-00002.jsonl").write_text("not JSON\n")
    guidance = source(folder).get_dataset("guidance", shuffle=False)
    assert texts(guidance) == documents(0, 5)[:2]
    with pytest.raises(tf.errors.OpError, match="00001-of-00002.jsonl, line 1: no JSON"):
        texts(source(folder).get_dataset("train", shuffle=False))


@pytest.mark.parametrize("line", ["[]", '{"url": "u"}', '{"text": 1}', '{"text": "a'])
def test_malformed_line(line, folder):
    (folder / "validation.txt").rename(folder / "validation.json")
    (folder / "validation.json").write_text(json.dumps({"text": "a"}) + f"\n{line}\n")
    with pytest.raises(tf.errors.OpError, match="validation.json, line 2: no JSON obj"):
        texts(source(folder).get_dataset("validation", shuffle=False))


def test_text_that_is_not_utf_8(folder):
    for name, line in {
        "text.txt": b"Stra\xdfe",
        "text.json": b'{"text": "Stra\xdfe"}',
    }.items():
        (folder / name).write_bytes(b'{"text": "a"}\n' + line + b"\n")
        documents = text_files.TextFileSource(
            {"train": text_files.Documents(str(folder / name))}
        )
        with pytest.raises(tf.errors.OpError, match=f"{name}, line 2: not UTF-8"):
            texts(documents.get_dataset("train", shuffle=False))


def test_half_of_a_surrogate_pair_is_a_question_mark(folder):
    """As JSON of text that was cut has it."""
    (folder / "cut.json").write_text(json.dumps({"text": "cut \ud83d here"}) + "\n")
    documents = text_files.TextFileSource(
        {"train": text_files.Documents(str(folder / "cut.json"))}
    )
    assert texts(documents.get_dataset("train", shuffle=False)) == ["cut ? here"]


def test_missing_files_and_documents(folder, tmp_path):
    with pytest.raises(ValueError, match="no file .*absent/.*train.*GBT_T5X_DATA_DIR"):
        source(tmp_path / "absent").get_dataset("train")
    with pytest.raises(ValueError, match="json.gz has 5 documents or fewer.*'train'"):
        source(folder, guidance=5).get_dataset("train")
    with pytest.raises(ValueError, match="document 6: add some"):
        source(folder, guidance=6).get_dataset("guidance")


def test_position_in_files_can_be_saved(folder, tmp_path):
    def iterator():
        return iter(source(folder).get_dataset("train", shuffle=True, seed=0))

    whole = [next(it)["text"].numpy() for it in [iterator()] for _ in range(6)]
    first = iterator()
    for _ in range(3):
        next(first)
    path = tf.train.Checkpoint(it=first).write(str(tmp_path / "position"))
    second = iterator()
    tf.train.Checkpoint(it=second).read(path).assert_consumed()
    assert [next(second)["text"].numpy() for _ in range(3)] == whole[3:]


@pytest.fixture
def words(tiny_t5_vocabulary):
    """A document of 400 words."""
    return " ".join(f"word{i % 50}" for i in range(400))


def test_tasks_mask_15_per_cent_in_spans_of_3(words, sizeless_tfds):
    count = c4.GUIDANCE_DOCUMENTS + 20
    of_tfds, of_files = (
        seqio.TaskRegistry.get(f"guided_c4_{kind}span_corruption")
        for kind in ("", "files_")
    )
    for split in SPLITS:
        file = pathlib.Path(of_files.source._documents[split].pattern.replace("*", ""))
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{words}\n" * count)

    def examples(self, *args, **kwargs):
        return tf.data.Dataset.from_tensors({"text": words}).repeat(count)

    with tfds.testing.mock_data(as_dataset_fn=examples):
        for task in (of_tfds, of_files):
            for split in SPLITS:
                check_span_corruption(task, split)


@pytest.mark.parametrize(("extra_ids", "longest"), [(100, 1800), (12, 200)])
def test_sentinels_do_not_run_out(extra_ids, longest):
    vocabulary = seqio.ByteVocabulary(extra_ids=extra_ids)
    features = {name: seqio.Feature(vocabulary) for name in ("inputs", "targets")}
    tokens = tf.constant([3 + i % 200 for i in range(4000)], tf.int32)
    dataset = tf.data.Dataset.from_tensors({"targets": tokens})

    def corrupted(inputs):
        lengths = {"inputs": inputs, "targets": inputs}
        with seqio.utils.map_seed_manager(0):
            return span_corruption.span_corruption(dataset, lengths, features)

    row = next(corrupted(longest).as_numpy_iterator())
    sentinels = sorted({x for x in row["inputs"] if x >= 259})
    assert len(sentinels) == sum(x >= 259 for x in row["inputs"]) <= extra_ids
    assert sentinels[-1] == vocabulary.vocab_size - 1
    with pytest.raises(ValueError, match=f"inputs of {longest + 100} tokens, with "):
        corrupted(longest + 100)


def check_span_corruption(task, split):
    vocabulary = text_to_text.VOCABULARY
    lengths = {"inputs": 512, "targets": 114}
    dataset = seqio.get_dataset(
        task.name,
        task_feature_lengths=lengths,
        dataset_split=split,
        shuffle=False,
        feature_converter=seqio.EncDecFeatureConverter(pack=True),
        num_epochs=1,
        seed=0,
    )
    rows = list(dataset.take(10).as_numpy_iterator())
    assert len(rows) == 10
    first_sentinel = vocabulary.vocab_size - 100
    masked = spans = 0
    for row in rows:
        inputs, targets = row["encoder_input_tokens"], row["decoder_target_tokens"]
        assert inputs.shape == (512,) and targets.shape == (114,)
        assert inputs.dtype == targets.dtype == np.int32
        assert inputs.max() < vocabulary.vocab_size
        assert vocabulary.eos_id in inputs and vocabulary.eos_id in targets
        sentinels = targets[targets >= first_sentinel]
        np.testing.assert_array_equal(sentinels, inputs[inputs >= first_sentinel])
        spans += len(sentinels)
        masked += np.sum(targets > 0) - len(sentinels) - np.sum(targets == 1)
        kept = np.sum(inputs > 0) - len(sentinels) - np.sum(inputs == 1)
    assert masked / spans == pytest.approx(3, abs=0.1)
    assert masked / len(rows) / (kept + masked / len(rows)) == pytest.approx(
        0.15, abs=0.01
    )
