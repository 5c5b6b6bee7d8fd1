"""How hyper-parameters move the parameters that an optimizer updates.

Section 2 of the paper: θ_t+1 = Ω(θ_t, g_t, λ_t) and ĝ_t = ∇_λ L_H(θ_t+1). The training
gradient g_t does not depend on λ_t, so by the chain rule

    ĝ_t = Z_t+1ᵀ ∇_θ L_H(θ_t+1)    with    Z_t+1 = ∂Ω(θ_t, g_t, λ_t)/∂λ_t:

one ordinary gradient at θ_t+1, and the derivative of the optimizer's update alone, like
the parameters. Nothing is of second order. λ may differ between arrays of parameters, and
Z stays of this size, since each number moves its own arrays.

Where λ is to answer for more than one update, Z is carried forward. With a discount γ,

    Z_t+1 = γ·(∂Ω/∂θ_t)·Z_t + ∂Ω(θ_t, g_t, λ_t)/∂λ_t,

in which θ stands for the momentum too. g_t is taken for a constant, since its derivative
is of second order, and so is the second moment that was carried into the step. γ = 0 is
the paper's greedy gradient.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gbt_t5x import ordering


def sensitivity(
    update: Callable[[Mapping[str, Any], Any], Any],
    hyperparams: Mapping[str, Any],
    name: str,
    carry: Any = (),
    carry_sensitivity: Any = (),
    first: jax.Array | None = None,
) -> Any:
    """∂x'/∂λ + (∂x'/∂x)·Z of an update x' = update(λ, x), by forward mode.

    Momentum m' = β·m + g from m = 2 at β = 0.9, where m moved by Z = 0.5 per unit of β:
    dm'/dβ = m + β·Z = 2.45, or 2 of this step alone.

    >>> decay = lambda hyperparams, m: hyperparams["beta"] * m + 1.0
    >>> print(f"{sensitivity(decay, {'beta': 0.9}, 'beta', 2.0, 0.5):.2f}")
    2.45
    >>> one_step = lambda hyperparams, _: decay(hyperparams, 2.0)
    >>> print(f"{sensitivity(one_step, {'beta': 0.9}, 'beta'):.2f}")
    2.00

    Args:
        update: (λ, x) -> x', differentiable by forward mode.
        hyperparams: λ, name -> floating-point array, or tree of arrays of which each
            changes another part of x'.
        name: the hyper-parameter to differentiate by.
        carry: x, a tree of floating-point arrays.
        carry_sensitivity: Z, like `carry`.
        first: an array that the derivative has to wait for, or None.

    Returns:
        A tree like x'.
    """
    tangents = (jax.tree.map(jnp.ones_like, hyperparams[name]), carry_sensitivity)
    if first is not None:
        tangents = ordering.after(tangents, first)
    _, new_sensitivity = jax.jvp(
        lambda value, x: update({**hyperparams, name: value}, x),
        (hyperparams[name], carry),
        tangents,
    )
    return new_sensitivity
