"""What stops a run that can no longer learn."""

from collections.abc import Mapping
import os
from typing import Any

from absl import logging
import jax
from t5x import checkpoints, trainer


class StopAtNonFiniteLoss(trainer.TerminateOnNanAction):
    """Ends the run with an error when its training loss is NaN or infinite.

    `train_script.train.actions` binds it to 'TRAIN'; T5X then needs
    `train_script.train.concurrent_metrics = False`. T5X's own action ends the run as if
    it had finished, after one more checkpoint.
    """

    def __init__(self, model_dir: str):
        """Watches the loss of each summary.

        Args:
            model_dir: of the run, whose newest checkpoint the error names.
        """
        super().__init__(task="train")
        self._model_dir = model_dir

    def run(
        self, train_state: Any, metrics_by_task: Mapping[str, Mapping[str, Any]]
    ) -> bool:
        """Whether the run is to stop.

        T5X asks process 0 alone, and the others wait for its answer: of several it stops
        them all, and what is not finite is then not saved, an error (`run_folder`).

        Raises:
            FloatingPointError: the loss is not finite, in a run of one process.
        """
        if super().run(train_state, metrics_by_task):
            steps = checkpoints.all_steps(self._model_dir)
            newest = os.path.join(self._model_dir, f"checkpoint_{max(steps, default=0)}")
            message = (
                f"the training loss is not finite before step {int(train_state.step)}: "
                f"the newest checkpoint is {newest if steps else 'none'}. Lower the "
                "learning rate, or look for the batch that does it"
            )
            if jax.process_count() == 1:
                raise FloatingPointError(message)
            logging.error(message)
            return True
        return False
