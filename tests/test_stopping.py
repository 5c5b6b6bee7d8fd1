"""Signals stop a run of the embedded t5x, and what they leave."""

import os
import signal

import numpy as np
import orbax.checkpoint as ocp
import pytest
from t5x import trainer

import gin_runs

actions = pytest.importorskip("t5x.actions", reason="T5X has no such module")
signals = pytest.importorskip("t5x.signals")
training_loop = pytest.importorskip("t5x.training_loop")
GIN_FILE = "gin/quickstart_guided.gin"
STEPS = ("TRAIN_STEPS = 6", "STATS_PERIOD = 3", "CHECKPOINT_PERIOD = 6")
STEPS += (gin_runs.TINY_NETWORK,)
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


def test_actions_of_no_metrics_are_refused():
    with pytest.raises(ValueError, match="TRAINING"):
        actions.Actions({"TRAINING": []})
