"""T5X's trainer, with hyper-parameters that learn from a held-out batch."""

from collections.abc import Iterator, Mapping
import functools
from typing import Any

from clu import metrics as clu_metrics
import jax
import jax.numpy as jnp
from t5x import trainer, utils

from gbt_t5x import guidance, hypergradient, hyperparams, optimizers

_GUIDANCE_METRICS = ("loss", "loss_per_nonpadding_target_token", "accuracy")


class GuidedTrainer(trainer.Trainer):
    """Moves λ after every optimizer step (Algorithm 1 of the paper).

    The guidance batch enters the compiled step beside the training batch, from the
    devices, where it stays. Beside T5X's metrics, each step logs

        hyperparams/NAME             value that the step used
        hypergradient/NAME           ĝ_t, with respect to λ before activation
        guidance/loss, ...           of θ_t+1, without dropout; named as for training
        learning_rate                of the schedule (T5X's own metric)
        learning_rate/effective      times alpha

    Needs an `optimizers.GuidedOptimizer`.
    """

    def __init__(
        self,
        *args: Any,
        guidance_dataset_cfg: utils.DatasetConfig,
        train_dataset_cfg: utils.DatasetConfig,
        **kwargs: Any,
    ):
        """Constructs the trainer and reads the guidance batch.

        Args:
            *args: those of `t5x.trainer.Trainer`.
            guidance_dataset_cfg: the held-out split. num_microbatches divides its batch
                as it divides the training batch.
            train_dataset_cfg: the training data, to check that the split is held out.
            **kwargs: those of `t5x.trainer.Trainer`.

        Raises:
            TypeError: the model's optimizer is not a GuidedOptimizer.
            ValueError: see `guidance.load_guidance_batch`.
        """
        super().__init__(*args, **kwargs)
        if not isinstance(self._model.optimizer_def, optimizers.GuidedOptimizer):
            raise TypeError(
                "GuidedTrainer needs a GuidedOptimizer, not a "
                f"{type(self._model.optimizer_def).__name__}: set OPTIMIZER"
            )
        if (
            self._num_microbatches
            and guidance_dataset_cfg.batch_size % self._num_microbatches
        ):
            raise ValueError(
                f"a guidance batch of {guidance_dataset_cfg.batch_size} does not divide "
                f"into {self._num_microbatches} microbatches: set GUIDANCE_BATCH_SIZE"
            )
        self._guidance_batch = guidance.load_guidance_batch(
            guidance_dataset_cfg,
            train_dataset_cfg,
            self._partitioner,
            self._model.FEATURE_CONVERTER_CLS,
        )

    def _with_guidance(self, batch: Mapping[str, jax.Array]) -> dict[str, Any]:
        return {"train": batch, "guidance": self._guidance_batch}

    def train(self, batch_iter: Iterator, num_steps: int, start_step: int | None = None):
        return super().train(map(self._with_guidance, batch_iter), num_steps, start_step)

    def compile_train(self, batch: Mapping[str, jax.Array]) -> None:
        super().compile_train(self._with_guidance(batch))

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

    def _train_step(self, train_state, batches):
        """θ_t, λ_t -> θ_t+1, λ_t+1, and metrics."""
        learning_rate = self._learning_rate_fn(train_state.step)
        rng = self._get_step_rng(train_state.step)
        accumulate_grads = functools.partial(
            trainer.accumulate_grads_microbatched,
            dropout_rng=rng,
            num_microbatches=self._num_microbatches,
            data_partition_spec=self._partitioner.data_partition_spec,
        )
        opt_state = train_state._optimizer.state
        grads, metrics, mutables = accumulate_grads(
            self._model, train_state, batches["train"]
        )

        def update(raw):
            new_state, new_metrics = trainer.apply_grads(
                _with_opt_state(train_state, opt_state.replace(hyperparams=raw)),
                grads,
                dict(metrics),
                learning_rate,
                self._weight_metrics_computer,
                {"flax_mutables": mutables} if mutables else None,
            )
            return new_state.params, (new_state, new_metrics)

        def guidance_grad(params):
            state = train_state.replace_params(params)
            model: Any = _WithoutDropout(self._model)
            grads, metrics, _ = accumulate_grads(model, state, batches["guidance"])
            return grads, metrics

        step = hypergradient.guided_update(update, opt_state.hyperparams, guidance_grad)
        new_state, metrics = step.update_aux
        optimizer_def: Any = self._model.optimizer_def
        new_opt_state = optimizer_def.apply_hypergradient(
            new_state._optimizer.state, step.hypergradient
        )
        metrics |= _metrics(opt_state.hyperparams, learning_rate, step)
        return _with_opt_state(new_state, new_opt_state), metrics


def _metrics(raw, learning_rate, step: hypergradient.GuidedUpdate) -> dict[str, Any]:
    """The metrics that guidance adds to a step's."""
    values = hyperparams.values(raw)
    scalars = {
        **{f"hyperparams/{name}": x for name, x in values.items()},
        **{f"hypergradient/{name}": x for name, x in step.hypergradient.items()},
        "learning_rate/effective": learning_rate * values.get("alpha", 1.0),
    }
    last_value = clu_metrics.LastValue.from_model_output
    return {
        **{name: last_value(jnp.asarray([x])) for name, x in scalars.items()},
        **{
            f"guidance/{name}": step.guidance_aux[name]
            for name in _GUIDANCE_METRICS
            if name in step.guidance_aux
        },
    }


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
