"""The gradient of the guidance loss with respect to hyper-parameters.

Section 2 of the paper: θ_t+1 = Ω(θ_t, g_t, λ_t) and ĝ_t = ∇_λ L_H(θ_t+1). The training
gradient g_t does not depend on λ_t, so by the chain rule

    ĝ_t = (∂Ω(θ_t, g_t, λ_t)/∂λ_t)ᵀ ∇_θ L_H(θ_t+1),

one ordinary gradient at θ_t+1, pulled back through the optimizer's update alone. Nothing
is of second order, and the cost does not grow with the number of hyper-parameters.

Where ∇_θ L_H comes later than the update, or where λ is to answer for more than one, the
sensitivity Z = ∂θ/∂λ is carried forward instead, and ĝ = Zᵀ∇_θ L_H. With a discount γ,

    Z_t+1 = γ·(∂Ω/∂θ_t)·Z_t + ∂Ω(θ_t, g_t, λ_t)/∂λ_t,

in which θ stands for the momentum too. g_t is taken for a constant, since its derivative
is of second order, and so is the second moment that was carried into the step. γ = 0 is
the paper's greedy gradient.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class GuidedUpdate(NamedTuple):
    """A parameter update and its hypergradient.

    Attributes:
        params: θ_t+1.
        update_aux: what `update` returned beside it.
        hypergradient: ĝ_t, a tree like λ.
        guidance_aux: what `guidance_grad` returned beside the gradient.
    """

    params: Any
    update_aux: Any
    hypergradient: Any
    guidance_aux: Any


def guided_update(
    update: Callable[[Any], tuple[Any, Any]],
    hyperparams: Any,
    guidance_grad: Callable[[Any], tuple[Any, Any]],
) -> GuidedUpdate:
    """Updates parameters, and differentiates the guidance loss of the result.

    Gradient descent on L = θ², one step from θ = 3 with a learning rate of 0.1, where
    the guidance loss is L itself: θ' = θ - lr·2θ = 2.4 and dL(θ')/dlr = 2θ'·(-2θ).

    >>> step = guided_update(
    ...     lambda lr: (3.0 - lr * 2 * 3.0, None), 0.1, lambda theta: (2 * theta, None)
    ... )
    >>> print(f"{step.params:.1f} {step.hypergradient:.1f}")
    2.4 -28.8

    Args:
        update: λ -> (θ_t+1, aux), differentiable in λ by reverse mode. Only the path to
            θ_t+1 is differentiated.
        hyperparams: λ_t, a tree of floating-point arrays.
        guidance_grad: θ_t+1 -> (∇_θ L_H(θ_t+1), aux), the gradient like θ_t+1.

    Returns:
        The updated parameters and the hypergradient.
    """
    params, pull_back, update_aux = jax.vjp(update, hyperparams, has_aux=True)
    grads, guidance_aux = guidance_grad(params)
    (hypergradient,) = pull_back(grads)
    return GuidedUpdate(params, update_aux, hypergradient, guidance_aux)


def sensitivity(
    update: Callable[[Mapping[str, Any], Any], Any],
    hyperparams: Mapping[str, Any],
    name: str,
    carry: Any = (),
    carry_sensitivity: Any = (),
) -> Any:
    """∂x'/∂λ + (∂x'/∂x)·Z of an update x' = `update`(λ, x), by forward mode.

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

    Returns:
        A tree like x'.
    """
    ones = jax.tree.map(jnp.ones_like, hyperparams[name])
    _, new_sensitivity = jax.jvp(
        lambda value, x: update({**hyperparams, name: value}, x),
        (hyperparams[name], carry),
        (ones, carry_sensitivity),
    )
    return new_sensitivity
