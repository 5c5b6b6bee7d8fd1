"""What the embedded t5x refuses itself, and how it says so."""

import json

import gin
import jax
import numpy as np
import pytest
import seqio
from t5x import (
    eval as eval_script,
    gin_utils,
    infer as infer_script,
    partitioning,
    utils,
)

import processes
import small_tasks
import text_runs
import tiny

pytestmark = text_runs.embedded_only


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


def test_errors_of_gin_are_one_line():
    faults = {
        "Unable to parse value. (line 1): MODEL_DIR=/tmp/run (a text is in quotes, on a "
        r"command line --gin.NAME=\"VALUE\")": ([], ["MODEL_DIR=/tmp/run"]),
        "Unable to open file: a.gin. Searched config paths: ['', '.'].": (["a.gin"], []),
    }
    for line, (files, bindings) in faults.items():
        with pytest.raises(SystemExit) as ended, gin_utils._short_errors():
            gin_utils.parse_gin_flags(["."], files, bindings)
        assert ended.value.code == f"error: {line}"


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
