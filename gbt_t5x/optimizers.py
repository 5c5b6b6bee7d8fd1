"""A T5X optimizer whose hyper-parameters are part of its state."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax
from t5x import adafactor, optimizers

from gbt_t5x import (
    closed_form,
    groups as groups_lib,
    hypergradient as hypergradient_lib,
    hyperparams as hyperparams_lib,
    learnable,
    meta_optimizer as meta_optimizer_lib,
    optax_state,
    optimizer_checks,
    ordering,
    rounding,
    wrapper,
)

# A sensitivity this large does not last: with a gradient of 1, the square that Adam takes
# of the hypergradient overflows a float32.
_LARGEST_SENSITIVITY = 1e18


class GuidedState(struct.PyTreeNode):
    """State of the base optimizer, of λ and of the meta-optimizer.

    Attributes:
        step: (), int32, updates so far.
        param_states: the base optimizer's.
        hyperparams: name -> raw λ, (), float32; with groups, (groups,), in the order of
            `GuidedOptimizer.group_names`.
        meta_state: the meta-optimizer's, see `optax_state.pack`: Adam's moments of the
            hypergradient, `mu` and `nu`, and its `count`.
    """

    step: jax.Array
    param_states: Any
    hyperparams: dict[str, jax.Array]
    meta_state: dict[str, Any]


class SensitiveState(GuidedState):
    """A state that remembers how λ moved the parameters.

    Attributes:
        sensitivity: "params" -> name -> ∂θ/∂λ, like the parameters; where the discount
            is not 0, "momentum" -> name -> that of `learnable.momentum`. In the form of
            `rounding.compress`. Where `closed_form` gives ∂θ/∂λ, "rate" too, (), the
            schedule's, and of a decay ∂a/∂λ. Zero before the first update. See
            `hypergradient`.
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
                `hypergradient`): for each hyper-parameter an array like each parameter,
                and if γ > 0 like its momentum. None is as greedy as 0, and keeps them no
                longer than a step.
            bounds: hyper-parameter -> (lowest, highest) value of it that is learned, a
                closed interval inside its domain; for the others, and None, those of
                `hyperparams.BOUNDS`.
            sensitivity_dtype: one of `rounding.DTYPES`, in which the state keeps
                sensitivities; None for `rounding.DEFAULT`.
            fixed_mean: those of the hyper-parameters whose λ keeps its mean over the
                groups, before activation: the geometric mean of alpha stays what it was.
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
            base,
            hyperparams,
            meta_learning_rate,
            initial_alpha,
            groups,
            discount,
            bounds,
            fixed_mean,
        )
        super().__init__(
            base, hyperparams, None if groups is None else groups_lib.Groups(groups)
        )
        initial_values = {
            name: getattr(base.hyper_params, setting)
            for name, setting in self._settings.items()
        }
        self._hyperparams = [
            hyperparams_lib.HyperParam(
                name, initial_values.get(name, initial_alpha), (bounds or {}).get(name)
            )
            for name in hyperparams
        ]
        self._meta_learning_rates = {
            name: float(rate)
            for name, rate in optimizer_checks.rates(
                hyperparams, meta_learning_rate
            ).items()
        }
        self._meta_optimizer = meta_optimizer_lib.make(meta_optimizer, hyperparams)
        self._fixed_mean = frozenset(fixed_mean)
        self._discount = None if discount is None else float(discount)
        self._dtype = optimizer_checks.sensitivity_dtype(sensitivity_dtype, discount)
        self._closed_form = closed_form.ClosedForm(base, () if discount else hyperparams)
        # A weight decay that follows the learning rate would be part of alpha's.
        decay_follows = getattr(base.hyper_params, "weight_decay_rate_lr_exponent", None)
        self._derives_beta1 = (
            not discount
            and isinstance(base, adafactor.Adafactor)
            and {"alpha", "beta1"} <= set(hyperparams)
            and not decay_follows
        )

    @property
    def hyperparams(self) -> list[str]:
        """Names of those that are learned."""
        return [h.name for h in self._hyperparams]

    @property
    def keeps_sensitivity(self) -> bool:
        """Whether the state is a `SensitiveState`."""
        return self._discount is not None

    def init_state(self, params: Any) -> GuidedState:
        base_state = self._base.init_state(params)
        if self._discount:
            learnable.check_momentum(self._base, params)
        shape = (len(self.group_names(params)),) if self._groups else ()
        raw = {h.name: jnp.full(shape, h.raw) for h in self._hyperparams}
        state = GuidedState(
            step=base_state.step,
            param_states=base_state.param_states,
            hyperparams=raw,
            meta_state=optax_state.pack(self._meta_optimizer.init(raw)),
        )
        return self.with_sensitivity(state, params) if self.keeps_sensitivity else state

    def with_sensitivity(self, state: GuidedState, params: Any) -> SensitiveState:
        """A state whose updates leave Z in it, from Z = 0."""
        parts = self._sensitive(params, state.param_states)
        zeros = jax.tree.map(jnp.zeros_like, parts)
        sensitivity = rounding.compress(zeros, self._dtype, state.step)
        if self._closed_form.names:
            sensitivity["rate"] = jnp.zeros((), float)
        return SensitiveState(**vars(state), sensitivity=sensitivity)

    def without_sensitivity(self, state: GuidedState) -> GuidedState:
        """The inverse of `with_sensitivity`."""
        fields = dict(vars(state))
        del fields["sensitivity"]
        return GuidedState(**fields)

    def _sensitive(self, params: Any, param_states: Any) -> dict[str, dict[str, Any]]:
        """The sensitivities that are kept, of what is given for each part."""
        derived = set(self._closed_form.names) - self._closed_form.kept
        if self._derives_beta1:
            derived = {"beta1"}
        names = [h.name for h in self._hyperparams if h.name not in derived]
        parts = {"params": dict.fromkeys(names, params)}
        if self._discount:
            momentum = learnable.momentum(param_states)
            parts["momentum"] = dict.fromkeys(names, momentum)
        return parts

    def apply_gradient(
        self, hyper_params: Any, params: Any, state: GuidedState, grads: Any
    ) -> tuple[Any, GuidedState]:
        """Updates parameters with λ as it is; `apply_hypergradient` moves λ."""
        grads = self._prepare(grads)

        def update(raw, params, param_states):
            base_state = optimizers.OptimizerState(state.step, param_states)
            return self._base.apply_gradient(
                self._hyper_params(hyper_params, raw), params, base_state, grads
            )

        new_params, base_state = update(state.hyperparams, params, state.param_states)
        new_state = state.replace(
            step=base_state.step, param_states=base_state.param_states
        )
        if isinstance(state, SensitiveState):
            learned = self._hyper_params(hyper_params, state.hyperparams)

            def of_kind(name, first):
                if name not in self._closed_form.kept:
                    return self._sensitivity_of(name, update, params, state, first)
                of = functools.partial(self._closed_form.direction, name)
                moments = new_state.param_states
                if first is not None:
                    moments = ordering.after(moments, first)
                return {"params": self._of_groups(of, learned, params, moments, grads)}

            sensitivity = self._new_sensitivity(of_kind, state, new_state.step)
            if self._closed_form.names:
                sensitivity["rate"] = jnp.asarray(hyper_params.learning_rate, float)
            new_state = new_state.replace(sensitivity=sensitivity)
        return new_params, new_state

    def _hyper_params(self, hyper_params: Any, raw: Mapping[str, Any]) -> Any:
        """The base optimizer's hyper-parameters with the learned ones in their place."""
        return self._with_values(hyper_params, hyperparams_lib.values(raw))

    def _new_sensitivity(
        self, of_kind: Callable[..., Any], state: SensitiveState, step: jax.Array
    ) -> dict[str, Any]:
        """The sensitivities that an update leaves, as they are kept.

        Each kind's waits for the one before to be rounded: else XLA holds all of them as
        float32.
        """
        names = list(state.sensitivity["params"])
        parts = ("params", "momentum") if self._discount else ("params",)
        kept: dict[str, dict[str, Any]] = {part: {} for part in parts}
        largest = None
        for i, name in enumerate(names):
            new = of_kind(name, largest)
            seed = step * len(names) + i
            for part, z in rounding.compress(new, self._dtype, seed).items():
                kept[part][name] = z
            largest = max(jax.tree.leaves(kept["params"][name]), key=lambda x: x.size)
        return kept

    def _sensitivity_of(
        self,
        name: str,
        update: Any,
        params: Any,
        state: SensitiveState,
        first: jax.Array | None,
    ) -> dict[str, Any]:
        """Part of `SensitiveState.sensitivity` -> that of a kind, in float32.

        ∂Ω/∂λ at `params`, and the discounted sensitivity before.
        """
        raw, param_states = state.hyperparams, state.param_states
        if not self._discount:
            of_step = lambda raw, _: update(raw, params, param_states)[0]
            z = hypergradient_lib.sensitivity(of_step, raw, name, first=first)
            return {"params": z}

        def carry_on(raw, carry):
            params, momentum = carry
            new_params, new_state = update(
                raw, params, learnable.replace_momentum(param_states, momentum)
            )
            return new_params, learnable.momentum(new_state.param_states)

        parts = ("params", "momentum")
        discounted = jax.tree.map(
            # What is too large, or no number, begins anew.
            lambda z: jnp.where(
                jnp.abs(z) < _LARGEST_SENSITIVITY, self._discount * z, 0.0
            ),
            rounding.expand(tuple(state.sensitivity[part][name] for part in parts)),
        )
        carry = (params, learnable.momentum(param_states))
        new = hypergradient_lib.sensitivity(carry_on, raw, name, carry, discounted, first)
        return dict(zip(parts, new, strict=True))

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
        kept = rounding.expand(state.sensitivity["params"])
        closed = self._closed_form.names
        found = {k: self._inner(z, grads) for k, z in kept.items() if k not in closed}
        if self._derives_beta1:
            # θ' = θ - m' and m' = β1·m + (1 - β1)·α·d, with d the descent at α = 1, so
            #   ∂θ'/∂(raw α)  = -(1 - β1)·α·d
            #   ∂θ'/∂(raw β1) = -β1(1 - β1)·(m - α·d) = -(1 - β1)·m' - ∂θ'/∂(raw α).
            beta1 = hyperparams_lib.values(state.hyperparams)["beta1"]
            momentum = jax.tree.map(
                lambda moments: moments.m,
                state.param_states,
                is_leaf=lambda x: hasattr(x, "m"),
            )
            if self._groups:
                momentum = self._groups.merge(momentum, like=grads)
            found["beta1"] = -(1 - beta1) * self._inner(momentum, grads) - found["alpha"]
        # Not before the gradients are there, and one at a time: else XLA holds them all.
        first = max(jax.tree.leaves(grads), key=lambda x: x.size)
        for name in closed:
            new, moments = ordering.after((params, state.param_states), first)
            rate = state.sensitivity["rate"]
            learned = self._hyper_params(
                self.hyper_params.replace(learning_rate=rate), state.hyperparams
            )
            of = functools.partial(self._closed_form.sensitivity, name)
            z = self._of_groups(of, learned, new, moments, kept.get(name))
            found[name] = first = jnp.where(rate != 0, self._inner(z, grads), 0.0)
        return {h.name: found[h.name] for h in self._hyperparams}

    def _of_groups(
        self,
        function: Callable[..., Any],
        hyper_params: Any,
        params: Any,
        param_states: Any,
        tree: Any,
    ) -> Any:
        """What a function of these makes of every group, in one tree.

        Args:
            function: returns a tree like the parameters that it is given.
            hyper_params: of `_hyper_params`.
            params: like the parameters.
            param_states: the base optimizer's.
            tree: like the parameters, or None.
        """
        if not self._groups:
            return function(hyper_params, params, param_states, tree)
        parts = self._groups.split(params)
        others = self._groups.split(tree) if tree else dict.fromkeys(parts)
        found = {
            group: function(values, part, param_states[group], others[group])
            for (group, part), values in zip(parts.items(), hyper_params, strict=True)
        }
        return self._groups.merge(found, like=params)

    def _inner(self, tree: Any, other: Any) -> jax.Array:
        """Sum of the products of two trees like the parameters, (); (groups,)."""
        # Not a dot product, whose precision accelerators lower.
        products = jax.tree.map(lambda x, y: jnp.sum(x * y), tree, other)
        if not self._groups:
            return jax.tree.reduce(jnp.add, products)
        parts = self._groups.split(products).values()
        return jnp.stack([jax.tree.reduce(jnp.add, part) for part in parts])

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
        old = state.hyperparams, state.meta_state
        like = jax.eval_shape(self._meta_optimizer.init, state.hyperparams)
        direction, new_state = self._meta_optimizer.update(
            hypergradient, optax_state.unpack(state.meta_state, like), state.hyperparams
        )
        moved = {
            h.name: self._moved(h, state.hyperparams[h.name], direction[h.name])
            for h in self._hyperparams
        }
        new = moved, optax_state.pack(new_state)
        known = jnp.any(jnp.stack(list(hypergradient.values())) != 0)
        finite = _all_finite((dict(hypergradient), new, loss))
        raw, meta_state = jax.tree.map(
            lambda new, old: jnp.where(known & finite, new, old), new, old
        )
        return state.replace(hyperparams=raw, meta_state=meta_state), ~finite

    def _moved(
        self, hyperparam: hyperparams_lib.HyperParam, raw: Any, direction: Any
    ) -> Any:
        """λ after a step of the meta-optimizer, in its interval."""
        raw = raw - self._meta_learning_rates[hyperparam.name] * direction
        if hyperparam.name in self._fixed_mean:
            raw += hyperparam.raw - jnp.mean(raw)
        return hyperparam.project(raw)

    def at_bound(self, raw: Mapping[str, Any]) -> jax.Array:
        """How many raw numbers, of all groups, are at an end of their intervals, ()."""
        found = [jnp.sum(h.at_bound(raw[h.name])) for h in self._hyperparams]
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
            parts = self._sensitive(axes.target, axes.state.param_states)
            sensitivity = replicated(state.sensitivity) | rounding.like(
                parts, self._dtype
            )
            new_state = new_state.replace(sensitivity=sensitivity)
        return optimizer.replace(target=axes.target, state=new_state)


def _all_finite(tree: Any) -> jax.Array:
    """Whether every number is finite, ()."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
