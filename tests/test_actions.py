"""Actions that stop a run, and what they leave."""

import types

from clu import values
import jax
import numpy as np
import pytest
from t5x import trainer

from gbt_t5x import actions
from gbt_t5x.studies import launch
import gin_runs
import text_runs

GIN_FILE = "gin/quickstart_guided.gin"
STEPS = ("TRAIN_STEPS = 6", "STATS_PERIOD = 3", "CHECKPOINT_PERIOD = 6")
STEPS += (gin_runs.TINY_NETWORK,)
NO_EVALUATION = "train_script.train.train_eval_dataset_cfg = None"


def folders(model_dir):
    return sorted(path.name for path in model_dir.glob("*checkpoint*"))


def test_a_loss_that_is_not_finite_ends_the_run_before_the_next_checkpoint(tmp_path):
    gin_runs.train(GIN_FILE, tmp_path, *STEPS, "TRAIN_STEPS = 3", NO_EVALUATION)
    message = r"before step 6: .*checkpoint_3\. "
    with pytest.raises(FloatingPointError, match=message) as error:
        gin_runs.train(
            GIN_FILE,
            tmp_path,
            *STEPS,
            "utils.create_learning_rate_scheduler.base_learning_rate = 1e38",
            NO_EVALUATION,
        )
    assert folders(tmp_path) == ["checkpoint_0", "checkpoint_3"]
    assert launch.is_divergence(str(error.value))


def test_of_several_processes_all_are_stopped(tmp_path, monkeypatch, caplog):
    """T5X runs actions on process 0: an error there would leave the others waiting."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    (tmp_path / "checkpoint_3").mkdir()
    state = types.SimpleNamespace(step=6)
    action = actions.StopAtNonFiniteLoss(str(tmp_path))
    assert action.run(state, {"train": {"loss": values.Scalar(np.nan)}}) is True
    assert "not finite before step 6: the newest checkpoint is" in caplog.text
    assert action.run(state, {"train": {"loss": values.Scalar(1.0)}}) is False


class StopAt(trainer.BaseAction):
    def __init__(self, step):
        self._step = step

    def run(self, train_state, metrics_by_task):
        assert metrics_by_task["train"]["loss"].value > 0
        return int(train_state.step) == self._step


@text_runs.embedded_only  # T5X would save the last step twice, which Orbax refuses
def test_an_action_that_stops_a_run_leaves_a_checkpoint(tmp_path):
    with gin_runs.arguments(
        GIN_FILE, *gin_runs.TINY, f"MODEL_DIR = {str(tmp_path)!r}", *STEPS, NO_EVALUATION
    ) as kwargs:
        kwargs["actions"] = {"TRAIN": [StopAt(3)]}
        step, _ = gin_runs.train_script.train(**kwargs)
    assert step == 3
    assert folders(tmp_path) == ["checkpoint_0", "checkpoint_3"]


class StopAfter(trainer.BaseAction):
    """At the first evaluation, of which it is given the metrics."""

    def run(self, train_state, metrics_by_task):
        assert metrics_by_task[text_runs.TASK]
        return int(train_state.step) == 2


@pytest.mark.parametrize("mode", ["TRAIN_EVAL", "INFER_EVAL"])
@text_runs.embedded_only
def test_an_action_of_an_evaluation_stops_the_run(mode, tmp_path):
    settings = {"actions": {mode: [StopAfter()]}, "total_steps": 4}
    if mode == "INFER_EVAL":
        settings["infer_eval_dataset_cfg"] = text_runs.dataset_cfg("validation")
        settings["inference_evaluator_cls"] = text_runs.Evaluator
    step, _ = text_runs.train(tmp_path, **settings)
    assert step == 2


@pytest.mark.parametrize("loss, stops", [(1.0, False), (np.nan, True), (-np.inf, True)])
def test_terminate_on_nan_action(loss, stops, tmp_path):
    metrics = {"train": {"loss": values.Scalar(loss)}}
    assert trainer.TerminateOnNanAction("train").run(None, metrics) == stops
    assert not trainer.TerminateOnNanAction("another").run(None, metrics)


def test_an_error_of_a_new_run_names_no_checkpoint(tmp_path):
    state = type("State", (), {"step": 7})
    action = actions.StopAtNonFiniteLoss(str(tmp_path))
    with pytest.raises(FloatingPointError, match="step 7: the newest checkpoint is none"):
        action.run(state, {"train": {"loss": values.Scalar(np.nan)}})
