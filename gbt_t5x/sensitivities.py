"""Z of an optimizer's updates: made by one step, kept, and multiplied by a gradient."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
from t5x import adafactor, optimizers

from gbt_t5x import (
    closed_form,
    groups as groups_lib,
    hypergradient as hypergradient_lib,
    hyperparams as hyperparams_lib,
    learnable,
    ordering,
    rounding,
)

# A sensitivity this large does not last: with gradients above 18, the square that Adam
# takes of the hypergradient overflows a float32.
_LARGEST = 1e18


class Sensitivities:
    """Z = ∂θ_t+1/∂λ_t, of raw numbers λ, for each kind of hyper-parameter.

    In a state it is "params" -> name -> ∂θ/∂λ, like the parameters; where the discount is
    not 0, "momentum" -> name -> that of `learnable.momentum`; each in the form of
    `rounding.quantize`. Where `closed_form` gives ∂θ/∂λ, "rate" too, (), the schedule's,
    and of a decay ∂a/∂λ. No part is empty: T5X's checkpoints would lose it. Zero before
    the first update. See `hypergradient`.
    """

    def __init__(
        self,
        base: optimizers.OptimizerDef,
        hyperparams: Sequence[str],
        learned: Callable[[Any, Mapping[str, Any]], Any],
        groups: groups_lib.Groups | None,
        discount: float | None,
        dtype: str,
    ):
        """Chooses how each kind is found.

        Args:
            base: the optimizer that is guided, of one group.
            hyperparams: names of what is learned.
            learned: hyper-parameters of `base`, and λ, to those of the update; with
                groups, a list of them.
            groups: parameters that learn their own, or None.
            discount: γ; None is 0.
            dtype: one of `rounding.DTYPES`.
        """
        self._base_hyper_params = base.hyper_params
        self._names = [*hyperparams]
        self._learned = learned
        self._groups = groups
        self._discount = discount
        self._dtype = dtype
        self._closed_form = closed_form.ClosedForm(base, () if discount else hyperparams)
        # A weight decay that follows the learning rate would be part of alpha's.
        decay_follows = getattr(base.hyper_params, "weight_decay_rate_lr_exponent", None)
        self._derives_beta1 = (
            not discount
            and isinstance(base, adafactor.Adafactor)
            and {"alpha", "beta1"} <= set(hyperparams)
            and not decay_follows
            # Which T5X's may: then θ' is θ, and not θ - m'.
            and not getattr(base.hyper_params, "skip_nan_updates", False)
        )

    @property
    def closed(self) -> list[str]:
        """Names of those that `closed_form` gives."""
        return self._closed_form.names

    def zeros(self, params: Any, param_states: Any, step: jax.Array) -> dict[str, Any]:
        """Z before the first update.

        Args:
            params: like the parameters.
            param_states: the base optimizer's.
            step: (), int32.
        """
        zeros = jax.tree.map(jnp.zeros_like, self._parts(params, param_states))
        kept = rounding.quantize(zeros, self._dtype, step)
        return kept | ({"rate": jnp.zeros((), float)} if self.closed else {})

    def like(self, params: Any, param_states: Any, rate: Any) -> dict[str, Any]:
        """A tree with the structure of Z.

        Args:
            params: like the parameters, of anything that stands for an array.
            param_states: the base optimizer's, of the same.
            rate: what stands for a number.
        """
        kept = rounding.like(self._parts(params, param_states), self._dtype)
        return kept | ({"rate": rate} if self.closed else {})

    def _parts(self, params: Any, param_states: Any) -> dict[str, dict[str, Any]]:
        """What is given for each part, for each kind that is kept."""
        derived = set(self.closed) - self._closed_form.kept
        if self._derives_beta1:
            derived = {"beta1"}
        names = [name for name in self._names if name not in derived]
        if not names:
            return {}
        parts = {"params": dict.fromkeys(names, params)}
        if self._discount and (momentum := self._momentum(param_states)):
            parts["momentum"] = dict.fromkeys(names, momentum)
        return parts

    def _momentum(self, param_states: Any) -> dict[str, Any]:
        return learnable.momentum(param_states, has_groups=self._groups is not None)

    def after(
        self,
        update: Callable[[Any, Any, Any], tuple[Any, Any]],
        hyper_params: Any,
        params: Any,
        state: Any,
        new_state: Any,
        grads: Any,
    ) -> dict[str, Any]:
        """Z that an update leaves, as it is kept.

        Each kind waits for the one before to be rounded: else XLA holds all of them as
        float32.

        Args:
            update: (λ, parameters, param_states) -> the same of the next step: the
                parameters, and a state.
            hyper_params: of the base optimizer, with the step's learning rate.
            params: θ_t.
            state: a `SensitiveState`, before the update.
            new_state: after it, but for Z.
            grads: what the update took.
        """
        learned = self._learned(hyper_params, state.hyperparams)
        names = [*state.sensitivity.get("params", {})]
        kept: dict[str, dict[str, Any]] = {}
        largest = None
        for i, name in enumerate(names):
            if name in self._closed_form.kept:
                of = functools.partial(self._closed_form.direction, name)
                moments = new_state.param_states
                if largest is not None:
                    moments = ordering.after(moments, largest)
                new = {"params": self._of_groups(of, learned, params, moments, grads)}
            else:
                new = self._by_forward_mode(name, update, params, state, largest)
            seed = new_state.step * len(names) + i
            for part, z in rounding.quantize(new, self._dtype, seed).items():
                if part in state.sensitivity:
                    kept.setdefault(part, {})[name] = z
            largest = max(jax.tree.leaves(kept["params"][name]), key=lambda x: x.size)
        if self.closed:
            return kept | {"rate": jnp.asarray(hyper_params.learning_rate, float)}
        return kept

    def _by_forward_mode(
        self,
        name: str,
        update: Callable[[Any, Any, Any], tuple[Any, Any]],
        params: Any,
        state: Any,
        first: jax.Array | None,
    ) -> dict[str, Any]:
        """Part -> that of a kind, in float32: ∂Ω/∂λ, and the discounted Z before."""
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
            return new_params, self._momentum(new_state.param_states)

        parts = ("params", "momentum")
        kept = [state.sensitivity.get(part, {}).get(name, {}) for part in parts]
        discounted = jax.tree.map(
            # What is too large, or no number, begins anew.
            lambda z: jnp.where(jnp.abs(z) < _LARGEST, self._discount * z, 0.0),
            rounding.dequantize(tuple(kept)),
        )
        carry = (params, self._momentum(param_states))
        # Momentum may be kept in another dtype than Z.
        discounted = jax.tree.map(lambda z, x: z.astype(x.dtype), discounted, carry)
        new = hypergradient_lib.sensitivity(carry_on, raw, name, carry, discounted, first)
        return dict(zip(parts, new, strict=True))

    def hypergradient(self, params: Any, state: Any, grads: Any) -> dict[str, Any]:
        """ĝ = Zᵀ∇_θ L, see `GuidedOptimizer.hypergradient`."""
        kept = rounding.dequantize(state.sensitivity.get("params", {}))
        closed = self.closed
        found = {k: self._inner(z, grads) for k, z in kept.items() if k not in closed}
        if self._derives_beta1:
            found["beta1"] = self._of_beta1(found["alpha"], state, grads)
        # Not before the gradients are there, and one at a time: else XLA holds them all.
        first = max(jax.tree.leaves(grads), key=lambda x: x.size)
        for name in closed:
            new, moments = ordering.after((params, state.param_states), first)
            rate = state.sensitivity["rate"]
            hyper_params = self._base_hyper_params.replace(learning_rate=rate)
            learned = self._learned(hyper_params, state.hyperparams)
            of = functools.partial(self._closed_form.sensitivity, name)
            z = self._of_groups(of, learned, new, moments, kept.get(name))
            found[name] = first = jnp.where(rate != 0, self._inner(z, grads), 0.0)
        return {name: found[name] for name in self._names}

    def _of_beta1(self, of_alpha: jax.Array, state: Any, grads: Any) -> jax.Array:
        """ĝ of T5X's Adafactor with respect to raw β1, from that to raw α.

        θ' = θ - m' and m' = β1·m + (1 - β1)·α·d, with d the descent at α = 1, so

            ∂θ'/∂(raw α)  = -(1 - β1)·α·d
            ∂θ'/∂(raw β1) = -β1(1 - β1)·(m - α·d) = -(1 - β1)·m' - ∂θ'/∂(raw α).
        """
        beta1 = hyperparams_lib.values(state.hyperparams)["beta1"]
        momentum = jax.tree.map(
            lambda moments: moments.m,
            state.param_states,
            is_leaf=lambda x: hasattr(x, "m"),
        )
        return -(1 - beta1) * self._inner(momentum, grads) - of_alpha

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
            hyper_params: those of the update.
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
