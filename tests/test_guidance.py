"""The guidance split is held out, or training does not start."""

import dataclasses
import types

import numpy as np
import pytest
import seqio
from t5x import partitioning
import tensorflow as tf
import tensorflow_datasets as tfds

from gbt_t5x import data_checks, guidance
from gbt_t5x.tasks import c4, text_files, tsv  # noqa: F401, c4 registers the task
import tiny


def make_trainer(**kwargs):
    with tiny.make_trainer(tiny.guided(), **kwargs):
        pass


def test_reads_the_first_batch_of_the_guidance_split():
    with tiny.make_trainer(tiny.guided()) as trainer:
        batch = trainer._guidance_batches[0]
    expected = next(tiny._examples("guidance", False).as_numpy_iterator())
    np.testing.assert_array_equal(
        batch["decoder_target_tokens"][0, :8], expected["targets"]
    )
    np.testing.assert_array_equal(
        batch["encoder_input_tokens"][0, :8], expected["inputs"]
    )


def of_task(vocabulary=None):
    """The training split of another task, whose tokens are 31."""
    other = tokens("other", 30, {"train": 8})
    if vocabulary:
        features = {k: seqio.Feature(vocabulary) for k in other.output_features}
        other = seqio.Task("other", other.source, features, [])
    return dataclasses.replace(tiny.dataset_cfg("train"), mixture_or_task_name=other)


def test_another_task_guides():
    with tiny.make_trainer(tiny.guided(), guidance_dataset_cfg=of_task()) as trainer:
        batch = trainer._guidance_batches[0]
    assert np.unique(batch["decoder_target_tokens"]).tolist() == [31]


def test_another_task_of_other_tokens_is_refused():
    message = "task other has the vocabulary .* set VOCABULARY to the task's"
    with pytest.raises(ValueError, match=message):
        make_trainer(guidance_dataset_cfg=of_task(seqio.ByteVocabulary()))


def test_missing_split():
    message = "'held_out' is missing from task tiny_random_tokens.*set GUIDANCE_SPLIT"
    with pytest.raises(ValueError, match=message):
        make_trainer(guidance_dataset_cfg=tiny.dataset_cfg("held_out"))


def test_overlapping_split():
    message = "split 'train' of task tiny_random_tokens overlaps.*set GUIDANCE_SPLIT"
    with pytest.raises(ValueError, match=message):
        make_trainer(guidance_dataset_cfg=tiny.dataset_cfg("train"))


def mixture(splits):
    """The tasks of tiny_random_tokens' examples with these splits, in a mixture."""
    names = []
    for i, of_task in enumerate(splits):
        names.append(f"tiny_part_{i}_{'_'.join(of_task)}")
        if names[-1] not in seqio.TaskRegistry.names():
            task = seqio.get_mixture_or_task(tiny.TASK)
            source = seqio.FunctionDataSource(tiny._examples, splits=of_task)
            seqio.TaskRegistry.add(
                names[-1],
                source=source,
                preprocessors=task.preprocessors,
                output_features=task.output_features,
            )
    return seqio.Mixture("tiny_mixture", names, default_rate=1)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([("train", "guidance"), ("validation",)], None),
        (
            [("train", "guidance"), ("train",)],
            "'guidance' is missing from task tiny_part_1",
        ),
        ([("train",), ("validation",)], "'guidance' is missing from task tiny_part_0"),
        ([("validation",)], "'guidance' is missing from task tiny_part_0_validation"),
    ],
)
def test_every_task_of_a_mixture_that_trains_guides(splits, message):
    cfg = dataclasses.replace(
        tiny.dataset_cfg("guidance"), mixture_or_task_name=mixture(splits)
    )
    train_cfg = dataclasses.replace(cfg, split="train")
    if message is None:
        guidance._check_held_out(cfg, train_cfg)
    else:
        with pytest.raises(ValueError, match=message):
            guidance._check_held_out(cfg, train_cfg)


def test_split_smaller_than_a_batch():
    rows = tiny.EXAMPLES // 2
    make_trainer(guidance_dataset_cfg=tiny.dataset_cfg("guidance", rows))
    message = "holds 0 of 1 batches of 33 rows.*GUIDANCE_BATCH_SIZE"
    with pytest.raises(ValueError, match=message):
        make_trainer(guidance_dataset_cfg=tiny.dataset_cfg("guidance", rows + 1))


def test_hosts_of_which_one_has_less_than_a_batch(monkeypatch):
    """They go on together or not at all."""
    gather = lambda number: np.array([number, 0])
    monkeypatch.setattr(guidance.multihost_utils, "process_allgather", gather)
    with pytest.raises(ValueError, match="holds 0 of 1 batches of 8 rows"):
        make_trainer(guidance_dataset_cfg=tiny.dataset_cfg("guidance"))


def test_batch_that_does_not_divide_into_microbatches():
    make_trainer(guidance_dataset_cfg=tiny.dataset_cfg("guidance", 3), num_microbatches=2)
    cfg = tiny.dataset_cfg("guidance", 7)
    with pytest.raises(ValueError, match="7 does not divide into 4 microbatches, of up"):
        make_trainer(guidance_dataset_cfg=cfg, num_microbatches=4)


def test_batch_that_does_not_divide_over_devices():
    """T5X's own error does not say which batch it is."""

    class OnSixteenDevices:
        def get_data_layout(self, batch_size):
            raise ValueError(f"batch size {batch_size} does not divide over 16 devices")

    cfgs = (tiny.dataset_cfg("guidance", 4), tiny.dataset_cfg("train", 16))
    with pytest.raises(ValueError, match="GUIDANCE_BATCH_SIZE=4: batch .* Set it to a"):
        guidance.load_guidance_batches(
            *cfgs,
            num_batches=1,
            partitioner=OnSixteenDevices(),
            model=tiny.make_model(tiny.guided()),
        )


@pytest.mark.parametrize(
    ("train", "held_out", "overlap"),
    [
        ("train[10:]", "train[:10]", False),
        ("train[10:]", "train[:11]", True),
        ("train", "train[:10]", True),
        ("train", "validation", False),
        ("train[:99%]", "train[99%:]", False),
        ("train[:99%]", "train[98%:]", True),
        ("train[:-10]", "train[-10:]", False),
        ("train[:50%]+validation", "validation[:5]", True),
        ("train[10:]", "train[:0]", False),
        ("train[10:]", "train[-10:]", True),
        ("train[:10]", "train[-10:]", None),  # until the size is known
        ("train[:900]", "train[80%:]", None),
        ("train[10shard:]", "train[20shard:21shard]", None),
    ],
)
def test_slices_of_a_tfds_split(train, held_out, overlap):
    splits = {"train": train, "guidance": held_out}
    source = seqio.TfdsDataSource("c4/en:3.1.0", splits=splits)
    assert guidance.overlap(source, "guidance", source, "train") is overlap
    other = seqio.TfdsDataSource("c4/en:3.1.0", splits=splits)
    assert guidance.overlap(other, "guidance", source, "train") is overlap
    older = seqio.TfdsDataSource("c4/en:2.3.1", splits=splits)
    shared = None if held_out.partition("[")[0] in train else False
    assert guidance.overlap(older, "guidance", source, "train") is shared
    elsewhere = seqio.TfdsDataSource("c4/de:3.1.0", splits=splits)
    assert not guidance.overlap(elsewhere, "guidance", source, "train")


@pytest.mark.parametrize(
    ("train", "held_out", "overlap"),
    [
        ("train[:900]", "train[80%:]", True),
        ("train[:800]", "train[80%:]", False),
        ("train[112:]", "train[:1%]", False),
        ("train[:10]", "train[-10:]", False),
        ("train[:1shard]", "train[240:]", True),
        ("train[:1shard]", "train[250:]", False),
    ],
)
def test_slices_once_sizes_are_known(train, held_out, overlap, monkeypatch):
    splits = {"train": train, "guidance": held_out}
    source = seqio.TfdsDataSource("c4/en:3.1.0", splits=splits)
    info = tfds.core.SplitInfo(
        name="train", shard_lengths=[250] * 4, num_bytes=0, filename_template=None
    )
    builder = types.SimpleNamespace(info=types.SimpleNamespace(splits={"train": info}))
    key = source.tfds_dataset._get_builder_key("c4/en:3.1.0", None)
    monkeypatch.setitem(seqio.LazyTfdsLoader._MEMOIZED_BUILDERS, key, builder)
    assert guidance.overlap(source, "guidance", source, "train") is overlap


def test_slices_are_of_tfds_without_a_map_of_splits():
    splits = {"train": "train[10:]", "validation": "validation"}
    plain, mapped = (
        types.SimpleNamespace(
            source=seqio.TfdsDataSource("c4/en:3.1.0", splits=of), splits=[*splits]
        )
        for of in (None, splits)
    )
    other = types.SimpleNamespace(
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files: None, splits=["train"]
        ),
        splits=["train"],
    )
    for task in (plain, mapped, other):
        assert data_checks.has_split(task, "train")
        assert not data_checks.has_split(task, "test")
    assert data_checks.has_split(plain, "train[:10]+validation[5%:]")
    assert not data_checks.has_split(mapped, "train[:10]")
    assert not data_checks.has_split(other, "train[:10]")


def test_a_file_by_two_paths(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_text("text\n")
    monkeypatch.chdir(tmp_path)
    sources = [
        seqio.TextLineDataSource({"train": path}) for path in ("d/a", f"{tmp_path}/d/a")
    ]
    assert guidance.overlap(sources[0], "train", sources[1], "train") is True


def test_a_file_in_both_splits(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text("text\n")
    patterns = {"train": f"{tmp_path}/[ab]", "guidance": f"{tmp_path}/c"}
    source = seqio.TextLineDataSource(patterns)
    assert not guidance.overlap(source, "guidance", source, "train")
    patterns["guidance"] = f"{tmp_path}/[bc]"
    source = seqio.TextLineDataSource(patterns)
    assert guidance.overlap(source, "guidance", source, "train")


@pytest.mark.parametrize(
    ("train", "held_out", "overlap"),
    [((8,), (0, 8), False), ((7,), (0, 8), True), ((0, 4), (4, 8), False)],
)
def test_lines_of_a_file(train, held_out, overlap, tmp_path):
    file = tmp_path / "train.tsv"
    file.write_text("a\tb\n" * 20)
    splits = {"train": train, "guidance": held_out}
    documents = text_files.TextFileSource(
        {k: text_files.Documents(str(file), *span) for k, span in splits.items()}
    )
    pairs = tsv.TsvSource(
        {k: tsv.Lines(str(file), *span) for k, span in splits.items()}, ("de", "en")
    )
    for source in (documents, pairs):
        assert guidance.overlap(source, "guidance", source, "train") is overlap
    assert guidance.overlap(pairs, "guidance", documents, "train") is overlap


@pytest.mark.parametrize("span", [(0, -10), (-5, None), (20, 10), (7, 7)])
@pytest.mark.parametrize("kind", ["lines", "documents", "slices"])
def test_bounds_that_are_none_of_a_file_are_refused(kind, span):
    """TensorFlow would take a negative number for all."""
    make = {
        "lines": lambda: tsv.TsvSource({"held": tsv.Lines("f", *span)}, ("de", "en")),
        "documents": lambda: text_files.TextFileSource(
            {"held": text_files.Documents("f", *span)}
        ),
        "slices": lambda: guidance.slices(
            types.SimpleNamespace(slices=lambda split: [("f", *span)]), "held"
        ),
    }
    message = r"'held'.*\[.*\) of f: must be 0 <= start < stop"
    with pytest.raises(ValueError, match=message):
        make[kind]()


def test_data_sets_by_their_folders(tmp_path, monkeypatch):
    """As seqio takes them without a name."""
    monkeypatch.chdir(tmp_path)
    splits = {"train": "train", "part": "train[:5]", "guidance": "validation"}
    news, same, other = (
        seqio.TfdsDataSource(tfds_data_dir=folder, splits=splits)
        for folder in (str(tmp_path / "news/1.0.0"), "news/1.0.0", "gs://b/other/1.0.0")
    )
    named = seqio.TfdsDataSource("news:1.0.0", splits=splits)
    for source, overlap in ((news, True), (same, True), (other, False), (named, None)):
        assert guidance.overlap(source, "part", news, "train") is overlap
        assert guidance.overlap(news, "train", source, "part") is overlap
        assert guidance.overlap(source, "guidance", news, "train") is False


def test_what_all_splits_are_is_not_known():
    splits = {"train": "all", "more": "all[:5]+train", "guidance": "train[:5]"}
    source = seqio.TfdsDataSource("c4/en:3.1.0", splits=splits)
    assert guidance.overlap(source, "guidance", source, "train") is None
    assert guidance.overlap(source, "guidance", source, "more") is None
    called = seqio.TfdsDataSource("c4/en:3.1.0", splits={"train": "overall"})
    assert guidance.overlap(source, "guidance", called, "train") is False


def test_what_is_wrong_with_guidance_data_is_one_line():
    """Without TensorFlow's frames, as of training data."""

    def broken(dataset):
        def check(number, example):
            wrong = tf.debugging.Assert(number < 2, ["some.tsv, line 3: 0 tabs"])
            with tf.control_dependencies([wrong]):
                return tf.nest.map_structure(tf.identity, example)

        return dataset.enumerate().map(check)

    cfg = of_task()
    other = cfg.mixture_or_task_name
    task = seqio.Task("other", other.source, other.output_features, [broken])
    with pytest.raises(ValueError, match="^some.tsv, line 3: 0 tabs$"):
        make_trainer(
            guidance_dataset_cfg=dataclasses.replace(cfg, mixture_or_task_name=task)
        )


def test_overlap_that_sources_do_not_say():
    said = seqio.TfdsDataSource("c4/en:3.1.0", splits={"train": "train"})
    unsaid = seqio.FunctionDataSource(
        lambda split, shuffle_files: None, splits=["train", "guidance"]
    )
    assert guidance.overlap(unsaid, "guidance", unsaid, "train") is None
    assert guidance.overlap(unsaid, "guidance", said, "train") is None
    assert guidance.overlap(unsaid, "train", unsaid, "train") is True


def test_c4_holds_its_guidance_documents_out():
    source = seqio.get_mixture_or_task("guided_c4_span_corruption").source
    for split in ("train", "validation"):
        assert not guidance.overlap(source, "guidance", source, split)


def tokens(name, token, splits):
    """A task of rows of one token: split -> number of rows."""

    def examples(split, shuffle_files, seed=None):
        rows = np.full((splits[split], 16), token + (split == "train"), np.int32)
        return tf.data.Dataset.from_tensor_slices({"inputs": rows, "targets": rows})

    features = seqio.get_mixture_or_task(tiny.TASK).output_features
    source = seqio.FunctionDataSource(examples, splits=list(splits))
    return seqio.Task(name, source, features, [])


def first_batches(mixed, rows, batches=1):
    cfg = dataclasses.replace(
        tiny.dataset_cfg("guidance", rows), mixture_or_task_name=mixed
    )
    partitioner = partitioning.PjitPartitioner(model_parallel_submesh=(1, 1))
    return guidance.load_guidance_batches(
        cfg,
        dataclasses.replace(cfg, split="train"),
        batches,
        partitioner,
        tiny.make_model(tiny.guided()),
    )


def test_guidance_batch_of_a_mixture_is_of_all_tasks_at_their_rates():
    """Its smallest task has 4 rows, less than a batch, and repeats."""
    small = tokens("small", 10, {"train": 8, "guidance": 4})
    large = tokens("large", 20, {"train": 8, "guidance": 64})
    unread = tokens("unread", 30, {"validation": 8})
    mixed = seqio.Mixture("mixed", [(small, 1), (large, 3), (unread, 5)])
    (batch,) = first_batches(mixed, 200)
    values, counts = np.unique(batch["decoder_target_tokens"], return_counts=True)
    assert set(values) == {10, 20}, "of the guidance splits, and no padding"
    assert counts[0] / counts.sum() == pytest.approx(1 / 4, abs=0.1)
    again = first_batches(mixed, 100, 2)
    np.testing.assert_array_equal(
        np.concatenate([b["encoder_input_tokens"] for b in again]),
        batch["encoder_input_tokens"],
    )


def test_guidance_split_of_which_nothing_is_left():
    drop = lambda dataset: dataset.filter(lambda example: False)
    dropped = tokens("dropped", 10, {"train": 8, "guidance": 64}).replace(
        preprocessors=[drop]
    )
    kept = tokens("kept", 20, {"train": 8, "guidance": 64})
    message = "'guidance' of task dropped gives no example: .*64 after its source"
    for provider in (dropped, seqio.Mixture("mixed", [dropped, kept], default_rate=1)):
        with pytest.raises(ValueError, match=message):
            first_batches(provider, 8)
    assert len(first_batches(kept, 8)) == 1
