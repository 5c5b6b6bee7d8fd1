"""Compressed files that are damaged are named."""

import bz2
import gzip
import lzma
import random

import pytest
import seqio
from t5x import models
import tensorflow as tf

from gbt_t5x import data_checks, data_position
from gbt_t5x.tasks import lines, text_files, tsv
import small_tasks

CONVERTER = models.EncoderDecoderModel.FEATURE_CONVERTER_CLS
COUNT = 500
_rng = random.Random(0)
TEXT = "".join(f"{_rng.random()}\t{_rng.random()}\n" for _ in range(COUNT)).encode()
GZIP = gzip.compress(TEXT)
MIDDLE = len(GZIP) // 2
FLIPPED = GZIP[:MIDDLE] + bytes([GZIP[MIDDLE] ^ 255]) + GZIP[MIDDLE + 1 :]
READ = {
    "whole.gz": (GZIP, None),
    "twice.gz": (GZIP + GZIP, None),
    "plain.tsv": (TEXT, None),
    "cut.gz": (GZIP[:MIDDLE], "cut.gz is damaged or cut"),
    "without_its_end.gz": (GZIP[:-4], "without_its_end.gz is damaged or cut"),
    "flipped.gz": (FLIPPED, "flipped.gz is damaged or cut"),
    "longer.gz": (GZIP + b"garbage", "longer.gz is damaged or cut"),
    "plain.gz": (TEXT, "plain.gz is called .* by gzip, and is by nothing: rename it"),
    "empty.gz": (b"", "empty.gz is called .* by gzip, and is by nothing"),
    "gzip.tsv": (GZIP, "gzip.tsv is called .* by nothing, and is by gzip: rename it"),
    "bzip2.gz": (bz2.compress(TEXT), "bzip2.gz is called .* by gzip, and is by bzip2"),
    "lines.bz2": (bz2.compress(TEXT), "lines.bz2 is compressed by bzip2: gzip or decomp"),
    "lines.xz": (lzma.compress(TEXT), "lines.xz is compressed by xz: gzip or decompress"),
}


@pytest.mark.parametrize("name", READ)
def test_files_are_whole_or_named(name, tmp_path):
    content, message = READ[name]
    (tmp_path / name).write_bytes(content)
    source = text_files.TextFileSource({"train": text_files.Documents(f"{tmp_path}/*")})

    def count():
        with data_checks.reading([seqio.Task(name, source, {}, [])], "train"):
            return sum(1 for _ in source.get_dataset("train", shuffle=False))

    if message is None:
        assert count() == COUNT * (2 if name == "twice.gz" else 1)
    else:
        with pytest.raises((ValueError, tf.errors.OpError), match=message):
            count()


def test_training_names_the_file(tmp_path):
    longer = gzip.compress(TEXT * 8)
    (tmp_path / "cut.txt.gz").write_bytes(longer[:-9] + b"x" + longer[-8:])
    source = text_files.TextFileSource({"train": text_files.Documents(f"{tmp_path}/*")})
    task = small_tasks.task("files", source=source)
    cfg = small_tasks.dataset_cfg(task, pack=False, batch_size=64)
    batches = data_position.get_dataset(cfg, 0, 1, CONVERTER, model_dir=str(tmp_path))
    with pytest.raises(
        ValueError, match="cut.txt.gz is damaged or cut: .* Copy it again"
    ):
        for _ in range(100):
            next(batches)


def test_pairs_of_a_compressed_file(tmp_path):
    pairs = {"train": tsv.Lines(f"{tmp_path}/train.tsv", 10, 30)}
    source = tsv.TsvSource(pairs, ("de", "en"))
    with pytest.raises(ValueError, match="no file .*train.tsv: write"):
        source.get_dataset()
    (tmp_path / "train.tsv.gz").write_bytes(GZIP)
    assert source.list_shards("train") == [f"{tmp_path}/train.tsv.gz"]
    assert len(list(source.get_dataset())) == 20
    assert lines.damage(f"{tmp_path}/train.tsv.gz") is None
    (tmp_path / "train.tsv").write_bytes(TEXT)
    assert source.list_shards("train") == [f"{tmp_path}/train.tsv"]
