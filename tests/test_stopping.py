"""Signals stop a run of the embedded t5x, and what they leave."""

import os
import signal
import types

import numpy as np
import orbax.checkpoint as ocp
import pytest
from t5x import trainer

from gbt_t5x.studies import runs
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


def test_an_evaluation_that_was_broken_off_is_made_on_the_next_start(
    tmp_path, monkeypatch, capfd
):
    """Of the last step too, after which nothing is left to train."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    bindings = (*STEPS, "EVAL_PERIOD = 1", "CHECKPOINT_PERIOD = 1")
    gin_runs.train(GIN_FILE, whole, *bindings, "TRAIN_STEPS = 2")
    expected = runs.read_run(whole).loss
    assert [*expected] == [1, 2]

    evaluate = trainer.Trainer.eval

    def interrupted(self, batch_iters):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, batch_iters)

    for last in (1, 2):
        of_run = (GIN_FILE, stopped, *bindings, f"TRAIN_STEPS = {last}")
        with monkeypatch.context() as patched:
            patched.setattr(trainer.Trainer, "eval", interrupted)
            with pytest.raises(SystemExit):
                gin_runs.train(*of_run)
        assert (stopped / f"evaluating_{last}").exists()
        gin_runs.train(*of_run)
        assert f"step {last}: its evaluation was broken off" in capfd.readouterr().err
        assert runs.read_run(stopped).loss == {s: expected[s] for s in range(1, last + 1)}
        assert not list(stopped.glob("evaluating*"))
    gin_runs.train(*of_run)
    assert "broken off" not in capfd.readouterr().err


def test_a_second_signal_ends_the_process_at_once():
    with signals.Stop(lambda: None) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
        for number in (signal.SIGTERM, signal.SIGINT):
            assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_while_an_action_runs_is_not_lost():
    class Signalled(trainer.BaseAction):
        def run(self, train_state, metrics_by_task):
            of_run.stop_training = True  # as the signal's handler sets it
            return False

    of_run = types.SimpleNamespace(stop_training=False, train_state=None)
    actions.Actions({"TRAIN": [Signalled()]}).run("TRAIN", of_run, {})
    assert of_run.stop_training


def test_actions_of_no_metrics_are_refused():
    with pytest.raises(ValueError, match="TRAINING"):
        actions.Actions({"TRAINING": []})
