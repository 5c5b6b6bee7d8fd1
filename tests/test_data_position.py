"""A position is restored into the data that it is of, or training does not start."""

import dataclasses
import json
import shutil
import types

import numpy as np
import pytest
import sentencepiece
import seqio
from t5x import models, partitioning, train as train_script, utils

from gbt_t5x import data_position
from gbt_t5x.tasks import text_files, tsv
import gin_runs
import small_tasks
import text_runs

CONVERTER = models.EncoderDecoderModel.FEATURE_CONVERTER_CLS
COPY = small_tasks.task("copy")
OTHER_TEXTS = [f"OTHER {text}" for text in small_tasks.TEXTS]
OTHER = small_tasks.task("other", OTHER_TEXTS)
CUT = small_tasks.task("copy", steps=[small_tasks.copied, lambda dataset: dataset])
FEWER = small_tasks.task(
    "copy",
    features={
        name: small_tasks.feature(seqio.ByteVocabulary(extra_ids=50))
        for name in small_tasks.LENGTHS
    },
)
CFG = small_tasks.dataset_cfg(COPY, pack=False)  # it builds faster
POSITION = "train_ds-000-of-001"


def mixture(**rates):
    return seqio.Mixture("mixed", [(t, rates[t.name]) for t in (COPY, OTHER)])


MIXED = small_tasks.dataset_cfg(mixture(copy=1, other=1), pack=False)
CHANGES = {
    "batch_size": {"batch_size": 8},
    "smaller batch": {"batch_size": 2},
    "task_feature_lengths": {"task_feature_lengths": {"inputs": 32, "targets": 16}},
    "mixture_or_task_name": {"mixture_or_task_name": OTHER},
    "preprocessors": {"mixture_or_task_name": CUT},
    "split": {"split": "validation"},
    "pack": {"pack": True},
    "seed": {"seed": 1},
    "shuffle": {"shuffle": False},
    "trim_output_features": {"trim_output_features": False},
    "vocabularies": {"mixture_or_task_name": FEWER},
}


def test_vocabularies_are_known_by_their_pieces_and_the_end_of_a_sequence(tmp_path):
    described = []
    for name, texts in (("a", small_tasks.TEXTS), ("b", [t[::-1] for t in OTHER_TEXTS])):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_prefix=str(tmp_path / name),
            vocab_size=23,
            minloglevel=2,
        )
        vocabulary = seqio.SentencePieceVocabulary(str(tmp_path / f"{name}.model"))
        for add_eos in (False, True):
            feature = small_tasks.feature(vocabulary, add_eos=add_eos)
            features = dict.fromkeys(small_tasks.LENGTHS, feature)
            cfg = small_tasks.dataset_cfg(small_tasks.task("copy", features=features))
            described.append(data_position.describe(cfg, 1)["vocabularies"])
    assert len({json.dumps(of_cfg) for of_cfg in described}) == 4


def iterator(cfg, model_dir, num_shards=1, **settings):
    """As training has it, with what T5X and clu put around it."""
    batches = data_position.get_dataset(
        cfg, 0, num_shards, CONVERTER, model_dir=str(model_dir), **settings
    )
    partitioner = partitioning.PjitPartitioner(model_parallel_submesh=(1, 1))
    return utils.prepare_train_iter(
        batches,
        partitioner=partitioner,
        checkpoint_cfg=None,
        data_layout=partitioner.get_data_layout(cfg.batch_size // num_shards),
    )


def rows(batches, count=2):
    return np.stack([next(batches)["encoder_input_tokens"] for _ in range(count)])


def save(model_dir, batches, step=3):
    folder = model_dir / f"checkpoint_{step}" / "dataset"
    folder.mkdir(parents=True)
    batches.save(folder / POSITION)
    return folder / POSITION


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that stopped after three batches, and the next two."""
    folder = tmp_path_factory.mktemp("run")
    batches = iterator(CFG, folder)
    rows(batches, 3)
    save(folder, batches)
    return folder, rows(batches)


@pytest.fixture
def saved(run, tmp_path):
    """The position, in a copy of the folder, and the batches after it."""
    folder, expected = run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "checkpoint_3" / "dataset" / POSITION, expected


@pytest.mark.parametrize("restore", ["restore", "load"])  # T5X loads
def test_the_position_of_the_same_data_is_restored(restore, saved, tmp_path):
    position, expected = saved
    batches = iterator(CFG, tmp_path)
    getattr(batches, restore)(position)
    np.testing.assert_array_equal(rows(batches), expected)


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_is_refused(change, run):
    folder, _ = run
    name = {"smaller batch": "batch_size"}.get(change, change)
    with pytest.raises(ValueError, match=f"{name} was .*, is .*RESTART_CHANGED_DATA = T"):
        iterator(dataclasses.replace(CFG, **CHANGES[change]), folder)


@pytest.mark.parametrize("change", ["batch_size", "smaller batch", "preprocessors"])
def test_other_data_starts_anew_where_that_is_set(change, saved, tmp_path):
    position, _ = saved
    cfg = dataclasses.replace(CFG, **CHANGES[change])
    batches = iterator(cfg, tmp_path, restart_changed=True)
    batches.restore(position)
    expected = rows(iterator(cfg, tmp_path / "new"), 4)
    np.testing.assert_array_equal(rows(batches), expected[:2])
    # Stopped again, it goes on.
    later = save(tmp_path, batches, 5)
    batches = iterator(cfg, tmp_path, restart_changed=True)
    batches.restore(later)
    np.testing.assert_array_equal(rows(batches), expected[2:])
    # An older checkpoint than the newest is looked at too.
    with pytest.raises(ValueError, match="RESTART_CHANGED_DATA = True"):
        iterator(cfg, tmp_path).restore(position)


def test_rates_and_shards_are_compared(tmp_path):
    save(tmp_path, iterator(MIXED, tmp_path))
    iterator(MIXED, tmp_path)
    with pytest.raises(ValueError, match="number of shards was 1, is 2"):
        iterator(MIXED, tmp_path, num_shards=2)
    cfg = dataclasses.replace(MIXED, mixture_or_task_name=mixture(copy=1, other=3))
    with pytest.raises(ValueError, match="rates was .*'other': 1.* is .*'other': 3"):
        iterator(cfg, tmp_path)


def test_the_lines_of_a_file_are_compared(tmp_path):
    """As where the guidance split grew."""
    (tmp_path / "a.tsv").write_text("a\tb\n" * 9)

    def sources(*span):
        lines = {"train": tsv.Lines(f"{tmp_path}/a.tsv", *span)}
        source = tsv.TsvSource(lines, ("inputs", "targets"))
        task = small_tasks.task("pairs", source=source)
        return data_position.describe(small_tasks.dataset_cfg(task), 1)["sources"]

    size = "a.tsv of 36 bytes"
    assert sources() == {"pairs": size}
    assert sources(2) == {"pairs": f"{size}, of a.tsv [2, end)"}
    assert sources(0, 4) == {"pairs": f"{size}, of a.tsv [0, 4)"}


def test_files_and_the_size_of_few_are_compared(tmp_path):
    def sources(pattern):
        source = seqio.TextLineDataSource({"train": f"{tmp_path}/{pattern}"})
        task = small_tasks.task("lines", source=source)
        return data_position.describe(small_tasks.dataset_cfg(task), 1)["sources"]

    (tmp_path / "a.txt").write_text("text\n")
    assert sources("a*") == {"lines": "a.txt of 5 bytes"}
    for i in range(20):
        (tmp_path / f"b{i}.txt").touch()
    assert sources("*")["lines"].startswith("21 files, a.txt to b9.txt (digest ")


def files_cfg(source, *steps):
    task = small_tasks.task("files", source=source, **{"steps": steps} if steps else {})
    return small_tasks.dataset_cfg(task, pack=False)


def documents(folder):
    """More files than are open at once. Their first letter tells the folder."""
    for i in range(24):
        lines = [f"{folder.name} {i} {line}\n" for line in range(60)]
        (folder / f"{i:02}.txt").write_text("".join(lines))
    files = text_files.Documents(f"{folder}/*.txt")
    return files_cfg(text_files.TextFileSource({"train": files}))


def pairs(folder):
    lines = [f"{folder.name} {line}\t{folder.name} {line}\n" for line in range(1440)]
    (folder / "pairs.tsv").write_text("".join(lines))
    lines = {"train": tsv.Lines(f"{folder}/pairs.tsv")}
    return files_cfg(tsv.TsvSource(lines, ("inputs", "targets")), lambda dataset: dataset)


def texts(batches, count):
    return [
        small_tasks.VOCABULARY.decode(row.tolist())
        for batch in rows(batches, count)
        for row in batch
    ]


@pytest.mark.parametrize("files", [documents, pairs])
def test_files_may_move(files, tmp_path):
    """No position in them has a path, but what was read is of the old ones."""
    for folder in "ab":
        (tmp_path / folder).mkdir()
    model_dir = tmp_path / "run"
    batches = iterator(files(tmp_path / "a"), model_dir)
    rows(batches, 3)
    position = save(model_dir, batches)
    expected = texts(batches, 360)
    shutil.rmtree(tmp_path / "a")
    batches = iterator(files(tmp_path / "b"), model_dir)
    batches.restore(position)
    found = texts(batches, 360)
    assert [text[1:] for text in found] == [text[1:] for text in expected]
    assert {text[0] for text in found} == {"a", "b"}


def test_files_whose_position_has_their_paths_are_not_another_folders(tmp_path):
    def cfg(folder):
        source = seqio.TextLineDataSource({"train": f"{folder}/*.txt"})
        return files_cfg(
            source, lambda lines: lines.map(lambda x: {"text": x}), small_tasks.copied
        )

    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.txt").write_text("text\n" * 20)
    save(tmp_path, iterator(cfg(tmp_path / "a"), tmp_path))
    message = f"folders was .*'{tmp_path}/a'.*, is .*'{tmp_path}/b'"
    with pytest.raises(ValueError, match=message):
        iterator(cfg(tmp_path / "b"), tmp_path)


def test_a_position_that_does_not_say_what_it_is_of_is_restored(saved, tmp_path, caplog):
    """T5X's own, and older ones."""
    position, expected = saved
    position.with_name(f"{POSITION}.json").unlink()
    batches = iterator(CFG, tmp_path)
    batches.restore(position)
    np.testing.assert_array_equal(rows(batches), expected)
    assert "what data the position is of is not known" in caplog.text


def test_a_damaged_description_is_named(saved, tmp_path):
    position, _ = saved
    file = position.with_name(f"{POSITION}.json")
    assert json.loads(file.read_text())["batch_size"] == 4
    file.write_text("{")
    with pytest.raises(ValueError, match=f"{POSITION}.json is damaged"):
        iterator(CFG, tmp_path).restore(position)


@pytest.mark.parametrize("restart_changed", [False, True])
def test_a_checkpoint_without_a_position_is_named(restart_changed, tmp_path):
    saved = tmp_path / "checkpoint_3"
    (saved / "state").mkdir(parents=True)
    message = f"{saved} has no position in the training data, .* SAVE_DATA_POSITION = Fa"
    with pytest.raises(ValueError, match=message):
        iterator(CFG, tmp_path, restart_changed=restart_changed)
    iterator(CFG, tmp_path, save_position=False)


def test_a_batch_that_was_looked_at_is_not_lost(tmp_path):
    """T5X looks at one before it saves where a new run begins."""
    batches = iterator(CFG, tmp_path)
    batches.peek_async().result()
    position = save(tmp_path, batches, 0)
    expected = rows(batches, 3)
    later = save(tmp_path, batches, 3)
    for saved, found in ((position, expected), (later, rows(batches, 3))):
        batches = iterator(CFG, tmp_path)
        batches.restore(saved)
        np.testing.assert_array_equal(rows(batches, 3), found)


@pytest.mark.parametrize("restart_changed", [False, True])
def test_a_position_of_other_hosts(restart_changed, tmp_path):
    folder = tmp_path / "checkpoint_3" / "dataset"
    (folder / "process_0-of-2").mkdir(parents=True)
    theirs = iterator(CFG, tmp_path / "theirs", num_shards=2)
    theirs.save(folder / "process_0-of-2" / "train_ds-000-of-002")
    settings = {"restart_changed": restart_changed}
    if not restart_changed:
        with pytest.raises(ValueError, match="number of shards was 2, is 1"):
            iterator(CFG, tmp_path, **settings)
        return
    batches = iterator(CFG, tmp_path, **settings)
    batches.restore(folder / POSITION)
    expected = rows(iterator(CFG, tmp_path / "new"))
    np.testing.assert_array_equal(rows(batches), expected)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("removed", f"{POSITION} is missing"),
        ("not one", "TensorFlow cannot restore it: "),
    ],
)
def test_a_position_that_cannot_be_restored(fault, message, saved, tmp_path, caplog):
    position, _ = saved
    index = position.with_name(f"{POSITION}.index")
    index.unlink() if fault == "removed" else index.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{message}.*RESTART_CHANGED_DATA = True"):
        iterator(CFG, tmp_path).restore(position)
    batches = iterator(CFG, tmp_path, restart_changed=True)
    batches.restore(position)
    assert f"the data starts anew: {message}" in caplog.text
    expected = rows(iterator(CFG, tmp_path / "new"))
    np.testing.assert_array_equal(rows(batches), expected)


@pytest.mark.parametrize("has_folder", [False, True])  # T5X makes it in any case
def test_a_checkpoint_of_this_run_without_a_position(has_folder, tmp_path):
    (tmp_path / "checkpoint_3" / "state").mkdir(parents=True)
    if has_folder:
        (tmp_path / "checkpoint_3" / "dataset").mkdir()
        (tmp_path / "checkpoint_3" / "dataset" / "commit_success.txt").touch()
    with pytest.raises(ValueError, match="has no position .*SAVE_DATA_POSITION = False"):
        iterator(CFG, tmp_path)
    assert rows(iterator(CFG, tmp_path, save_position=False)).shape == (2, 4, 16)


def test_partitions_that_span_hosts(tmp_path, monkeypatch):
    hosts = types.SimpleNamespace(process_count=lambda: 4)
    monkeypatch.setattr(data_position, "jax", hosts)

    def dataset(num_shards, **settings):
        data_position.get_dataset(
            CFG, 0, num_shards, CONVERTER, model_dir=str(tmp_path), **settings
        )

    message = "4 hosts read 2 shards of the data.*SAVE_DATA_POSITION = False"
    with pytest.raises(ValueError, match=message):
        dataset(2)
    dataset(2, save_position=False)
    dataset(4)


@pytest.mark.parametrize("value", ["False", 0, None])
def test_switches_are_true_or_false(value, tmp_path):
    for name, setting in {
        "RESTART_CHANGED_DATA": "restart_changed",
        "SAVE_DATA_POSITION": "save_position",
    }.items():
        with pytest.raises(ValueError, match=f"{name}={value!r}: must be True or False"):
            iterator(CFG, tmp_path, **{setting: value})


@text_runs.embedded_only
def test_t5x_names_it_too(tmp_path):
    save = utils.SaveCheckpointConfig(period=1, save_dataset=False)
    cfg = utils.CheckpointConfig(save=save)
    settings = {"checkpoint_cfg": cfg, "get_dataset_fn": utils.get_dataset}
    text_runs.train(tmp_path, **settings | {"total_steps": 1})
    save.save_dataset = True
    message = f"{tmp_path}/checkpoint_1 has no position in the training data: set SaveCh"
    with pytest.raises(ValueError, match=message):
        text_runs.train(tmp_path, **settings)


def test_the_position_of_another_run_is_not_restored(saved, tmp_path, caplog):
    position, _ = saved
    batches = iterator(CFG, tmp_path / "another")
    expected = rows(iterator(CFG, tmp_path / "another"))
    batches.restore(position)
    np.testing.assert_array_equal(rows(batches), expected)
    assert "is not of this run" in caplog.text


@pytest.mark.parametrize(
    "task",
    [
        small_tasks.task("generated", small_tasks.from_generator),
        small_tasks.task("by_python", steps=[small_tasks.by_python]),
        small_tasks.task("at_random", steps=[small_tasks.at_random]),
    ],
    ids=lambda task: task.name,
)
def test_data_without_a_position_says_which_setting_lets_it_train(task, tmp_path):
    cfg = small_tasks.dataset_cfg(task, pack=False)
    message = f"position in {task.name} cannot be saved: .* is stateful.*"
    with pytest.raises(ValueError, match=f"{message}SAVE_DATA_POSITION = False"):
        iterator(cfg, tmp_path)
    assert rows(iterator(cfg, tmp_path, save_position=False)).shape == (2, 4, 16)


def test_a_run_goes_on_with_another_batch_size(tmp_path):
    """And, in between, with data whose position cannot be saved."""

    def train(steps, *bindings, batch_size=4, task=text_runs.TASK):
        with text_runs.gin_arguments(
            tmp_path, f"TRAIN_STEPS = {steps}", gin_runs.TINY_NETWORK, *bindings
        ) as kwargs:
            kwargs["train_dataset_cfg"] = text_runs.dataset_cfg(
                "train", batch_size=batch_size, mixture_or_task_name=task
            )
            kwargs["train_eval_dataset_cfg"] = None
            return train_script.train(**kwargs)[0]

    assert train(2) == 2
    with pytest.raises(ValueError, match="batch_size was 4, is 2. .*RESTART_CHANGED"):
        train(4, batch_size=2)
    restart = "RESTART_CHANGED_DATA = True"
    assert train(4, restart, batch_size=2) == 4
    generated = small_tasks.task("generated", small_tasks.from_generator)
    with pytest.raises(ValueError, match="SAVE_DATA_POSITION = False"):
        train(6, restart, task=generated)
    for steps in (6, 8):
        assert train(steps, "SAVE_DATA_POSITION = False", task=generated) == steps
