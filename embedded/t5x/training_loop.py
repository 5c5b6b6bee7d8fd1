"""The loop over training steps, with checkpoints, evaluations and what may stop it."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import pathlib
import signal
import time
from typing import Any

from clu.data import dataset_iterator
from t5x import (
    actions as actions_lib,
    checkpoints,
    datasets,
    eval as eval_lib,
    partitioning,
    progress as progress_lib,
    signals,
    trainer as trainer_lib,
    utils,
)
import tensorflow as tf


def shorter_period(eval_period: int, save_period: int | None) -> int | None:
    """The shorter of two periods, if there is one.

    Raises:
        ValueError: the other is no multiple of it.
    """
    periods = [p for p in (eval_period, save_period) if p]
    if periods and max(periods) % min(periods):
        raise ValueError(
            f"eval_period={eval_period} and SaveCheckpointConfig.period={save_period}: "
            "one must be a multiple of the other"
        )
    return min(periods, default=None)


@dataclasses.dataclass
class Run:
    """The loop over steps, with what happens between them.

    Metrics are computed while training goes on, up to the end of a period, unless actions
    wait for them. Periods are numbers of steps, 0 for never.
    """

    trainer: trainer_lib.Trainer
    train_iter: dataset_iterator.DatasetIterator
    saver: checkpoints.OrbaxCheckpointManagerInterface | None
    save_cfg: utils.SaveCheckpointConfig | None
    evaluations: "Evaluations"
    actions: actions_lib.Actions
    eval_period: int
    stats_period: int | None
    progress: progress_lib.Progress
    first_step: int
    total_steps: int
    evaluates_first: bool

    def __post_init__(self):
        self.step = self.first_step
        self._save_period = getattr(self.save_cfg, "period", None) or 0
        self._chunk = shorter_period(self.eval_period, self._save_period)

    def train(self) -> signal.Signals | None:
        """Trains to the end, or until an action or a signal stops it: that signal."""
        with signals.Stop(self._stop) as stop:
            lacks = bool(self.eval_period) and self.evaluations.lacks(self.step)
            if lacks:
                progress_lib.say(f"step {self.step}: its evaluation was broken off")
            if lacks or self.evaluates_first:
                stop.unless_received(lambda: self.evaluations.run(self.step))
            while self.step < self.total_steps and not self.trainer.stop_training:
                self._one_period(stop)
            if self.trainer.stop_training:
                self.save()
            self._wait_for_checkpoint()
            if self.trainer.stop_training:
                progress_lib.say(self._farewell(stop.received))
        return stop.received

    def _stop(self) -> None:
        self.trainer.stop_training = True

    def _farewell(self, received: signal.Signals | None) -> str:
        by = received.name if received else "an action"
        saved = ", which is saved" if self.saver else "; nothing is saved"
        return f"stopped by {by} at step {self.step}{saved}"

    def _one_period(self, stop: signals.Stop) -> None:
        """Trains to the next checkpoint, evaluation or the end, and does what is due."""
        chunk = self._chunk or self.total_steps
        # Periods count from the first step of this process, as in T5X.
        done = self.step - self.first_step
        end = min(self.first_step + (done // chunk + 1) * chunk, self.total_steps)
        self._train_until(end)
        evaluates = self._due(self.eval_period)
        if evaluates:
            self.evaluations.announce(self.step)  # before it can be resumed from
        if self._due(self._save_period):
            self.save()
        if evaluates:
            stop.unless_received(lambda: self.evaluations.run(self.step))

    def _due(self, period: int) -> bool:
        at_period = (self.step - self.first_step) % (period or 1) == 0
        return bool(period) and (at_period or self.step == self.total_steps)

    def _train_until(self, end: int) -> None:
        """Trains to a step, with a summary every `stats_period`."""

        def report(at: int, future: concurrent.futures.Future) -> None:
            if not future.exception():
                self.progress.train(at, future.result())

        stopped = False
        while self.step < end and not stopped:
            num_steps = min(end - self.step, self.stats_period or end)
            summary = self.trainer.train(self.train_iter, num_steps, start_step=self.step)
            stopped = self.trainer.stop_training
            self.step = (
                int(self.trainer.train_state.step) if stopped else self.step + num_steps
            )
            summary.add_done_callback(functools.partial(report, self.step))
            if "TRAIN" in self.actions:
                metrics = summary.result()
                self._wait_for_checkpoint()  # actions may name the newest one
                self.actions.run("TRAIN", self.trainer, {"train": metrics})
                stopped = self.trainer.stop_training
        summary.result()  # raises what the steps raised

    def save(self) -> None:
        """Writes a checkpoint in the background, if there is none of this step."""
        state = self.trainer.train_state
        if self.saver and self.save_cfg and int(state.step) not in self.saver.all_steps():
            self.saver.save(state, self.save_cfg.state_transformation_fns)

    def _wait_for_checkpoint(self) -> None:
        if self.saver:
            self.saver.wait_until_finished()

    def close(self) -> None:
        """Waits for the checkpoint and the metrics that are being written."""
        with contextlib.ExitStack() as stack:
            for part in (self.progress, self.trainer, self.evaluations, self.saver):
                if part:
                    stack.callback(part.close)


@dataclasses.dataclass
class Evaluations:
    """Evaluation with teacher forcing, and by decoding or scoring.

    A file in the run's folder stands for each step whose evaluation is not written yet.
    """

    model_dir: str
    trainer: trainer_lib.Trainer
    eval_datasets: dict[str, tf.data.Dataset]
    evaluator: eval_lib.InferenceEvaluator | None
    partitioner: partitioning.PjitPartitioner
    train_state_axes: Any
    progress: progress_lib.Progress
    actions: actions_lib.Actions

    def __post_init__(self):
        self._compiled = False
        self._metrics: concurrent.futures.Future | None = None

    def _announced(self, step: int) -> pathlib.Path:
        return pathlib.Path(self.model_dir, f"evaluating_{step}")

    def announce(self, step: int) -> None:
        """Says that a step is about to be evaluated, until `run` has done it."""
        self._announced(step).touch()

    def lacks(self, step: int) -> bool:
        """Whether a step was to be evaluated, and was not."""
        return self._announced(step).exists()

    def _written(self, step: int) -> None:
        self._announced(step).unlink(missing_ok=True)

    def run(self, step: int) -> None:
        """Evaluates. Metrics of decoded text are computed while training goes on."""
        trainer, by_name = self.trainer, self.eval_datasets
        if not self._compiled:
            trainer.compile_eval(
                {
                    name: datasets.zeros_batch(ds.element_spec, self.partitioner)
                    for name, ds in by_name.items()
                }
            )
            self._compiled = True
        summaries = trainer.eval(
            {name: ds.as_numpy_iterator() for name, ds in by_name.items()}
        )
        for name, summary in summaries.items():
            self.progress.eval(step, name, summary)
        self.actions.run("TRAIN_EVAL", trainer, summaries)
        if not self.evaluator:
            self._written(step)
            return
        started = time.time()
        metrics = self.evaluator.evaluate(trainer.train_state, self.train_state_axes)
        trainer.train_metrics_manager.write_scalar(
            "timing/evaluate_seconds", time.time() - started, step
        )

        def report(future: concurrent.futures.Future) -> None:
            if not future.exception():
                self._written(step)
                progress_lib.say_metrics(step, future.result())

        metrics.add_done_callback(report)
        self._metrics = metrics
        if "INFER_EVAL" in self.actions:
            self.actions.run("INFER_EVAL", trainer, metrics.result())

    def close(self) -> None:
        """Waits for the metrics; raises what the last computation of them raised."""
        if self.evaluator:
            self.evaluator.close()
        if self._metrics:
            self._metrics.result()
