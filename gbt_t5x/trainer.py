"""T5X's trainer, with hyper-parameters that learn while it trains."""

from collections.abc import Iterator, Mapping
import copy
import functools
import itertools
from typing import Any

import gin
import jax
from t5x import trainer, utils

from gbt_t5x import (
    checks,
    guidance,
    layout,
    optimizers,
    ordering,
    run_folder,
    summaries,
)


class GuidedTrainer(trainer.Trainer):
    """Moves λ while the parameters train, by one of two sources of ∇_θ L_H.

    A held-out batch (Algorithm 1 of the paper): after an optimizer step, the gradient of
    its loss at θ_t+1, by the sensitivities that the step left. The batches enter the
    compiled step beside the training batch, from the devices, where they stay. With a
    period, the other steps run a program without any of this.

    The next training batch: its gradient at θ_t+1, which step t+1 takes in any case, is
    that of data which θ_t+1 has not seen. λ moves one step later, before that step's own
    update, by the sensitivities that the optimizer keeps (`GuidedOptimizer.discount`).

    Beside T5X's metrics, each step logs

        hyperparams/NAME             value that the step used
        hypergradient/NAME           ĝ, with respect to λ before activation
        guidance/loss, ...           of θ_t+1, without dropout; named as for training
        guidance/skipped             meta-updates that were skipped, since ĝ or the loss
                                     was not finite; a summary has their number
        guidance/at_bound            how many λ were at an end of their intervals
        learning_rate/current        of the schedule (T5X's own metric)
        learning_rate/effective      times alpha

    with /GROUP behind if parameters are in groups; of many groups groups/NAME/lowest,
    median and highest too. Summaries have the mean of ĝ and of guidance/loss, ... over
    the steps that had them, NaN if none did, and the last of the others. By the next
    batch the first ĝ of a run is 0. TensorBoard has a page of what λ did (`layout`).
    """

    def __init__(
        self,
        *args: Any,
        guidance_dataset_cfg: utils.DatasetConfig | None,
        train_dataset_cfg: utils.DatasetConfig,
        guidance_period: int = 1,
        guidance_batches: int = 1,
        max_skipped: int = 100,
        **kwargs: Any,
    ):
        """Constructs the trainer and reads the guidance batches.

        Args:
            *args: those of `t5x.trainer.Trainer`.
            guidance_dataset_cfg: the held-out split; None for the next training batch.
                With num_microbatches its batch is divided into parts no larger.
            train_dataset_cfg: the training data, to check that the split is held out.
            guidance_period: λ moves at every such step, in a shorter run at none; it
                needs a held-out split.
            guidance_batches: how many held-out batches to take turns with.
            max_skipped: so many meta-updates skipped in a row end the run, with an error
                at the next summary.
            **kwargs: those of `t5x.trainer.Trainer`.

        Raises:
            TypeError: the model's optimizer is not a GuidedOptimizer.
            ValueError: see `guidance.load_guidance_batches`; microbatches that do not
                divide a batch; a period or number of batches below 1; data that is no
                DatasetConfig; an optimizer that keeps no sensitivities for the next
                training batch to use; checkpoints in the run's folder that are of other
                groups.
        """
        super().__init__(*args, **kwargs)
        definition = self._model.optimizer_def
        if not isinstance(definition, optimizers.GuidedOptimizer):
            raise TypeError(
                "GuidedTrainer needs a GuidedOptimizer, not a "
                f"{type(definition).__name__}: set OPTIMIZER"
            )
        _check_config("train", train_dataset_cfg)
        checks.check_count("GUIDANCE_PERIOD", guidance_period)
        checks.check_count("GUIDANCE_BATCHES", guidance_batches)
        if self._num_microbatches is not None:
            checks.check_count("NUM_MICROBATCHES", self._num_microbatches)
            if train_dataset_cfg.batch_size % self._num_microbatches:
                raise ValueError(
                    f"NUM_MICROBATCHES={self._num_microbatches}: a batch of "
                    f"{train_dataset_cfg.batch_size} does not divide into so many parts"
                )
        if guidance_dataset_cfg is None:
            _check_next_batch(definition, guidance_period, guidance_batches)
        else:
            _check_config("guidance", guidance_dataset_cfg)
            checks.check_count("GUIDANCE_BATCH_SIZE", guidance_dataset_cfg.batch_size)
        self._optimizer: optimizers.GuidedOptimizer = definition
        groups = definition.group_names(self.train_state.params)
        run_folder.check_groups(kwargs.get("summary_dir"), groups)
        layout.write(
            self.train_metrics_manager.summary_writer,
            definition.hyperparams,
            groups,
        )
        self.train_metrics_manager: Any = summaries.GuidedMetricsManager(
            self.train_metrics_manager, groups, max_skipped
        )
        self._period = guidance_period
        self._guidance_batches: list[Mapping[str, jax.Array]] = []
        if guidance_dataset_cfg is None:
            return
        self._guidance_microbatches = _guidance_microbatches(
            guidance_dataset_cfg.batch_size,
            train_dataset_cfg.batch_size,
            self._num_microbatches,
        )
        self._guidance_batches = guidance.load_guidance_batches(
            guidance_dataset_cfg,
            train_dataset_cfg,
            guidance_batches,
            self._partitioner,
            self._model,
        )

    def _inputs(self, batch: Mapping[str, jax.Array], step: int) -> dict[str, Any]:
        """What enters the compiled step; the guidance batch if λ is to move by it."""
        if not self._guidance_batches or (step + 1) % self._period:
            return {"train": batch}
        turn = step // self._period % len(self._guidance_batches)
        return {"train": batch, "guidance": self._guidance_batches[turn]}

    def train(self, batch_iter: Iterator, num_steps: int, start_step: int | None = None):
        first = int(self.train_state.step) if start_step is None else start_step
        inputs = map(self._inputs, batch_iter, itertools.count(first))
        return super().train(inputs, num_steps, start_step)

    def compile_train(self, batch: Mapping[str, jax.Array]) -> None:
        """Compiles the step, and with a period also that without guidance."""
        compiled: dict[bool, Any] = {}
        for step in {self._period - 1, 0}:
            inputs = self._inputs(batch, step)
            super().compile_train(inputs)
            compiled["guidance" in inputs] = self._compiled_train_step
        self._compiled_train_step: Any = lambda state, inputs: compiled[
            "guidance" in inputs
        ](state, inputs)

    @functools.cached_property
    def _partitioned_train_step(self):
        return self._partitioner.partition(
            self._train_step,
            in_axis_resources=(
                self._train_state_axes,
                self._partitioner.data_partition_spec,
            ),
            out_axis_resources=(self._train_state_axes, None),
            donate_argnums=(0,),
        )

    def _train_step(self, train_state, inputs):
        """θ_t, λ_t -> θ_t+1, λ_t+1, and metrics."""
        opt_state = train_state._optimizer.state
        learning_rate = self._learning_rate_fn(train_state.step)
        rng = self._get_step_rng(train_state.step)
        accumulate_grads = functools.partial(
            trainer.accumulate_grads_microbatched,
            dropout_rng=rng,
            data_partition_spec=self._partitioner.data_partition_spec,
        )
        grads, train_metrics, mutables = accumulate_grads(
            self._model,
            train_state,
            inputs["train"],
            num_microbatches=self._num_microbatches,
        )

        def update(opt_state, grads=grads):
            return trainer.apply_grads(
                _with_opt_state(train_state, opt_state),
                grads,
                dict(train_metrics),
                learning_rate,
                self._weight_metrics_computer,
                {"flax_mutables": mutables} if mutables else None,
            )

        if not self._guidance_batches:
            new_state, metrics = self._step_by_next_batch(
                train_state, grads, train_metrics, update
            )
        elif "guidance" in inputs:
            new_state, metrics = self._step_by_held_out_batch(
                train_state, inputs["guidance"], accumulate_grads, update
            )
        else:
            new_state, metrics = update(opt_state)
            metrics |= summaries.of_no_meta_update(opt_state.hyperparams, train_metrics)
        # The next batch moves λ before the update, and a held-out batch after it.
        used = opt_state if self._guidance_batches else new_state._optimizer.state
        at_bound = self._optimizer.at_bound(used.hyperparams)
        of_step = summaries.of_step(used.hyperparams, at_bound, learning_rate)
        return new_state, metrics | of_step

    def _step_by_next_batch(self, train_state, grads, train_metrics, update):
        """λ moves by ∇_θ of the training batch, and then θ by the same gradient."""
        optimizer = self._optimizer
        opt_state = train_state._optimizer.state
        hypergradients = optimizer.hypergradient(train_state.params, opt_state, grads)
        opt_state, skipped = optimizer.apply_hypergradient(
            opt_state, hypergradients, train_metrics.get("loss", ())
        )
        # Else XLA copies the moments, which ĝ reads and the update overwrites.
        new_state, metrics = update(opt_state, ordering.after(grads, skipped))
        return new_state, metrics | summaries.of_meta_update(hypergradients, skipped)

    def _step_by_held_out_batch(self, train_state, batch, accumulate_grads, update):
        """θ moves, and then λ by ∇_θ of the guidance batch at the new θ."""
        optimizer = self._optimizer
        keep = optimizer.keeps_sensitivity
        opt_state = train_state._optimizer.state
        if not keep:
            opt_state = optimizer.with_sensitivity(opt_state, train_state.params)
        new_state, metrics = update(opt_state)
        params, opt_state = new_state.params, new_state._optimizer.state
        # Tokens are one-hot as large as logits: not beside the training batch's, nor
        # beside what Z is made of.
        smallest = min(jax.tree.leaves(params), key=lambda x: x.size)
        batch = ordering.after(batch, (smallest, opt_state.sensitivity))
        grads, guidance_metrics, _ = accumulate_grads(
            _WithoutDropout(self._model),
            train_state.replace_params(params),
            batch,
            num_microbatches=self._guidance_microbatches,
        )
        hypergradients = optimizer.hypergradient(params, opt_state, grads)
        opt_state, skipped = optimizer.apply_hypergradient(
            opt_state, hypergradients, guidance_metrics.get("loss", ())
        )
        if not keep:
            opt_state = optimizer.without_sensitivity(opt_state)
        metrics |= summaries.of_meta_update(hypergradients, skipped, guidance_metrics)
        return _with_opt_state(new_state, opt_state), metrics


def _check_config(name: str, cfg: Any) -> None:
    if not isinstance(cfg, utils.DatasetConfig):
        raise ValueError(
            f"GuidedTrainer.{name}_dataset_cfg={checks.show(cfg)}: must be a "
            "utils.DatasetConfig"
        )


def _check_next_batch(
    optimizer: optimizers.GuidedOptimizer, period: int, batches: int
) -> None:
    if not optimizer.keeps_sensitivity:
        raise ValueError(
            "guidance by the next training batch needs the sensitivities of the update: "
            "set DISCOUNT, to 0.0 for the paper's greedy gradient"
        )
    if (period, batches) != (1, 1):
        raise ValueError(
            "the next training batch guides every step: GUIDANCE_PERIOD and "
            "GUIDANCE_BATCHES are for a held-out split"
        )


def _guidance_microbatches(
    batch_size: int, train_batch_size: int, parts: int | None
) -> int | None:
    """Into how many parts a guidance batch goes: none larger than a training part.

    Raises:
        ValueError: it does not divide into them.
    """
    if not parts:
        return None
    guidance_parts = -(-batch_size * parts // train_batch_size)
    if batch_size % guidance_parts:
        raise ValueError(
            f"a guidance batch of {batch_size} does not divide into {guidance_parts} "
            f"microbatches, of up to {train_batch_size // parts} rows as in training: "
            "set GUIDANCE_BATCH_SIZE"
        )
    return guidance_parts


class _WithoutDropout:
    """A model whose loss ignores the dropout key.

    The guidance loss is deterministic, but accumulating over microbatches splits a key.
    """

    def __init__(self, model):
        self._model = model

    def loss_fn(self, params, batch, dropout_rng, *args):
        del dropout_rng
        return self._model.loss_fn(params, batch, None, *args)


def _with_opt_state(train_state, state: optimizers.GuidedState):
    return train_state.replace(_optimizer=train_state._optimizer.replace(state=state))


def microbatches() -> int | None:
    """T5X's `trainer.Trainer.num_microbatches` as gin files set it, None by default."""
    return _of_t5x("num_microbatches")


def weight_metrics_computer() -> Any:
    """T5X's `trainer.Trainer.weight_metrics_computer` likewise."""
    return _of_t5x("weight_metrics_computer")


def _of_t5x(parameter: str) -> Any:
    try:
        # By the class, which a gin file may import under any name.
        bindings = gin.get_bindings(trainer.Trainer, resolve_references=False)
    except ValueError:  # gin files do not name it
        return None
    return copy.deepcopy(bindings.get(parameter))  # so gin resolves references
