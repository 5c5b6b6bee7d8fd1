"""Signals and actions that stop a run, and what they leave."""

import os
import signal

from clu import values
import numpy as np
import orbax.checkpoint as ocp
import pytest
from t5x import actions as actions_lib, signals, trainer, training_loop

from gbt_t5x import actions
import gin_runs

GIN_FILE = "gin/quickstart_guided.gin"
STEPS = ("TRAIN_STEPS = 6", "STATS_PERIOD = 3", "CHECKPOINT_PERIOD = 6")
EVALUATION = "EVAL_PERIOD = 6"
NO_EVALUATION = "train_script.train.train_eval_dataset_cfg = None"


def folders(model_dir):
    return sorted(path.name for path in model_dir.glob("*checkpoint*"))


def arrays(checkpoint):
    tree = ocp.PyTreeCheckpointer().restore(checkpoint / "state")
    return {"/".join(k): v for k, v in ocp.tree.to_flat_dict(tree).items()}


@pytest.fixture
def signal_at(monkeypatch):
    """Sends this process a signal after so many training steps."""

    def at(step, number=signal.SIGTERM):
        merge, merged = trainer.merge_metrics, []

        def merge_and_send(*metrics):
            merged.append(metrics)
            if len(merged) == step - 1:
                os.kill(os.getpid(), number)
            return merge(*metrics)

        monkeypatch.setattr(trainer, "merge_metrics", merge_and_send)

    return at


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_in_flight_and_the_run_goes_on_exactly(
    number, tmp_path, signal_at, monkeypatch, capfd
):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    bindings = (*STEPS, "STATS_PERIOD = 6", NO_EVALUATION)
    gin_runs.train(GIN_FILE, whole, *bindings)
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context():
        signal_at(4, number)
        with pytest.raises(SystemExit) as stop:
            gin_runs.train(GIN_FILE, stopped, *bindings)
    assert stop.value.code == 128 + number
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert folders(stopped) == ["checkpoint_0", "checkpoint_4"]
    assert f"stopped by {number.name} at step 4, which is saved" in capfd.readouterr().err
    gin_runs.train(GIN_FILE, stopped, *bindings)
    expected, resumed = arrays(whole / "checkpoint_6"), arrays(stopped / "checkpoint_6")
    assert expected.keys() == resumed.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, resumed[name], err_msg=name)


def test_a_signal_breaks_an_evaluation_off(tmp_path, monkeypatch):
    def evaluate(self, step):
        assert step == 3
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass
        raise AssertionError("the evaluation went on")

    monkeypatch.setattr(training_loop.Evaluations, "run", evaluate)
    with pytest.raises(SystemExit):
        gin_runs.train(GIN_FILE, tmp_path, *STEPS, "EVAL_PERIOD = 3")
    assert folders(tmp_path) == ["checkpoint_0", "checkpoint_3"]


def test_a_second_signal_ends_the_process_at_once():
    with signals.Stop(lambda: None) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
        for number in (signal.SIGTERM, signal.SIGINT):
            assert signal.getsignal(number) is signal.SIG_DFL


def test_a_loss_that_is_not_finite_ends_the_run_before_the_next_checkpoint(tmp_path):
    gin_runs.train(GIN_FILE, tmp_path, *STEPS, "TRAIN_STEPS = 3", NO_EVALUATION)
    with pytest.raises(FloatingPointError, match=r"before step 6: .*checkpoint_3\. "):
        gin_runs.train(
            GIN_FILE,
            tmp_path,
            *STEPS,
            "utils.create_learning_rate_scheduler.base_learning_rate = 1e38",
            NO_EVALUATION,
        )
    assert folders(tmp_path) == ["checkpoint_0", "checkpoint_3"]


class StopAt(actions_lib.BaseAction):
    def __init__(self, step):
        self._step = step

    def run(self, train_state, metrics_by_task):
        assert metrics_by_task["train"]["loss"].value > 0
        return int(train_state.step) == self._step


def test_an_action_that_stops_a_run_leaves_a_checkpoint(tmp_path):
    with gin_runs.arguments(
        GIN_FILE, *gin_runs.TINY, f"MODEL_DIR = {str(tmp_path)!r}", *STEPS, NO_EVALUATION
    ) as kwargs:
        kwargs["actions"] = {"TRAIN": [StopAt(3)]}
        step, _ = gin_runs.train_script.train(**kwargs)
    assert step == 3
    assert folders(tmp_path) == ["checkpoint_0", "checkpoint_3"]


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


def test_actions_of_no_metrics_are_refused():
    with pytest.raises(ValueError, match="TRAINING"):
        actions_lib.Actions({"TRAINING": []})
