"""Evaluation by decoding and scoring: of checkpoints, and while training."""

import inspect
import re

from flax import core, traverse_util
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import seqio
from t5x import eval as eval_script, gin_utils, train as train_script, utils

import gin_runs
import processes
import small_tasks
import text_runs

METRICS = ("codes", "mean_score", "targets")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A run that decoded before training and after its two steps."""
    model_dir = tmp_path_factory.mktemp("run")
    text_runs.train(
        model_dir,
        infer_eval_dataset_cfg=text_runs.dataset_cfg("test"),
        inference_evaluator_cls=text_runs.Evaluator,
        run_eval_before_training=True,
    )
    return model_dir


def restore_from(path, mode, **changes):
    restore = utils.RestoreCheckpointConfig(path=str(path), mode=mode, **changes)
    return utils.CheckpointConfig(save=None, restore=restore)


def evaluate(checkpoint, output_dir, **changes):
    arguments = text_runs.common(checkpoint, output_dir)
    arguments["inference_evaluator_cls"] = text_runs.Evaluator
    eval_script.evaluate(**arguments | changes)


def metrics_of(folder):
    """step -> metrics, of the evaluations in a folder."""
    path = folder / "inference_eval" / f"{text_runs.TASK}-metrics.jsonl"
    lines = text_runs.read_json_lines(path)
    return {line["step"]: {k: line[k] for k in METRICS} for line in lines}


@text_runs.embedded_only
def test_a_task_may_be_given_itself(model_dir, tmp_path):
    task = seqio.TaskRegistry.get(text_runs.TASK)
    cfg = text_runs.dataset_cfg("test", mixture_or_task_name=task)
    evaluate(model_dir / "checkpoint_2", tmp_path, dataset_cfg=cfg)
    assert metrics_of(tmp_path).keys() == {2}
    assert (tmp_path / f"eval.{text_runs.TASK}.ckpt").exists()


def test_training_and_eval_measure_the_same(model_dir, tmp_path):
    in_training = metrics_of(model_dir)
    assert list(in_training) == [0, 2]
    assert in_training[0]["mean_score"] != in_training[2]["mean_score"]
    evaluate(model_dir / "checkpoint_2", tmp_path)
    assert metrics_of(tmp_path) == {2: pytest.approx(in_training[2], rel=1e-5)}
    assert (tmp_path / "inference_eval" / text_runs.TASK).is_dir(), "TensorBoard"
    evaluated = (tmp_path / f"eval.{text_runs.TASK}.ckpt").read_text()
    assert evaluated == str(model_dir / "checkpoint_2")


def test_all_checkpoints_are_evaluated_once(model_dir, tmp_path):
    every = utils.RestoreCheckpointConfig(path=str(model_dir), mode="all")
    evaluate(model_dir, tmp_path, restore_checkpoint_cfg=every)
    metrics = metrics_of(tmp_path)
    assert metrics == {k: pytest.approx(v) for k, v in metrics_of(model_dir).items()}
    path = tmp_path / "inference_eval" / f"{text_runs.TASK}-metrics.jsonl"
    before = path.read_bytes()
    again = utils.RestoreCheckpointConfig(path=str(model_dir), mode="all")
    evaluate(model_dir, tmp_path, restore_checkpoint_cfg=again)
    assert path.read_bytes() == before


GIN = """
from __gin__ import dynamic_registration
import text_runs
from t5x import utils
include 'gin/models/quickstart.gin'
include 't5x/configs/runs/{script}.gin'
MIXTURE_OR_TASK_NAME = 'tiny_texts'
TASK_FEATURE_LENGTHS = {lengths}
utils.DatasetConfig.batch_size = 4
utils.RestoreCheckpointConfig.dtype = 'float32'
"""


NO_METRICS = small_tasks.task("no_metrics", register=True).name


def test_training_skips_the_evaluation_of_what_has_no_metrics(tmp_path):
    cfg = small_tasks.dataset_cfg(NO_METRICS, "validation", pack=False)
    step, _ = text_runs.train(
        tmp_path,
        infer_eval_dataset_cfg=cfg,
        inference_evaluator_cls=text_runs.Evaluator,
    )
    assert step == 2
    assert not [*tmp_path.glob("inference_eval/*")]


@text_runs.embedded_only
@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"mixture_or_task_name": NO_METRICS}, "no_metrics"),
        ({"split": "test[:4]"}, text_runs.TASK),
    ],
)
def test_eval_of_what_has_no_metrics_is_an_error(model_dir, tmp_path, changes, name):
    cfg = text_runs.dataset_cfg(**{"split": "validation"} | changes)
    message = f"{name} has no task with metrics and the split '{cfg.split}', itself and"
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate(model_dir / "checkpoint_2", tmp_path, dataset_cfg=cfg)


def run(script, output, checkpoint, *flags):
    """`python -m t5x.SCRIPT` in a new process, with T5X's gin files."""
    gin_file = output.parent / f"{script}.gin"
    gin_file.write_text(GIN.format(script=script, lengths=text_runs.LENGTHS))
    network = [b for b in gin_runs.TINY if b.startswith("network.")]
    bindings = [
        f"{script.upper()}_OUTPUT_DIR = {str(output)!r}",
        f"CHECKPOINT_PATH = {str(checkpoint)!r}",
        *network,
    ]
    own = ["--gin." + b.replace(" = ", "=", 1) for b in bindings]
    done = processes.run(f"t5x.{script}", f"--gin_file={gin_file}", *flags, *own)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def test_commands_agree_with_each_other(model_dir, tmp_path):
    """The metric of t5x.eval, computed from the lines that t5x.infer writes."""
    checkpoint = model_dir / "checkpoint_2"
    eval_log = run("eval", tmp_path / "eval", checkpoint)
    mode = "--gin.infer.mode='predict_with_aux'"
    infer_log = run("infer", tmp_path / "infer", checkpoint, mode, "--shard_id=0")
    assert "config.gin" in {path.name for path in (tmp_path / "infer").iterdir()}
    name = f"{text_runs.TASK}-predict_with_aux.jsonl-00000-of-00001"
    lines = text_runs.read_json_lines(tmp_path / "infer" / name)
    predictions = [line["prediction"] for line in lines]
    found = metrics_of(tmp_path / "eval")[2]
    expected = text_runs.describe(predictions, predictions)
    assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-6)
    if text_runs.EMBEDDED:
        assert "step 2  inference evaluation of tiny_texts: codes" in eval_log
        assert "decoded 11/11 examples" in eval_log
        assert "decoded 11/11 examples" in infer_log


FINETUNE = """
include 'gin/models/quickstart.gin'
include 't5x/configs/runs/finetune.gin'
MIXTURE_OR_TASK_NAME = 'tiny_texts'
TASK_FEATURE_LENGTHS = {'inputs': 16, 'targets': 8}
TRAIN_STEPS = 3
INITIAL_CHECKPOINT_PATH = '/runs/checkpoint_2'
"""


def test_finetune_gin_binds_what_train_takes(tmp_path):
    gin_file = tmp_path / "finetune.gin"
    gin_file.write_text(FINETUNE)
    with gin_runs.arguments(str(gin_file)) as kwargs:
        restore = kwargs["checkpoint_cfg"].restore
        assert (restore.path, restore.mode) == ("/runs/checkpoint_2", "specific")
        assert kwargs["infer_eval_dataset_cfg"].task_feature_lengths is None
        assert kwargs["model"].module.config.dropout_rate == 0.1
        inspect.signature(train_script.train).bind(**kwargs)


def test_fine_tuning_starts_from_the_checkpoint(model_dir, tmp_path):
    """As finetune.gin binds it. The checkpoint's steps count: none is left."""
    path = model_dir / "checkpoint_2"
    cfg = restore_from(path, "specific", dtype="float32")
    step, state = text_runs.train(
        tmp_path, checkpoint_cfg=cfg, train_eval_dataset_cfg=None
    )
    assert step == int(state.step) == 2
    saved = text_runs.parameters(path)
    jax.tree.map(np.testing.assert_array_equal, saved, core.unfreeze(state.params))


@pytest.mark.parametrize("more", [(), ("DISCOUNT = 0.0",)], ids=["held_out", "kept"])
def test_what_guidance_begins_with_is_the_checkpoint(more, model_dir, tmp_path):
    """Of docs/guidance.md: all but what it lacks, which begins at 0."""
    guided = ("HYPERPARAMS = ('alpha',)", "BETA1 = None", "GUIDANCE_SPLIT = 'validation'")
    checkpoint = model_dir / "checkpoint_2"
    pattern = "state/(hyperparams|meta_state|sensitivity)/.*"
    begin = restore_from(
        checkpoint,
        "specific",
        fallback_to_scratch=True,
        assignment_map=((pattern, None),),
    )
    step, state = text_runs.train(
        tmp_path,
        *guided,
        *more,
        checkpoint_cfg=begin,
        train_eval_dataset_cfg=None,
        gin_file="gin/quickstart_guided.gin",
    )
    assert step == 2
    saved = traverse_util.flatten_dict(
        ocp.PyTreeCheckpointer().restore(checkpoint / "state"), sep="/"
    )
    found = traverse_util.flatten_dict(core.unfreeze(state.state_dict()), sep="/")
    assert saved.keys() < found.keys()
    for name, x in found.items():
        assert (name in saved) != bool(re.fullmatch(pattern, name)), name
        np.testing.assert_array_equal(x, saved.get(name, np.zeros_like(x)), name)


def test_relative_steps_count_from_the_checkpoint(model_dir, tmp_path):
    begin = restore_from(model_dir / "checkpoint_2", "specific")
    settings = {"checkpoint_cfg": begin, "train_eval_dataset_cfg": None}
    assert text_runs.train(tmp_path / "more", **settings, relative_steps=1)[0] == 3
    if text_runs.EMBEDDED:
        message = "the checkpoint is at step 2, past total_steps=1"
        with pytest.raises(ValueError, match=message):
            text_runs.train(tmp_path / "less", **settings, total_steps=1)


@text_runs.embedded_only
def test_a_pattern_that_matches_no_array_is_an_error(model_dir, tmp_path):
    begin = restore_from(
        model_dir / "checkpoint_2",
        "specific",
        fallback_to_scratch=True,
        assignment_map=(("state/nothing/.*", None),),
    )
    with pytest.raises(ValueError, match="'state/nothing/.*' matches no array of this"):
        text_runs.train(tmp_path, checkpoint_cfg=begin, train_eval_dataset_cfg=None)


def test_guidance_may_begin_and_end_at_a_checkpoint(model_dir, tmp_path):
    """Hyper-parameters that the checkpoint lacks are initialized, others left out."""
    guided = ("HYPERPARAMS = ('alpha',)", "BETA1 = None", "GUIDANCE_SPLIT = 'validation'")
    checkpoint = model_dir / "checkpoint_2"
    begin = restore_from(
        checkpoint,
        "specific",
        fallback_to_scratch=True,
        assignment_map=(("state/(hyperparams|meta_state)/.*", None),),
    )
    begin.save = utils.SaveCheckpointConfig(period=2)
    arguments = {"train_eval_dataset_cfg": None, "gin_file": "gin/quickstart_guided.gin"}
    _, state = text_runs.train(
        tmp_path / "guided",
        *guided,
        "TRAIN_STEPS = 4",
        checkpoint_cfg=begin,
        **arguments,
    )
    assert int(state.step) == 4
    end = restore_from(tmp_path / "guided" / "checkpoint_4", "specific", strict=False)
    _, state = text_runs.train(
        tmp_path / "plain",
        "TRAIN_STEPS = 5",
        checkpoint_cfg=end,
        train_eval_dataset_cfg=None,
    )
    assert int(state.step) == 5


@text_runs.embedded_only
def test_optimizer_state_of_another_run_is_refused(model_dir, tmp_path):
    cfg = restore_from(model_dir / "checkpoint_2", "specific")
    with pytest.raises(ValueError, match=r"/m has shape \(1,\) in the checkpoint"):
        text_runs.train(tmp_path, "BETA1 = 0.9", checkpoint_cfg=cfg)
    guided = ("HYPERPARAMS = ('alpha',)", "BETA1 = None")
    with pytest.raises(ValueError, match="lacks .*fallback_to_scratch = True"):
        text_runs.train(
            tmp_path, *guided, checkpoint_cfg=cfg, gin_file="gin/quickstart_guided.gin"
        )


@text_runs.embedded_only
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_dataset_cfg": text_runs.dataset_cfg("training")},
            "not 'training': set DatasetConfig.split",
        ),
        (
            {"train_eval_dataset_cfg": text_runs.dataset_cfg("dev")},
            "not 'dev': set DatasetConfig.split",
        ),
        (
            {"infer_eval_dataset_cfg": text_runs.dataset_cfg("dev")},
            "not 'dev': set DatasetConfig.split",
        ),
        (
            {"checkpoint_cfg": restore_from("/none", "latest")},
            "'/none' holds no checkpoint_STEP folders",
        ),
        (
            {"checkpoint_cfg": restore_from("/none/checkpoint_1", "specific")},
            "no checkpoint at /none/checkpoint_1",
        ),
    ],
)
def test_training_refuses_wrong_settings(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        text_runs.train(tmp_path, **changes)


@text_runs.embedded_only
def test_a_checkpoint_without_a_step_is_refused(tmp_path):
    (tmp_path / "best_model" / "state").mkdir(parents=True)
    restored = restore_from(str(tmp_path / "best_model"), "specific")
    with pytest.raises(ValueError, match="best_model is .* name it checkpoint_STEP"):
        text_runs.train(tmp_path / "run", checkpoint_cfg=restored)


def test_gin_functions():
    assert gin_utils.sum_fn("tiny_", "texts") == "tiny_texts"
    assert gin_utils.bool_fn(0) is False
