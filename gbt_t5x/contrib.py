"""Optimizers of optax that need a word more than `OptaxOptimizer` to train T5.

Prodigy and Muon have the names of Adam's arguments here, so that a gin file can put them
in the place of LAMB or AdamW; Muon leaves embeddings to Adam, as its authors do.
Schedule-free optimizers are evaluated at the average that they keep. Adafactor can have
its learning rate outside of the momentum.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib
from t5x import trainer

from gbt_t5x import optax_optimizer

_NOT_MUON = ("embedding", "rel_embedding", "logits_dense")


def prodigy(
    learning_rate: Any,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """`optax.contrib.prodigy`, whose learning rate is a factor near 1 on its estimate.

    Args:
        learning_rate: the factor. Below 1e-8, T5X's `min_learning_rate`, it counts as
            1e-8: of a first one of 0 optax 0.2.8 makes NaN.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        weight_decay: as AdamW's.
    """
    return contrib.prodigy(
        jnp.maximum(learning_rate, 1e-8),
        betas=(b1, b2),
        eps=eps,
        weight_decay=weight_decay,
    )


def muon(
    learning_rate: Any,
    beta: Any = 0.95,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
) -> optax.GradientTransformation:
    """`optax.contrib.muon`, of updates as large as AdamW's.

    Embeddings, the output layer and what is no matrix are left to AdamW, which takes
    Nesterov's momentum too (optax 0.2.8, findings/optax_muon_nesterov_adamw.sh).

    Args:
        learning_rate: of both.
        beta: Muon's momentum.
        b1: AdamW's decay of the first moment.
        b2: AdamW's decay of the second moment.
        eps: of both.
        weight_decay: of both.
    """
    return contrib.muon(
        learning_rate,
        beta=beta,
        eps=eps,
        weight_decay=weight_decay,
        adam_b1=b1,
        adam_b2=b2,
        adam_weight_decay=weight_decay,
        muon_weight_dimension_numbers=_hidden_matrices,
        consistent_rms=0.2,  # which optax recommends to match AdamW
    )


def _hidden_matrices(params: Any) -> Any:
    """Muon's axes of the parameters that are hidden matrices, else None."""

    def axes(path: Any, x: Any) -> contrib.MuonDimensionNumbers | None:
        names = [str(getattr(key, "key", key)) for key in path]
        is_hidden = x.ndim == 2 and not set(names).intersection(_NOT_MUON)
        return contrib.MuonDimensionNumbers() if is_hidden else None

    return jax.tree_util.tree_map_with_path(axes, params)


def adafactor(
    learning_rate: Any,
    b1: Any = 0.9,
    decay_rate: float = 0.8,
    eps: float = 1e-30,
    rate_in_momentum: bool = True,
) -> optax.GradientTransformation:
    """Adafactor (Shazeer & Stern, 2018) with relative step sizes, as T5X's.

    T5X's is m' = β1·m + (1 - β1)·η·u and θ' = θ - m', so that ∂θ'/∂η has a factor 1 - β1.
    With the rate outside, θ' = θ - η·m' and m' = β1·m + (1 - β1)·u, it has none.

    Args:
        learning_rate: η, of parameters whose root mean square is 1.
        b1: β1.
        decay_rate: of the second moment's decay, 1 - t^-decay_rate at step t.
        eps: ε1, added to the squares of gradients.
        rate_in_momentum: whether the rate is inside.
    """
    rate = optax.scale_by_learning_rate(learning_rate)
    momentum = optax.ema(b1, debias=False)
    return optax.chain(
        optax.scale_by_factored_rms(decay_rate=decay_rate, epsilon=eps),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
        *((rate, momentum) if rate_in_momentum else (momentum, rate)),
    )


class ScheduleFreeTrainer(trainer.Trainer):
    """T5X's trainer, which evaluates at the average of a schedule-free optimizer.

    Gradients are taken at y = b1·x + (1 - b1)·z, and x, the average of the z, is what
    the method is about. Evaluations with teacher forcing are of x. What is decoded, and
    the parameters of checkpoints, are y.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        """Constructs the trainer.

        Args:
            *args: those of `t5x.trainer.Trainer`.
            **kwargs: those of `t5x.trainer.Trainer`.

        Raises:
            TypeError: the optimizer is not `optax.contrib.schedule_free` or one made of
                it, in an `OptaxOptimizer`.
            ValueError: its b1 is 0, of which y is z, and the state has no x.
        """
        super().__init__(*args, **kwargs)
        definition = self._model.optimizer_def
        if not isinstance(definition, optax_optimizer.OptaxOptimizer) or not isinstance(
            definition.optax_state_shape(self.train_state.params),
            contrib.ScheduleFreeState,
        ):
            raise TypeError(
                "ScheduleFreeTrainer needs an OptaxOptimizer of a schedule-free optax "
                f"optimizer, not {definition}: set OPTIMIZER"
            )
        if getattr(definition.hyper_params, "b1", None) == 0:
            raise ValueError(
                "OptaxOptimizer.b1=0: a schedule-free optimizer keeps no average to "
                "evaluate at: set it above 0, or train with trainer.Trainer"
            )
        self._optimizer: optax_optimizer.OptaxOptimizer = definition

    @functools.cached_property
    def _partitioned_eval_step(self):
        return self._partitioner.partition(
            lambda state, batch: self._model.eval_fn(self._averaged(state), batch)[1],
            in_axis_resources=(
                self._train_state_axes,
                self._partitioner.data_partition_spec,
            ),
            out_axis_resources=None,
        )

    def _averaged(self, train_state: Any) -> Any:
        """The parameters x."""
        params = train_state.params
        state = self._optimizer.optax_state(params, train_state.param_states)
        return contrib.schedule_free_eval_params(state, params)
