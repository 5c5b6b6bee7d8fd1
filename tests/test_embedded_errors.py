"""What the embedded t5x refuses itself, and how it says so."""

import json

from clu.data import dataset_iterator
import gin
import jax
import numpy as np
import pytest
import seqio
from t5x import (
    decoding,
    eval as eval_script,
    gin_utils,
    infer as infer_script,
    partitioning,
    utils,
)

from gbt_t5x import data_checks
import processes
import small_tasks
import text_runs
import tiny

pytestmark = text_runs.embedded_only


def test_periods_of_which_one_is_no_multiple_of_the_other():
    from t5x import training_loop  # of the embedded t5x alone

    assert training_loop.shorter_period(4, 2) == 2
    message = "eval_period=2 and SaveCheckpointConfig.period=3: one must be a multiple"
    with pytest.raises(ValueError, match=message):
        training_loop.shorter_period(2, 3)


def test_factors_of_a_schedule_that_are_none():
    with pytest.raises(ValueError, match=r"unknown learning rate factors \['consant'\]"):
        utils.create_learning_rate_scheduler(factors="consant * rsqrt_decay")


def test_all_checkpoints_are_for_evaluation_alone():
    cfg = utils.RestoreCheckpointConfig(path="a_run", mode="all")
    with pytest.raises(ValueError, match="mode='all' is for evaluation: use 'specific'"):
        utils.restore_path(cfg)


def test_arrays_that_orbax_stores_in_one_place(tmp_path):
    from t5x import checkpoints, train_state

    array = jax.ShapeDtypeStruct((3,), np.float32)
    params = {"query": {"lora": array}, "query.lora": array}
    state = train_state.InferenceState(step=np.int32(0), params=params)
    message = "keeps one of target/query/lora and target/query.lora"
    with pytest.raises(ValueError, match=message):
        checkpoints.OrbaxCheckpointManagerInterface(tmp_path / "run", state, None)


def test_sequences_longer_than_their_features():
    with pytest.raises(ValueError, match="max_decode_len is 5, of 4 target positions"):
        decoding.beam_search(
            np.zeros((1, 4), int), {}, lambda *_: None, eos_id=1, max_decode_len=5
        )


def axes(num_partitions, monkeypatch):
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    mesh = jax.sharding.AbstractMesh((1, num_partitions), ("data", "model"))
    monkeypatch.setitem(partitioner.__dict__, "mesh", mesh)
    optimizer = tiny.guided()
    model = tiny.make_model(optimizer)
    shapes = {name: (8, 16) for name in ("encoder_input_tokens", "decoder_input_tokens")}
    return utils.TrainStateInitializer(
        optimizer, model.get_initial_variables, shapes, partitioner
    )


def test_partitions_that_do_not_divide_an_array(monkeypatch):
    message = r"dimension \d \(.*\) of target/.* has size .*over 3 partitions.*num_parti"
    with pytest.raises(ValueError, match=message):
        axes(3, monkeypatch)
    axes(2, monkeypatch)


def test_buckets_are_refused(tmp_path):
    message = "='gs://b/run': must be a local folder .for buckets install T5X"
    with pytest.raises(ValueError, match=f"train.model_dir{message}"):
        text_runs.train("gs://b/run")
    with pytest.raises(ValueError, match=f"RestoreCheckpointConfig.path{message}"):
        text_runs.common("gs://b/run", tmp_path)
    settings = text_runs.common(tmp_path, "gs://b/run")
    with pytest.raises(ValueError, match=f"evaluate.output_dir{message}"):
        eval_script.evaluate(**settings)
    with pytest.raises(ValueError, match=f"infer.output_dir{message}"):
        infer_script.infer(mode="predict", checkpoint_period=1, **settings)


def evaluator(of, log_dir, **changes):
    cfg = small_tasks.dataset_cfg(of, "validation", pack=False, shuffle=False, **changes)
    return eval_script.InferenceEvaluator(
        cfg,
        lambda **settings: seqio.Evaluator(
            **{"logger_cls": (seqio.JSONLogger,)} | settings
        ),
        text_runs.make_model(),
        partitioning.PjitPartitioner(num_partitions=1),
        log_dir=str(log_dir),
    )


def count(targets, predictions):
    return {"count": len(targets) + 0 * len(predictions)}


def metric_task(name, texts, metric):
    if name not in seqio.TaskRegistry.names():
        small_tasks.task(name, texts, register=True, metric_fns=[metric])
    return name


def test_metrics_are_kept_without_tensorboard(tmp_path):
    name = metric_task("counted", small_tasks.TEXTS[:3], count)
    found = evaluator(name, tmp_path)
    found._evaluator.evaluate(
        compute_metrics=True,
        step=7,
        predict_fn=lambda ds: [(i, np.array([5])) for i in range(3)],
    )
    found.close()
    file = tmp_path / "inference_eval" / f"{name}-metrics.jsonl"
    assert json.loads(file.read_text()) == {"step": 7, "count": 3}


def test_nothing_to_evaluate(tmp_path):
    name = metric_task("nothing", [], count)
    with pytest.raises(ValueError, match="'validation' of task nothing gives no example"):
        evaluator(name, tmp_path)


class Faulty(dataset_iterator.TfDatasetIterator):
    """Fails at one of its batches."""

    def __init__(self, dataset, at):
        super().__init__(dataset, checkpoint=True)
        self.left = at

    def __next__(self):
        self.left -= 1
        if not self.left:
            raise OSError("a disk")
        return super().__next__()


@pytest.mark.parametrize("at", [1, 2])
def test_a_fault_of_any_batch_ends_training(at, tmp_path):
    def get_dataset(*args, **kwargs):
        return Faulty(utils.get_dataset(*args, **kwargs), at)

    with pytest.raises(OSError, match="a disk"):
        text_runs.train(tmp_path, get_dataset_fn=get_dataset, train_eval_dataset_cfg=None)


@pytest.mark.parametrize("batches", [0, 1])
def test_training_data_that_ends(batches, tmp_path):
    def get_dataset(*args, **kwargs):
        return utils.get_dataset(*args, **kwargs).take(batches)

    message = "the training data has ended: train.get_dataset_fn must give data that rep"
    with pytest.raises(ValueError, match=message):
        text_runs.train(tmp_path, get_dataset_fn=get_dataset, train_eval_dataset_cfg=None)


def test_training_data_of_as_many_batches_as_steps(tmp_path):
    def get_dataset(*args, **kwargs):
        return utils.get_dataset(*args, **kwargs).take(2)

    text_runs.train(tmp_path, get_dataset_fn=get_dataset, train_eval_dataset_cfg=None)


def test_nothing_to_evaluate_with_teacher_forcing(tmp_path):
    name = "nothing_of_validation"
    if name not in seqio.TaskRegistry.names():
        texts = {"train": small_tasks.TEXTS, "validation": []}
        small_tasks.task(name, texts, register=True)
    with pytest.raises(ValueError, match=f"^{name} gives no example to evaluate: set t"):
        text_runs.train(
            tmp_path,
            verify_matching_vocabs_fn=utils.verify_matching_vocabs,
            train_eval_dataset_cfg=small_tasks.dataset_cfg(name, "validation"),
        )


def test_data_that_is_none():
    with pytest.raises(ValueError, match="^train.get_dataset_fn gave a list: must give"):
        utils.prepare_train_iter(
            [{"a": 1}],
            partitioner=partitioning.PjitPartitioner(num_partitions=1),
            checkpoint_cfg=None,
            data_layout=None,
        )


def test_a_checkpoint_without_a_position_to_restore(tmp_path):
    plain = utils.CheckpointConfig(save=utils.SaveCheckpointConfig(period=2))
    settings = {"train_eval_dataset_cfg": None, "get_dataset_fn": utils.get_dataset}
    text_runs.train(tmp_path / "first", checkpoint_cfg=plain, **settings)
    path = str(tmp_path / "first" / "checkpoint_2")
    restore = utils.RestoreCheckpointConfig(path, "specific", restore_dataset=True)
    cfg = utils.CheckpointConfig(plain.save, restore)
    message = "no position in the training data: set RestoreCheckpointConfig.restore_data"
    with pytest.raises(ValueError, match=message):
        text_runs.train(tmp_path / "second", checkpoint_cfg=cfg, **settings)


@pytest.mark.parametrize(
    "config",
    [utils.SaveCheckpointConfig, lambda **x: utils.RestoreCheckpointConfig("a", **x)],
)
def test_float64_is_not_on_disk(config):
    config(dtype="float16")
    with pytest.raises(ValueError, match="CheckpointConfig.dtype='float64': must be one"):
        config(dtype="float64")


def test_a_pattern_that_is_none():
    settings = {"assignment_map": (("target/(", None),), "fallback_to_scratch": True}
    with pytest.raises(
        ValueError, match=r"assignment_map: 'target/\(' is no regular exp"
    ):
        utils.RestoreCheckpointConfig("a", **settings)


def test_a_module_that_comes_too_late_for_gin(tmp_path, monkeypatch):
    module = tmp_path / "too_late.py"
    module.write_text("import gin\n\n\n@gin.configurable\ndef too_late():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    cfg = small_tasks.dataset_cfg("any", module="too_late")
    gin.finalize()
    try:
        with pytest.raises(ValueError, match="write `import too_late` in a gin file"):
            data_checks.get_provider(cfg)
    finally:
        gin.clear_config()


def test_every_missing_setting_is_named_at_once():
    bindings = [f"{name} = %gin.REQUIRED" for name in ("ONE", "ANOTHER")]
    try:
        with pytest.raises(ValueError, match="set ANOTHER, ONE: as in --gin.ANOTHER="):
            gin_utils.parse_gin_flags(["."], [], bindings)
    finally:
        gin.clear_config()


def test_other_errors_keep_their_traceback():
    for fault in (KeyError("a"), OSError("a disk"), ValueError("of a library")):
        with pytest.raises(type(fault)), gin_utils._short_errors():
            raise fault


def test_a_missing_argument_is_named_with_what_takes_it():
    header = ["from __gin__ import dynamic_registration", "from t5x import utils"]
    try:
        with pytest.raises(SystemExit) as ended, gin_utils._short_errors():
            gin.parse_config([*header, "utils.DatasetConfig.split = 'train'"])
            gin.get_configurable(utils.DatasetConfig)("a_task", {"inputs": 4})
    finally:
        gin.clear_config()
    message = "error: DatasetConfig: missing a required argument: 'batch_size'"
    assert ended.value.code == message


def test_numbers_of_numpy_are_numbers():
    schedule = utils.create_learning_rate_scheduler(
        "constant", base_learning_rate=np.float32(0.25)
    )
    assert float(schedule(3)) == 0.25


def test_errors_of_gin_are_one_line():
    faults = {
        "Unable to parse value. (line 1): MODEL_DIR=/tmp/run (a text is in quotes, on a "
        r"command line --gin.NAME=\"VALUE\")": ([], ["MODEL_DIR=/tmp/run", "N=1"]),
        "Unable to open file: a.gin. Searched config paths: [": (["a.gin"], []),
    }
    for line, (files, bindings) in faults.items():
        with pytest.raises(SystemExit) as ended, gin_utils._short_errors():
            gin_utils.parse_gin_flags(["."], files, bindings)
        assert ended.value.code.startswith(f"error: {line}")
        assert "\n" not in ended.value.code and not ended.value.code.endswith("()")


def test_the_message_of_an_error_comes_alone(tmp_path):
    arguments = [
        "--gin_file=gin/quickstart_guided.gin",
        f"--gin.MODEL_DIR={str(tmp_path)!r}",
    ]
    result = processes.run("t5x.train", *arguments, "--gin.TRAIN_STEPS=-1")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "error: train.total_steps=-1: must be a whole number in [0, 2147483647] "
        "(TRAIN_STEPS)"
    )
    assert "Traceback" not in result.stderr
