"""What the embedded t5x refuses itself: layouts, buckets, and data to evaluate."""

import json

import jax
import numpy as np
import pytest
import seqio
from t5x import eval as eval_script, infer as infer_script, partitioning, utils

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
