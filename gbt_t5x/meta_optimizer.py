"""The optimizer of λ, Ω̂ in the paper (Section 2): a transformation of optax.

It makes a direction of a hypergradient, and λ moves against it by η̂ times as much:

    META_OPTIMIZER = @optax.scale_by_lion()
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gbt_t5x import checks, hyperparams as hyperparams_lib, optax_state

_SET = "set META_OPTIMIZER, for example to @optax.scale_by_adam()"


class MetaOptimizer:
    """Ω̂, and the intervals that λ stays in."""

    def __init__(
        self,
        transformation: Any,
        hyperparams: Sequence[hyperparams_lib.HyperParam],
        learning_rates: Mapping[str, Any],
        fixed_mean: Collection[str],
    ):
        """Constructs the optimizer.

        Args:
            transformation: of optax, or None, see `_make`.
            hyperparams: what is learned.
            learning_rates: name -> η̂.
            fixed_mean: names of those whose λ keeps its mean over the groups.

        Raises:
            ValueError: see `_make`.
        """
        self._hyperparams = hyperparams
        self._rates = {name: float(rate) for name, rate in learning_rates.items()}
        self._fixed_mean = frozenset(fixed_mean)
        self._transformation = _make(transformation, [h.name for h in hyperparams])

    def init(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The state, by `optax_state.pack`: Adam's `mu`, `nu` and `count`."""
        return optax_state.pack(self._transformation.init(raw))

    def apply(
        self,
        raw: dict[str, Any],
        state: dict[str, Any],
        hypergradient: Mapping[str, Any],
        loss: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], jax.Array]:
        """λ_t+1 = Ω̂(λ_t, ĝ_t; η̂), see `GuidedOptimizer.apply_hypergradient`.

        Args:
            raw: λ_t.
            state: of `init`, or of the step before.
            hypergradient: ĝ_t, like λ_t.
            loss: what ĝ_t is the gradient of, a tree of numbers.

        Returns:
            λ_t+1, the new state, and whether the update was skipped, (), bool.
        """
        like = jax.eval_shape(self._transformation.init, raw)
        direction, new_state = self._transformation.update(
            hypergradient, optax_state.unpack(state, like), raw
        )
        moved = {
            h.name: self._moved(h, raw[h.name], direction[h.name])
            for h in self._hyperparams
        }
        new = moved, optax_state.pack(new_state)
        known = jnp.any(jnp.stack(list(hypergradient.values())) != 0)
        finite = _all_finite((dict(hypergradient), new, loss))
        keep = lambda new, old: jnp.where(known & finite, new, old)
        new_raw, new_state = jax.tree.map(keep, new, (raw, state))
        return new_raw, new_state, ~finite

    def _moved(
        self, hyperparam: hyperparams_lib.HyperParam, raw: Any, direction: Any
    ) -> Any:
        """λ after a step, in its interval."""
        raw = raw - self._rates[hyperparam.name] * direction
        if hyperparam.name in self._fixed_mean:
            raw += hyperparam.raw - jnp.mean(raw)
        return hyperparam.project(raw)


def _all_finite(tree: Any) -> jax.Array:
    """Whether every number is finite, ()."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


def _make(transformation: Any, names: Sequence[str]) -> optax.GradientTransformation:
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
        direction, _ = transformation.update(upwards, state, raw)
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
    return transformation
