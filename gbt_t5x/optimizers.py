"""A T5X optimizer whose hyper-parameters are part of its state."""

from collections.abc import Sequence
import math
from typing import Any

from flax import struct
import jax
import optax
from t5x import optimizers

from gbt_t5x import hyperparams as hyperparams_lib, learnable


class GuidedState(struct.PyTreeNode):
    """State of the base optimizer, of λ and of the meta-optimizer.

    Attributes:
        step: (), int32, updates so far.
        param_states: the base optimizer's.
        hyperparams: name -> raw λ, (), float32.
        meta_state: Adam's moments of the hypergradient, and its count.
    """

    step: jax.Array
    param_states: Any
    hyperparams: dict[str, jax.Array]
    meta_state: optax.ScaleByAdamState


class GuidedOptimizer(optimizers.OptimizerDef):
    """Runs a stock optimizer with hyper-parameters from its own state.

    The learning rate is the trainer's schedule times alpha. `trainer.GuidedTrainer`
    moves λ after every update by Adam (β1 0.9, β2 0.999, ε 1e-8: Appendix C.5). Under
    T5X's own trainer λ keeps its initial value.
    """

    def __init__(
        self,
        base: optimizers.OptimizerDef,
        hyperparams: Sequence[str],
        meta_learning_rate: float,
        initial_alpha: float = 1.0,
    ):
        """Constructs the optimizer.

        Args:
            base: the optimizer to guide, for example `adafactor.Adafactor` or
                `optax_optimizer.OptaxOptimizer`. All but alpha start from its settings;
                what is not learned keeps its setting.
            hyperparams: which of `hyperparams.ACTIVATIONS` to learn.
            meta_learning_rate: η̂ >= 0, the step size of Adam on λ; 0 learns nothing.
            initial_alpha: the factor on the schedule that alpha starts from.

        Raises:
            ValueError: an unknown or repeated hyper-parameter, one that the base
                optimizer does not have or that has no gradient in it, an initial value
                outside its domain, or η̂ < 0.
        """
        if not 0 <= meta_learning_rate < math.inf:
            raise ValueError(
                f"GuidedOptimizer.meta_learning_rate={meta_learning_rate}: must be >= 0 "
                "and finite"
            )
        if (
            isinstance(hyperparams, str)
            or not hyperparams
            or len(set(hyperparams)) < len(hyperparams)
        ):
            raise ValueError(
                f"GuidedOptimizer.hyperparams={hyperparams!r}: give a list that names at "
                "least one hyper-parameter, each once, for example ['alpha', 'beta1']"
            )
        if initial_alpha != 1.0 and "alpha" not in hyperparams:
            raise ValueError(
                f"GuidedOptimizer.initial_alpha={initial_alpha}, but alpha is not "
                "learned: add it to GuidedOptimizer.hyperparams, or change the schedule"
            )
        self._base = base
        self._settings = learnable.settings(base, hyperparams)
        initial_values = {
            name: getattr(base.hyper_params, setting)
            for name, setting in self._settings.items()
        }
        self._hyperparams = [
            hyperparams_lib.HyperParam(name, initial_values.get(name, initial_alpha))
            for name in hyperparams
        ]
        self._meta_learning_rate = meta_learning_rate
        self._adam = optax.scale_by_adam()
        super().__init__(base.hyper_params)

    def init_state(self, params: Any) -> GuidedState:
        base_state = self._base.init_state(params)
        raw = {h.name: h.raw for h in self._hyperparams}
        return GuidedState(
            step=base_state.step,
            param_states=base_state.param_states,
            hyperparams=raw,
            meta_state=self._adam.init(raw),
        )

    def apply_gradient(
        self, hyper_params: Any, params: Any, state: GuidedState, grads: Any
    ) -> tuple[Any, GuidedState]:
        """Updates parameters with λ as it is; `apply_hypergradient` moves λ."""
        learned = hyperparams_lib.values(state.hyperparams)
        learning_rate = hyper_params.learning_rate * learned.pop("alpha", 1.0)
        hyper_params = hyper_params.replace(
            learning_rate=learning_rate,
            **{self._settings[name]: value for name, value in learned.items()},
        )
        if learnable.in_adafactor_root(self._base, learned):
            grads = jax.tree.map(learnable.not_all_zero, grads)
        base_state = optimizers.OptimizerState(state.step, state.param_states)
        new_params, base_state = self._base.apply_gradient(
            hyper_params, params, base_state, grads
        )
        return new_params, state.replace(
            step=base_state.step, param_states=base_state.param_states
        )

    def apply_hypergradient(
        self, state: GuidedState, hypergradient: dict[str, jax.Array]
    ) -> GuidedState:
        """λ_t+1 = Adam(λ_t, ĝ_t; η̂).

        Args:
            state: has λ_t.
            hypergradient: name -> ĝ_t, with respect to the raw number, ().
        """
        direction, meta_state = self._adam.update(hypergradient, state.meta_state)
        raw = jax.tree.map(
            lambda x, d: x - self._meta_learning_rate * d, state.hyperparams, direction
        )
        return state.replace(hyperparams=raw, meta_state=meta_state)

    def set_param_axes(self, param_logical_axes: Any) -> None:
        """Passes the parameters' axis names on to optimizers that want them."""
        if hasattr(self._base, "set_param_axes"):
            self._base.set_param_axes(param_logical_axes)

    def derive_logical_axes(
        self, optimizer: optimizers.Optimizer, param_logical_axes: Any
    ) -> optimizers.Optimizer:
        """The base optimizer's axes; λ and the meta-optimizer's state are replicated."""
        state = optimizer.state
        base = optimizers.Optimizer(
            optimizer_def=self._base,
            state=optimizers.OptimizerState(state.step, state.param_states),
            target=optimizer.target,
        )
        axes = self._base.derive_logical_axes(base, param_logical_axes)
        replicated = lambda tree: jax.tree.map(lambda _: None, tree)
        return optimizer.replace(
            target=axes.target,
            state=GuidedState(
                step=axes.state.step,
                param_states=axes.state.param_states,
                hyperparams=replicated(state.hyperparams),
                meta_state=replicated(state.meta_state),
            ),
        )
