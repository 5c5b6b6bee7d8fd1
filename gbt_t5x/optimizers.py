"""A T5X optimizer whose hyper-parameters are part of its state."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax
from t5x import optimizers

from gbt_t5x import (
    groups as groups_lib,
    hyperparams as hyperparams_lib,
    learnable,
    meta_optimizer as meta_optimizer_lib,
    optimizer_checks,
    sensitivities as sensitivities_lib,
    wrapper,
)


class GuidedState(struct.PyTreeNode):
    """State of the base optimizer, of λ and of the meta-optimizer.

    Attributes:
        step: (), int32, updates so far.
        param_states: the base optimizer's.
        hyperparams: name -> raw λ, (), float32; with groups, (groups,), in the order of
            `GuidedOptimizer.group_names`.
        meta_state: of `meta_optimizer.MetaOptimizer`.
    """

    step: jax.Array
    param_states: Any
    hyperparams: dict[str, jax.Array]
    meta_state: dict[str, Any]


class SensitiveState(GuidedState):
    """A state that remembers how λ moved the parameters.

    Attributes:
        sensitivity: Z, see `sensitivities.Sensitivities`.
    """

    sensitivity: dict[str, Any]


class GuidedOptimizer(wrapper.WrappingOptimizer):
    """Runs a stock optimizer with hyper-parameters from its own state.

    The learning rate is the trainer's schedule times alpha. `trainer.GuidedTrainer`
    moves λ by a meta-optimizer. Under T5X's own trainer λ keeps its initial value.
    """

    def __init__(
        self,
        base: optimizers.OptimizerDef,
        hyperparams: Sequence[str],
        meta_learning_rate: float | Mapping[str, float],
        initial_alpha: float = 1.0,
        groups: Sequence[tuple[str, str]] | None = None,
        discount: float | None = None,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        sensitivity_dtype: str | None = None,
        fixed_mean: Sequence[str] = (),
        meta_optimizer: optax.GradientTransformation | None = None,
    ):
        """Constructs the optimizer.

        Args:
            base: the optimizer to guide, for example `adafactor.Adafactor` or
                `optax_optimizer.OptaxOptimizer`. All but alpha start from its settings;
                what is not learned keeps its setting.
            hyperparams: which of `hyperparams.ACTIVATIONS` to learn.
            meta_learning_rate: η̂ >= 0, the step size of the meta-optimizer on λ; 0 learns
                nothing. Or hyper-parameter -> its own, of all that are learned.
            initial_alpha: the factor on the schedule that alpha starts from.
            groups: (name, expression) pairs, see `groups.Groups`; every group learns its
                own hyper-parameters. None: one of each for all parameters.
            discount: γ in [0, 1) of the sensitivities, which the state then keeps (see
                `hypergradient`): for each hyper-parameter whose own does not follow from
                the state (`sensitivities`) an array like each parameter, and if γ > 0
                like its momentum. None is as greedy as 0, and keeps them no longer than a
                step.
            bounds: hyper-parameter -> (lowest, highest) value of it that is learned, a
                closed interval inside its domain; for the others, and None, those of
                `hyperparams.BOUNDS`.
            sensitivity_dtype: one of `rounding.DTYPES`, in which the state keeps
                sensitivities; None for `rounding.DEFAULT`.
            fixed_mean: those of the hyper-parameters whose λ keeps its mean over the
                groups, before activation, until one of them is at a bound: the geometric
                mean of alpha stays what it was.
                How the learning rate is divided among the groups is then learned, and its
                level is the schedule's.
            meta_optimizer: of λ, an optax transformation without a learning rate (see
                `meta_optimizer`); None for Adam's.

        Raises:
            ValueError: an unknown or repeated hyper-parameter, one that the base
                optimizer does not have or that has no gradient in it, an initial value
                outside its interval, an interval outside its domain, a wrong expression,
                η̂ < 0, γ outside [0, 1), an unknown dtype or one of sensitivities that are
                not kept, a mean to keep without groups or of what is not learned, a
                meta-optimizer that η̂ cannot scale, or what is no number or optimizer.
        """
        optimizer_checks.check(
            base=base,
            hyperparams=hyperparams,
            meta_learning_rate=meta_learning_rate,
            initial_alpha=initial_alpha,
            groups=groups,
            discount=discount,
            bounds=bounds,
            fixed_mean=fixed_mean,
        )
        super().__init__(
            base, hyperparams, None if groups is None else groups_lib.Groups(groups)
        )
        initial_values = {
            name: getattr(base.hyper_params, setting)
            for name, setting in self._settings.items()
        }
        self._learned = [
            hyperparams_lib.HyperParam(
                name, initial_values.get(name, initial_alpha), (bounds or {}).get(name)
            )
            for name in hyperparams
        ]
        learnable.check_bounds(base, bounds or {})
        self._meta_optimizer = meta_optimizer_lib.MetaOptimizer(
            meta_optimizer,
            self._learned,
            optimizer_checks.rates(hyperparams, meta_learning_rate),
            fixed_mean,
        )
        self._fixed_mean = fixed_mean
        self._discount = None if discount is None else float(discount)
        self._sensitivities = sensitivities_lib.Sensitivities(
            base,
            hyperparams,
            self._with_learned,
            self._groups,
            self._discount,
            optimizer_checks.sensitivity_dtype(sensitivity_dtype, discount),
        )

    @property
    def hyperparams(self) -> list[str]:
        """Names of those that are learned."""
        return [h.name for h in self._learned]

    @property
    def keeps_sensitivity(self) -> bool:
        """Whether the state is a `SensitiveState`."""
        return self._discount is not None

    def init_state(self, params: Any) -> GuidedState:
        base_state = self._base.init_state(params)
        if self._discount:
            learnable.check_momentum(self._ungrouped, params)
        names = self.group_names(params)
        optimizer_checks.check_groups(self._fixed_mean, names)
        shape = (len(names),) if self._groups else ()
        raw = {h.name: jnp.full(shape, h.raw) for h in self._learned}
        state = GuidedState(
            step=base_state.step,
            param_states=base_state.param_states,
            hyperparams=raw,
            meta_state=self._meta_optimizer.init(raw),
        )
        return self.with_sensitivity(state, params) if self.keeps_sensitivity else state

    def with_sensitivity(self, state: GuidedState, params: Any) -> SensitiveState:
        """A state whose updates leave Z in it, from Z = 0."""
        zeros = self._sensitivities.zeros(params, state.param_states, state.step)
        return SensitiveState(**vars(state), sensitivity=zeros)

    def without_sensitivity(self, state: GuidedState) -> GuidedState:
        """The inverse of `with_sensitivity`."""
        fields = dict(vars(state))
        del fields["sensitivity"]
        return GuidedState(**fields)

    def apply_gradient(
        self, hyper_params: Any, params: Any, state: GuidedState, grads: Any
    ) -> tuple[Any, GuidedState]:
        """Updates parameters with λ as it is; `apply_hypergradient` moves λ."""
        grads = self._prepare(grads)

        def update(raw, params, param_states):
            base_state = optimizers.OptimizerState(state.step, param_states)
            return self._base.apply_gradient(
                self._with_learned(hyper_params, raw), params, base_state, grads
            )

        new_params, base_state = update(state.hyperparams, params, state.param_states)
        new_state = state.replace(
            step=base_state.step, param_states=base_state.param_states
        )
        if isinstance(state, SensitiveState):
            sensitivity = self._sensitivities.after(
                update, hyper_params, params, state, new_state, grads
            )
            new_state = new_state.replace(sensitivity=sensitivity)
        return new_params, new_state

    def _with_learned(self, hyper_params: Any, raw: Mapping[str, Any]) -> Any:
        """The base optimizer's hyper-parameters with the learned ones in their place."""
        return self._with_values(hyper_params, hyperparams_lib.values(raw))

    def hypergradient(
        self, params: Any, state: SensitiveState, grads: Any
    ) -> dict[str, Any]:
        """ĝ = Zᵀ∇_θ L at the parameters that the state's last update made.

        Args:
            params: those parameters.
            state: has Z, and the λ that it belongs to.
            grads: ∇_θ L, like the parameters, of data that the update did not see.

        Returns:
            name -> ĝ with respect to the raw numbers, (); with groups, (groups,).
        """
        return self._sensitivities.hypergradient(params, state, grads)

    def apply_hypergradient(
        self, state: GuidedState, hypergradient: Mapping[str, Any], loss: Any = ()
    ) -> tuple[GuidedState, jax.Array]:
        """λ_t+1 = Ω̂(λ_t, ĝ_t; η̂), in its interval, if ĝ_t can be learned from.

        Args:
            state: has λ_t.
            hypergradient: like λ_t, ĝ_t with respect to the raw numbers. One that is 0
                everywhere, as before the first update, is no information: Ω̂ does not
                count it.
            loss: what ĝ_t is the gradient of, a tree of numbers.

        Returns:
            The state, and whether the meta-update was skipped, (), bool: where the loss,
            a number of ĝ_t, λ or Ω̂'s state with it are not finite. λ and that state are
            then what they were.
        """
        raw, meta_state, skipped = self._meta_optimizer.apply(
            state.hyperparams, state.meta_state, hypergradient, loss
        )
        return state.replace(hyperparams=raw, meta_state=meta_state), skipped

    def at_bound(self, raw: Mapping[str, Any]) -> jax.Array:
        """How many raw numbers, of all groups, are at an end of their intervals, ()."""
        found = [jnp.sum(h.at_bound(raw[h.name])) for h in self._learned]
        return jnp.sum(jnp.stack(found))

    def derive_logical_axes(
        self, optimizer: optimizers.Optimizer, param_logical_axes: Any
    ) -> optimizers.Optimizer:
        """The base optimizer's axes; sensitivities have those of what they are of.

        λ and the meta-optimizer's state are replicated.
        """
        state = optimizer.state
        axes = self._base_axes(optimizer, param_logical_axes)
        replicated = lambda tree: jax.tree.map(lambda _: None, tree)
        new_state = state.replace(
            step=axes.state.step,
            param_states=axes.state.param_states,
            hyperparams=replicated(state.hyperparams),
            meta_state=replicated(state.meta_state),
        )
        if isinstance(state, SensitiveState):
            sensitivity = self._sensitivities.like(
                axes.target, axes.state.param_states, rate=None
            )
            new_state = new_state.replace(sensitivity=sensitivity)
        return optimizer.replace(target=axes.target, state=new_state)
