"""Which settings of an optimizer can be learned, and what it calls them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from t5x import adafactor, optimizers

from gbt_t5x import optax_checks, optax_optimizer

# Names in T5X's Adafactor, then in optax. alpha is no setting of an optimizer.
_SETTINGS = {
    "beta1": ("beta1", "b1", "momentum"),
    "beta2": ("b2",),
    "epsilon": ("epsilon1", "eps"),
    "weight_decay": ("weight_decay_rate", "weight_decay"),
    "decay_rate": ("decay_rate",),
    "clipping_threshold": ("clipping_threshold",),
}
# Arrays of optimizer states that average gradients or steps: of T5X's Adafactor, of
# optax's Adam and Lion, SGD and Adafactor.
_MOMENTUM = ("m", "mu", "mu_decay", "trace", "ema")
# States of optax transformations that keep no momentum, or keep it by those names.
_KNOWN_STATES = {
    *("AdamState", "EmaState", "EmptyState", "FactoredState", "MaskedNode"),
    *("MaskedState", "PartitionState", "ScaleByAdamState", "ScaleByAmsgradState"),
    *("ScaleByBeliefState", "ScaleByLionState", "ScaleByRmsState"),
    *("ScaleByRmsWithCountState", "ScaleByRssState", "TraceState", "TrustRatioState"),
}
# In float32 the derivative of Adafactor's v^-1/2 overflows where v is smaller.
_SMALLEST_ADAFACTOR_EPSILON = 1e-18


def settings(base: optimizers.OptimizerDef, hyperparams: Iterable[str]) -> dict[str, str]:
    """Hyper-parameter -> its name in `base.hyper_params`, for all but alpha.

    >>> import optax
    >>> settings(optax_optimizer.OptaxOptimizer(optax.sgd, momentum=0.9), ["beta1"])
    {'beta1': 'momentum'}

    Raises:
        ValueError: the optimizer does not have one, or learning it would be wrong or
            would move nothing.
    """
    names = {name: _setting(base, name) for name in hyperparams if name in _SETTINGS}
    if in_adafactor_root(base, names):
        _check_epsilon(base)
    if isinstance(base, optax_optimizer.OptaxOptimizer):
        rate = {"alpha": "learning_rate"} if "alpha" in hyperparams else {}
        _check_derivatives(base, rate, names)
    elif "alpha" in hyperparams and _ignores_rate(base):
        raise ValueError(
            f"cannot learn alpha: {type(base).__name__} does not use the trainer's "
            "learning rate: set OPTIMIZER to @optax_optimizer.OptaxOptimizer()"
        )
    return names


def _check_epsilon(base: optimizers.OptimizerDef) -> None:
    if not _found(base, "epsilon"):
        raise ValueError(
            f"cannot learn decay_rate: {type(base.hyper_params).__name__} has no setting "
            "of ε, below which the derivative overflows"
        )
    epsilon = _setting(base, "epsilon")
    value = getattr(base.hyper_params, epsilon)
    if value < _SMALLEST_ADAFACTOR_EPSILON:
        raise ValueError(
            f"learning decay_rate or epsilon of Adafactor needs {epsilon} >= "
            f"{_SMALLEST_ADAFACTOR_EPSILON:g}, not {value:g}: in float32 the derivative "
            f"overflows at small gradients. Set {epsilon}"
        )


def check_bounds(
    base: optimizers.OptimizerDef, bounds: Mapping[str, tuple[float, float]]
) -> None:
    """Raises ValueError for an interval of ε where Adafactor's derivative overflows.

    Args:
        base: the optimizer.
        bounds: of what is learned, name -> (lowest, highest) value, valid ones.
    """
    if "epsilon" not in bounds or not in_adafactor_root(base, ["epsilon"]):
        return
    low, _ = bounds["epsilon"]
    if low < _SMALLEST_ADAFACTOR_EPSILON:
        raise ValueError(
            f"the interval of epsilon begins at {low:g}: Adafactor's must be at least "
            f"{_SMALLEST_ADAFACTOR_EPSILON:g}, since in float32 the derivative overflows "
            "at small gradients: set BOUNDS"
        )


def _check_derivatives(
    base: optax_optimizer.OptaxOptimizer,
    rate: Mapping[str, str],
    names: Mapping[str, str],
) -> None:
    # HyperParam refuses other values.
    inside = {k: s for k, s in names.items() if getattr(base.hyper_params, s) > 0}
    faults = optax_checks.derivative_faults(
        base, {**rate, **inside}, preparation(base, names)
    )
    if faults:
        of = type(base.hyper_params).__name__
        raise ValueError(
            "; ".join(f"cannot learn {k} of {of}: {why}" for k, why in faults.items())
        )


def _ignores_rate(base: optimizers.OptimizerDef) -> bool:
    """Whether an update does not read the rate, as that of T5X's OptaxWrapper.

    Not one that takes parameters of certain names alone: their factors are by name.
    """

    def update(rate: jax.Array) -> Any:
        params = {"kernel": jnp.ones((2,))}
        hyper_params = base.hyper_params.replace(learning_rate=rate)
        state = base.init_state(params)
        return base.apply_gradient(hyper_params, params, state, params)[0]

    try:
        jaxpr = jax.make_jaxpr(update)(0.1).jaxpr
    except (KeyError, ValueError):  # as T5X's Adafactor with an HParamMap
        return False
    return not any(x is jaxpr.invars[0] for eqn in jaxpr.eqns for x in eqn.invars)


def _found(base: optimizers.OptimizerDef, name: str) -> list[str]:
    return [s for s in _SETTINGS[name] if hasattr(base.hyper_params, s)]


def _setting(base: optimizers.OptimizerDef, name: str) -> str:
    values, found = base.hyper_params, _found(base, name)
    of = type(base).__name__
    if isinstance(base, optax_optimizer.OptaxOptimizer):
        of = type(values).__name__
    if not found:
        raise ValueError(f"cannot learn {name}: {of} has none")
    if getattr(values, found[0]) is None:
        raise ValueError(f"cannot learn {name}: the {found[0]} of {of} is None: set it")
    return found[0]


def in_adafactor_root(base: optimizers.OptimizerDef, names: Iterable[str]) -> bool:
    """Whether a hyper-parameter inside Adafactor's v^-1/2 is among the names."""
    is_adafactor = hasattr(base.hyper_params, "decay_rate")
    return is_adafactor and not {"decay_rate", "epsilon"}.isdisjoint(names)


def preparation(
    base: optimizers.OptimizerDef, names: Iterable[str]
) -> Callable[[Any], Any]:
    """Gradients -> the gradients that the optimizer is given while it learns."""
    if in_adafactor_root(base, names):
        return lambda grads: jax.tree.map(not_all_zero, grads)
    return lambda grads: grads


def not_all_zero(grad: jax.Array) -> jax.Array:
    """The gradient, or 1e-20 where it is zero in the whole array.

    The root of the mean square of Adafactor's update has no derivative at zero. The
    update becomes 1e-20/√ε1 <= 1e-11 of a step, which float32 parameters do not see.
    """
    return jnp.where(jnp.any(grad != 0.0), grad, jnp.full_like(grad, 1e-20))


def check_momentum(base: optimizers.OptimizerDef, params: Any) -> None:
    """Raises ValueError for an optimizer of which `momentum` may not find all."""
    if isinstance(base, adafactor.Adafactor):
        return
    unknown = {type(base).__name__}
    if isinstance(base, optax_optimizer.OptaxOptimizer):
        unknown = _states(base.optax_state_shape(params)) - _KNOWN_STATES
    if unknown:
        raise ValueError(
            "DISCOUNT > 0 carries momentum from step to step, and what "
            f"{', '.join(sorted(unknown))} of {type(base.hyper_params).__name__} keeps "
            "is not known: set DISCOUNT = 0.0, or None with a held-out batch"
        )


def _states(optax_state: Any) -> set[str]:
    """The types of its parts."""
    found = set()

    def visit(node: Any) -> bool:
        if isinstance(node, tuple) and hasattr(node, "_fields"):
            found.add(type(node).__name__)
        return False

    jax.tree.leaves(optax_state, is_leaf=visit)
    return found


def momentum(param_states: Any, has_groups: bool = False) -> dict[str, Any]:
    """Name -> array, of those of an optimizer's state that are momentum.

    Args:
        param_states: the state, or its axes.
        has_groups: whether an optax state is group -> that of these parameters;
            Adafactor's is not.
    """
    is_leaf = lambda x: x is None or isinstance(x, jax.sharding.PartitionSpec)
    leaves, _ = jax.tree_util.tree_flatten_with_path(param_states, is_leaf)
    return {
        _name(path): x
        for path, x in leaves
        if _is_momentum(path[1 if has_groups else 0 :])
    }


def replace_momentum(param_states: Any, new: Mapping[str, Any]) -> Any:
    """A state with other momentum, as `momentum` gives it."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: new.get(_name(path), x), param_states
    )


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_momentum(path: Any) -> bool:
    *_, last = path
    if isinstance(last, jax.tree_util.GetAttrKey):  # T5X's, inside a parameter's state
        return last.name in _MOMENTUM
    # Of an optax state: below numbers and masks, and above the parameter's path.
    keys = [str(getattr(key, "key", "")) for key in path]
    while keys and (keys[0].isdecimal() or keys[0] in ("inner_state", "inner_states")):
        keys = keys[1 + (keys[0] == "inner_states") :]  # with a partition's label
    return bool(keys) and keys[0] in _MOMENTUM
