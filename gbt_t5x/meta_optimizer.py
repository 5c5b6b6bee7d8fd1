"""The optimizer of λ, Ω̂ in the paper (Section 2): a transformation of optax.

It makes a direction of a hypergradient, and λ moves against it by η̂ times as much:

    META_OPTIMIZER = @optax.scale_by_lion()
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gbt_t5x import checks, optax_state

_SET = "set META_OPTIMIZER, for example to @optax.scale_by_adam()"


def make(transformation: Any, names: Sequence[str]) -> optax.GradientTransformation:
    """The transformation, or for None Adam's: β1 0.9, β2 0.999, ε 1e-8 (Appendix C.5).

    Args:
        transformation: an `optax.GradientTransformation` that has no learning rate and
            does not change the sign, such as `optax.scale_by_adam()`, `optax.identity()`
            for plain gradient descent, or a chain of such.
        names: of the hyper-parameters.

    Raises:
        ValueError: it is none, it takes more than a gradient and λ, or its directions
            are not like λ or point down already.
    """
    if transformation is None:
        return optax.scale_by_adam()
    called = f"GuidedOptimizer.meta_optimizer={checks.show(transformation)}"
    if not isinstance(transformation, optax.GradientTransformation):
        raise ValueError(f"{called}: must be an optax transformation: {_SET}")
    raw = {name: jnp.zeros((), jnp.float32) for name in names}
    upwards = {name: jnp.ones((), jnp.float32) for name in names}
    try:
        state = transformation.init(raw)
        direction, state = transformation.update(upwards, state, raw)
    except Exception as error:
        raise ValueError(
            f"{called}: cannot update λ with its hypergradient alone "
            f"({type(error).__name__}: {error}): {_SET}"
        ) from error
    form = jax.eval_shape(lambda: raw)
    if jax.eval_shape(lambda: direction) != form:
        raise ValueError(
            f"{called}: of λ, {checks.show(form)}, it makes {checks.show(direction)}: "
            f"{_SET}"
        )
    if any(value < 0 for value in direction.values()):
        raise ValueError(
            f"{called}: its updates descend, and META_LEARNING_RATE times as much is "
            f"subtracted from λ: leave out its learning rate and its sign: {_SET}"
        )
    if not optax_state.pack(state):  # checkpoints need an array of it
        count = optax.scale_by_schedule(lambda _: 1.0)
        return optax.chain(transformation, count)
    return transformation
