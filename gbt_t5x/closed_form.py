"""Sensitivities that follow from what an update leaves.

SGD with momentum, Adam, AdamW and LAMB move each array by a step size s, a number:

    θ' = θ - s·u    with    u = a + w·θ,    a = t' of SGD, or m̂'/(√v̂' + ε).

The state has the moments of a after the update, so θ = (θ' + s·a) / (1 - s·w) and

    ∂θ'/∂s = -u      ∂θ'/∂w = -s·θ      ∂θ'/∂ε = -s·∂a/∂ε

need not be kept. Of a decay, ∂θ'/∂β = -s·∂a/∂β, ∂a/∂β is, since it takes the gradient:

    β·∂m'/∂β1 = m' - g      β·∂v'/∂β2 = v' - g²      β·∂t'/∂β = t' - g.

LAMB's s = r·‖θ‖/‖u‖ falls where u grows: of a change d of u it leaves what is at a right
angle to u, d - u·⟨u, d⟩/‖u‖².

Kingma and Ba, https://arxiv.org/abs/1412.6980; You et al., https://arxiv.org/abs/1904.00962.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gbt_t5x import adam, optax_optimizer

_AFTER_MOMENTS = {"alpha", "epsilon", "weight_decay"}
_DECAYS = {"beta1", "beta2"}


class ClosedForm:
    """∂θ'/∂λ of an optimizer whose steps its state tells.

    Attributes:
        names: the hyper-parameters whose ∂θ'/∂λ it gives; none for other optimizers.
        kept: those of them for which the state keeps ∂a/∂λ.
    """

    def __init__(self, base: Any, hyperparams: Collection[str]):
        """Constructs the form.

        Args:
            base: an `OptimizerDef`.
            hyperparams: names of what is learned.
        """
        self._base = base
        names = set(hyperparams) & (_AFTER_MOMENTS | _DECAYS) if _has(base) else set()
        self.names = sorted(names)
        self.kept = frozenset(names & _DECAYS)

    def direction(
        self, name: str, hyper_params: Any, params: Any, param_states: Any, grads: Any
    ) -> Any:
        """∂a/∂λ, like the parameters, with respect to the raw number.

        Args:
            name: one of `kept`.
            hyper_params: those of the update, values.
            params: like the parameters.
            param_states: that the update left.
            grads: g, like the parameters.
        """
        state = self._base.optax_state(params, param_states)
        if self._base.transformation is optax.sgd:
            trace = optax.tree.get(state, "trace")
            return _by_raw_decay(trace, grads, hyper_params.momentum)
        moments = state[0]
        if name == "beta1":
            decay, moment, added = hyper_params.b1, "mu", grads
        else:
            decay, moment = hyper_params.b2, "nu"
            added = jax.tree.map(jnp.square, grads)
        product = f"{moment}_decay"
        changes = {
            moment: _by_raw_decay(getattr(moments, moment), added, decay),
            product: (1 - decay) * getattr(moments, product),
        }
        _, direction = jax.jvp(
            lambda changed: adam.direction(moments._replace(**changed), hyper_params.eps),
            ({k: getattr(moments, k) for k in changes},),
            (changes,),
        )
        return direction

    def sensitivity(
        self,
        name: str,
        hyper_params: Any,
        params: Any,
        param_states: Any,
        direction: Any = None,
    ) -> Any:
        """∂θ'/∂λ, like the parameters, with respect to the raw number.

        Args:
            name: one of `names`.
            hyper_params: those of the update, values.
            params: θ', which the update made.
            param_states: that the update left.
            direction: of what is kept, that of `direction`.
        """
        state = self._base.optax_state(params, param_states)
        if self._base.transformation is optax.sgd:
            a = optax.tree.get(state, "trace")
        elif name == "epsilon":
            eps = jnp.asarray(hyper_params.eps)
            of_epsilon = lambda eps: adam.direction(state[0], eps)
            # Of exp(λ) the derivative is the value.
            a, direction = jax.jvp(of_epsilon, (eps,), (eps,))
        else:
            a = adam.direction(state[0], hyper_params.eps)
        rate = hyper_params.learning_rate
        decay = getattr(hyper_params, "weight_decay", 0.0)
        ratios = optax.tree.get(state, "trust_ratio")

        def of_array(new, a, direction, ratio):
            step = rate * ratio
            left = 1 - step * decay
            u = (a + decay * new) / left
            if name == "alpha":
                return -step * u
            if name == "weight_decay":
                direction = decay * (new + step * a) / left
            return -step * (
                direction
                if ratios is None
                else _orthogonal_component(direction, u, ratio)
            )

        ones = jax.tree.map(lambda _: 1.0, params)
        return jax.tree.map(of_array, params, a, direction or ones, ratios or ones)


def _has(base: Any) -> bool:
    """Whether an optimizer moves θ by s·(a + w·θ), its state telling a."""
    if not isinstance(base, optax_optimizer.OptaxOptimizer):
        return False
    if base.transformation is optax.sgd:
        values = base.hyper_params
        is_plain = not values.nesterov and values.accumulator_dtype is None
        return is_plain and values.momentum is not None
    return base.transformation in (adam.adamw, adam.lamb)


def _by_raw_decay(moment: Any, added: Any, decay: jax.typing.ArrayLike) -> Any:
    """The derivative of a moment by its raw decay, whose sigmoid has that of β(1 - β)."""
    return jax.tree.map(lambda m, x: (1 - decay) * (m - x), moment, added)


def _orthogonal_component(
    change: jax.Array, u: jax.Array, trust_ratio: jax.Array
) -> jax.Array:
    """What of a change of u is at a right angle to u; all where no trust ratio was."""
    square = jnp.sum(u * u)
    follows = (trust_ratio != 1) & (square > 0)
    along = jnp.sum(u * change) / jnp.where(follows, square, 1.0)
    return change - jnp.where(follows, along, 0.0) * u
