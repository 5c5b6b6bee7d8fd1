"""Adam, AdamW and LAMB whose decays may change at every step.

optax corrects the bias of a moment by 1 - β^t, which holds for a constant β. Where β
moves, the moment's weights sum to 1 - Π β_i over the steps so far, and the product has to
be kept. With constant decays these are optax's own, but for their state.

    m_t = β1_t·m_t-1 + (1 - β1_t)·g_t       m̂_t = m_t / (1 - Π β1_i)
    v_t = β2_t·v_t-1 + (1 - β2_t)·g_t²      v̂_t = v_t / (1 - Π β2_i)
    u_t = m̂_t / (√v̂_t + ε)

Kingma and Ba, https://arxiv.org/abs/1412.6980; You et al., https://arxiv.org/abs/1904.00962.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AdamState(NamedTuple):
    """Moments like the parameters, and the products of their decays so far, ()."""

    mu: Any
    nu: Any
    mu_decay: jax.Array
    nu_decay: jax.Array


def scale_by_adam(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
) -> optax.GradientTransformation:
    """Rescales gradients to m̂ / (√v̂ + ε). Arguments may be traced.

    With a constant gradient of 2 the update is 1, whatever the decays:

    >>> params = jnp.zeros(())
    >>> state = scale_by_adam().init(params)
    >>> for b1 in (0.9, 0.5, 0.99):
    ...     update, state = scale_by_adam(b1, b2=b1**2, eps=0.0).update(2.0, state)
    ...     print(f"{update:.4f}")
    1.0000
    1.0000
    1.0000

    Args:
        b1: β1 of this step, in [0, 1).
        b2: β2 of this step, in [0, 1).
        eps: ε > 0; or 0, if no element's gradients are all 0, of which it makes NaN.

    Returns:
        A transformation with an `AdamState`. At zero gradients, and with ε > 0, its
        derivatives with respect to the arguments are finite.
    """

    def init(params):
        zeros = optax.tree.zeros_like
        return AdamState(zeros(params), zeros(params), jnp.ones(()), jnp.ones(()))

    def update(grads, state, params=None):
        del params
        mu = optax.tree.update_moment(grads, state.mu, b1, 1)
        nu = optax.tree.update_moment(grads, state.nu, b2, 2)
        new = AdamState(mu, nu, b1 * state.mu_decay, b2 * state.nu_decay)
        return direction(new, eps), new

    return optax.GradientTransformation(init, update)


def direction(state: AdamState, eps: jax.typing.ArrayLike) -> Any:
    """m̂ / (√v̂ + ε), like the parameters."""
    return jax.tree.map(
        lambda m, v: (m / (1 - state.mu_decay)) / (_sqrt(v / (1 - state.nu_decay)) + eps),
        state.mu,
        state.nu,
    )


def _sqrt(x: jax.Array) -> jax.Array:
    """The square root, with derivative 0 at 0, where it is infinite."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


class TrustRatioState(NamedTuple):
    """Of the last update, like the parameters, each ()."""

    trust_ratio: Any


def scale_by_trust_ratio() -> optax.GradientTransformation:
    """Rescales u to (‖θ‖/‖u‖)·u per array, as `optax.scale_by_trust_ratio`.

    Returns:
        A transformation whose state has the ratios: 1 where a norm is 0, and at first.
    """

    def init(params):
        return TrustRatioState(jax.tree.map(lambda x: jnp.ones((), x.dtype), params))

    def ratio(update, param):
        param_norm = optax.safe_norm(param, 0.0)
        update_norm = optax.safe_norm(update, 0.0)
        is_zero = (param_norm == 0.0) | (update_norm == 0.0)
        return jnp.where(is_zero, 1.0, param_norm / update_norm)

    def update(updates, state, params):
        del state
        ratios = jax.tree.map(ratio, updates, params)
        return jax.tree.map(jnp.multiply, updates, ratios), TrustRatioState(ratios)

    return optax.GradientTransformation(init, update)


def adamw(
    learning_rate: jax.typing.ArrayLike,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    weight_decay: jax.typing.ArrayLike = 1e-4,
) -> optax.GradientTransformation:
    """θ - lr·(u + weight_decay·θ); Adam with a weight decay of 0. As `optax.adamw`.

    Args:
        learning_rate: lr.
        b1: as of `scale_by_adam`.
        b2: as of `scale_by_adam`.
        eps: as of `scale_by_adam`.
        weight_decay: >= 0.
    """
    return optax.chain(
        scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def lamb(
    learning_rate: jax.typing.ArrayLike,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-6,
    weight_decay: jax.typing.ArrayLike = 0.0,
) -> optax.GradientTransformation:
    """θ - lr·(‖θ‖/‖r‖)·r with r = u + weight_decay·θ, per array. As `optax.lamb`.

    Args:
        learning_rate: lr.
        b1: as of `scale_by_adam`.
        b2: as of `scale_by_adam`.
        eps: as of `scale_by_adam`.
        weight_decay: >= 0.
    """
    return optax.chain(
        scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay),
        scale_by_trust_ratio(),
        optax.scale_by_learning_rate(learning_rate),
    )
