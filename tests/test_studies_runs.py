"""The reader of runs, on small TensorBoard files made here."""

import pytest
import tensorflow as tf

from gbt_t5x import tags
from gbt_t5x.studies import runs, seeds
from written_runs import write, write_run


def test_a_run_is_read(tmp_path):
    learned = {"alpha": [1.0, 1.5], "beta1": [0.875, 0.5]}
    folder = write_run(
        tmp_path / "run", {20: 3.0, 40: 2.5}, [0.5, 8.0], learned, learning_rate=0.25
    )
    run = runs.read_run(str(folder))
    assert (run.folder, run.task) == (folder, "docs")
    assert run.loss == {20: 3.0, 40: 2.5}
    assert run.hyperparams == {
        "alpha": {20: 1.0, 40: 1.5},
        "beta1": {20: 0.875, 40: 0.5},
    }
    assert run.learning_rate == {20: 0.25, 40: 0.25}
    assert run.effective_learning_rate == {"": {20: 0.25, 40: 0.375}}
    assert run.settings == {"BATCH_SIZE": "4", "BETA1": "None"}
    assert run.seconds_per_step == 0.125
    assert run.first_step == 0


def test_a_run_from_a_checkpoint_has_its_step(tmp_path):
    """Also where it was stopped, and went on from one of its own."""
    write_run(tmp_path, {40: 3.0, 60: 2.5}, [0.5, 8.0, 8.0])
    write(tmp_path / "train", {s: {"timing/compilation_seconds": 1.0} for s in (30, 50)})
    assert runs.read_run(tmp_path).first_step == 30
    entry = seeds.read("run", tmp_path)
    assert entry.steps_to(2.5) == 60
    assert entry.seconds_to(2.5) == 30 * 0.125


def test_groups_keep_their_names(tmp_path):
    learned = {"alpha/encoder": [1.0], "alpha/decoder.mlp": [2.0]}
    folder = write_run(tmp_path, {20: 3.0}, [1.0], learned, learning_rate=0.5)
    run = runs.read_run(folder)
    assert list(run.hyperparams) == ["alpha/decoder.mlp", "alpha/encoder"]
    assert run.effective_learning_rate == {"encoder": {20: 0.5}, "decoder.mlp": {20: 1.0}}


def test_without_alpha_the_schedule_is_the_effective_one(tmp_path):
    folder = write_run(tmp_path, {20: 3.0}, [1.0], learning_rate=0.5)
    assert runs.read_run(folder).effective_learning_rate == {"": {20: 0.5}}


def test_curves_of_a_resumed_run_take_the_later_file(tmp_path):
    write(tmp_path, {10: {"x": 1.0, "y": 5.0}, 20: {"x": 2.0}, 30: {"x": 3.0}})
    write(tmp_path, {20: {"x": 4.0}, 40: {"x": 6.0}})
    curves = runs.read_curves(tmp_path, "x|y|z")
    assert curves == {"x": {10: 1.0, 20: 4.0, 30: 3.0, 40: 6.0}, "y": {10: 5.0}}
    assert list(curves["x"]) == [10, 20, 30, 40]


def test_curves_keep_every_step(tmp_path):
    # TensorBoard's own default keeps ten.
    write(tmp_path, {step: {"x": float(step)} for step in range(500)})
    assert list(runs.read_curves(tmp_path, "x")["x"]) == list(range(500))


def test_scalars_of_tensorflow_1_are_read_too(tmp_path):
    """As seqio's loggers write them; texts are not scalars."""
    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(tmp_path))
        for step in range(20):
            value = tf.compat.v1.Summary.Value(tag="x", simple_value=step / 2)
            writer.add_summary(tf.compat.v1.Summary(value=[value]), step)
        writer.close()
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        tf.summary.text("x_config", "BATCH_SIZE = 4", step=0)
    assert runs.read_curves(tmp_path, "x.*") == {"x": {s: s / 2 for s in range(20)}}


def test_settings_are_the_macros(tmp_path):
    (tmp_path / "config.gin").write_text(
        "from t5x import utils\n\n# Macros:\n# ====\n"
        "BATCH_SIZE = 4\nGUIDANCE_BATCH_SIZE = %BATCH_SIZE\nA = %B\nB = %A\n"
        "TASK_FEATURE_LENGTHS = \\\n    {'inputs': 128,\n     'targets': 32}\n"
        "GROUPS = None\n\n# Parameters for utils.DatasetConfig:\n"
        "utils.DatasetConfig.batch_size = %BATCH_SIZE\n"
    )
    assert runs.read_settings(tmp_path / "config.gin") == {
        "BATCH_SIZE": "4",
        "GUIDANCE_BATCH_SIZE": "4",
        "A": "%B",
        "B": "%A",
        "TASK_FEATURE_LENGTHS": "{'inputs': 128, 'targets': 32}",
        "GROUPS": "None",
    }
    assert runs.read_settings(tmp_path / "absent.gin") == {}


def test_seeds_are_in_the_order_of_their_numbers(tmp_path):
    for seed in (10, 9, 1):
        write_run(tmp_path / f"seed_{seed}", {20: float(seed)}, [1.0])
    (tmp_path / "notes.txt").write_text("no folder")
    (tmp_path / ".cache").mkdir()
    found = runs.read_seeds(tmp_path)
    assert [run.folder.name for run in found] == ["seed_1", "seed_9", "seed_10"]
    assert [run.loss[20] for run in found] == [1.0, 9.0, 10.0]
    assert [run.folder for run in runs.read_seeds(tmp_path / "seed_9")] == [
        tmp_path / "seed_9"
    ]


def test_a_seed_without_a_run_is_an_error(tmp_path):
    write_run(tmp_path / "0", {20: 1.0}, [1.0])
    (tmp_path / "1").mkdir()
    with pytest.raises(ValueError, match="/1 holds no run"):
        runs.read_seeds(tmp_path)


@pytest.mark.parametrize("read", [runs.read_run, runs.read_seeds])
def test_a_folder_without_files_is_an_error(read, tmp_path):
    with pytest.raises(ValueError, match=r"no TensorBoard files in .*nowhere.train"):
        read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no run: .* name a MODEL_DIR"):
        read(tmp_path)


def test_a_run_that_was_not_evaluated_is_an_error(tmp_path):
    write(tmp_path / "train", {20: {"hyperparams/alpha": 1.0}})
    with pytest.raises(ValueError, match="must hold one evaluated task: none"):
        runs.read_run(tmp_path)
    write(tmp_path / "training_eval" / "docs", {20: {"accuracy": 0.5}})
    with pytest.raises(ValueError, match=f"no {tags.LOSS} in .*docs: was the run eval"):
        runs.read_run(tmp_path)


def test_a_run_without_its_last_evaluation_is_not_finished(tmp_path):
    """As where T5X is killed in it, and started again."""
    folder = write_run(tmp_path / "whole", {20: 1.5, 40: 1.0}, [1.0, 1.0])
    assert runs.read_finished_run(folder).loss == runs.read_run(folder).loss
    folder = write_run(tmp_path / "lacks", {20: 1.5}, [1.0, 1.0])
    assert runs.read_run(folder).loss == {20: 1.5}
    with pytest.raises(ValueError, match="lacks was trained to step 40, and its last ev"):
        runs.read_finished_run(folder)


@pytest.mark.parametrize(
    ("factor", "times"), [("8", 8), ("1_024.0", 1024), ("None", 1), ("'TOKENS'", 1)]
)
def test_a_loss_that_t5x_divided_is_in_nats_per_token(factor, times, tmp_path):
    folder = write_run(tmp_path, {20: 0.5}, [1.0])
    (folder / "config.gin").write_text(f"LOSS_NORMALIZING_FACTOR = {factor}\n")
    assert runs.read_run(folder).loss == {20: 0.5 * times}


def test_several_tasks_are_an_error(tmp_path):
    write_run(tmp_path, {20: 1.0}, [1.0])
    write(tmp_path / "training_eval" / "news", {20: {tags.LOSS: 0.5}})
    with pytest.raises(ValueError, match="must hold one evaluated task: docs, news"):
        runs.read_run(tmp_path)
