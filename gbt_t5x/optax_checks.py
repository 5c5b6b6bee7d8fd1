"""What an optax transformation is asked before anything trains with it.

It is tried on two small arrays: whether it updates them from gradients alone, and whether
its updates have derivatives with respect to what is to be learned.
"""

from collections.abc import Callable, Collection, Mapping
import difflib
import inspect
import math
import numbers
import re
from typing import Any

from flax import core
import jax
from jax import flatten_util
from jax.extend import core as jax_core
import jax.numpy as jnp
import numpy as np
import optax
from t5x import optimizers

# Arguments with one meaning in all of optax. A decay of 1 or more forgets nothing.
_DECAYS = re.compile(r"(adam_)?b[123]|beta|momentum|decay|decay_rate|rho")
_NOT_NEGATIVE = re.compile(
    r"(adam_)?(eps|eps_root|weight_decay)|epsilon|weight_decay_rate|clipping_threshold|"
    r"(min|max)_norm"
)


def arguments(
    transformation: Callable[..., Any], given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The name of a transformation, and a value for each of its arguments.

    >>> name, values = arguments(optax.sgd, {"momentum": 0.9})
    >>> name, values["momentum"], values["nesterov"]
    ('sgd', 0.9, False)

    Args:
        transformation: takes `learning_rate` by keyword.
        given: the arguments that do not keep their defaults. `learning_rate` is None.

    Raises:
        ValueError: see `optax_optimizer.OptaxOptimizer`.
    """
    name = getattr(transformation, "__name__", str(transformation))
    try:
        parameters = inspect.signature(transformation).parameters
    except (TypeError, ValueError):
        raise ValueError(
            f"OptaxOptimizer.transformation={transformation!r}: must be a function that "
            "takes a learning_rate, for example @optax.lion, without parentheses"
        ) from None
    if "learning_rate" not in parameters or "learning_rate" in given:
        raise ValueError(
            f"OptaxOptimizer sets the learning_rate of {name} to the trainer's: "
            "the transformation has to take it, and OptaxOptimizer not to bind it"
        )
    kinds = {parameter.kind for parameter in parameters.values()}
    named = {
        key: parameter.default
        for key, parameter in parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    for key, value in given.items():
        if key in named:
            _check_argument(key, value, named[key])
        elif inspect.Parameter.VAR_KEYWORD not in kinds:
            near = difflib.get_close_matches(key, named, n=1) or sorted(named)
            raise ValueError(
                f"OptaxOptimizer.{key}: {name} has no such argument; it has "
                f"{', '.join(near)}"
            )
    values = {**named, **given, "learning_rate": None}
    missing = [k for k, v in values.items() if v is inspect.Parameter.empty]
    if missing:
        raise ValueError(
            f"{name} needs {', '.join(missing)}: set OptaxOptimizer.{missing[0]}"
        )
    return name, values


def _check_argument(key: str, value: Any, default: Any) -> None:
    """Raises ValueError for a value that is not of the kind of its default."""
    got = f"OptaxOptimizer.{key}={value!r}"
    if isinstance(default, bool):  # or a mask
        if isinstance(value, str) or _is_number(value):
            raise ValueError(f"{got}: must be True or False")
        return
    is_decay = bool(_DECAYS.fullmatch(key)) and not (_is_number(default) and default >= 1)
    is_named = is_decay or _NOT_NEGATIVE.fullmatch(key)
    if value is None or not (is_named or _is_number(default)):
        return
    if not _is_number(value):
        raise ValueError(f"{got}: must be a number")
    if math.isnan(value):
        raise ValueError(f"{got}: must not be NaN")
    if is_decay and not 0 <= value < 1:
        raise ValueError(f"{got}: must be in [0, 1)")
    if is_named and not 0 <= value < math.inf:
        raise ValueError(f"{got}: must be >= 0 and finite")


def _is_number(value: Any) -> bool:
    if isinstance(value, (np.ndarray, jax.Array)):
        return value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.number)
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def transformation(name: str, make: Callable[[Any], Any]) -> Any:
    """What `make` gives for a learning rate of 0.

    Raises:
        ValueError: it fails, or gives something else than a transformation.
    """
    try:
        made = make(0.0)
    except Exception as error:
        raise ValueError(
            f"{name} does not take its arguments of OptaxOptimizer: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, optax.GradientTransformation):
        raise ValueError(
            f"OptaxOptimizer.transformation: {name} gives {made!r}, which is no "
            "optax.GradientTransformation"
        )
    return made


def example_params() -> Any:
    """A matrix and a vector, float32."""
    return core.freeze({"matrix": jnp.ones((2, 4)), "vector": jnp.ones(3)})


def check_initial_state(name: str, make: Callable[[Any], Any], params: Any) -> None:
    """Raises ValueError if the state depends on the rate that it was made with.

    Args:
        name: of the transformation.
        make: learning rate -> transformation.
        params: concrete.
    """
    states = (jax.tree.leaves(make(rate).init(params)) for rate in (0.0, 1.0))
    for x, y in zip(*states, strict=True):
        if not np.array_equal(_numbers(x), _numbers(y)):
            raise ValueError(
                f"OptaxOptimizer cannot use {name}: its state is made of the first "
                "learning rate, and no schedule moves it after that"
            )


def _numbers(x: Any) -> Any:
    is_key = jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if is_key else x


def check_update(name: str, make: Callable[[Any], Any], params: Any) -> None:
    """Raises ValueError if gradients and parameters do not suffice for an update.

    Args:
        name: of the transformation.
        make: learning rate, traced -> transformation.
        params: arrays, or their shapes.
    """

    def update(rate, params):
        transformation = make(rate)
        state = transformation.init(params)
        updates, new_state = transformation.update(params, state, params)
        return updates, params, new_state, state

    try:
        updates, params, new_state, state = jax.eval_shape(update, 1.0, params)
    except Exception as error:
        raise ValueError(
            f"OptaxOptimizer cannot use {name}: given gradients, parameters and a traced "
            f"learning rate it fails, {type(error).__name__}: {error}"
        ) from error
    shapes = lambda tree: [x.shape for x in jax.tree.leaves(tree)]
    if shapes(updates) != shapes(params) or shapes(new_state) != shapes(state):
        raise ValueError(
            f"OptaxOptimizer cannot use {name}: its updates are not like the gradients, "
            "or its state does not keep its shapes"
        )


def derivative_faults(
    base: optimizers.OptimizerDef,
    settings: Mapping[str, str],
    prepare: Callable[[Any], Any] = lambda grads: grads,
) -> dict[str, str]:
    """Hyper-parameter -> why no hypergradient can move it, or not rightly.

    >>> from gbt_t5x.optax_optimizer import OptaxOptimizer
    >>> derivative_faults(OptaxOptimizer(optax.lion), {"beta1": "b1"})
    {'beta1': 'its update is a step function of b1, or changes from the next step on'}

    Args:
        base: an `optax_optimizer.OptaxOptimizer`.
        settings: hyper-parameter -> its name in `base.hyper_params`, where it is
            positive, or `learning_rate`.
        prepare: gradients -> those that the optimizer is given.

    Returns:
        Nothing for those that can be learned.
    """
    if not settings:
        return {}
    hyper_params = base.hyper_params.replace(learning_rate=0.1)
    values = {s: np.float32(getattr(hyper_params, s)) for s in settings.values()}
    params, gradients = _trial_data()
    try:
        state = base.init_state(params)
    except Exception:  # it wants parameters of certain names
        return {}

    def step(values, params, state, grads):
        changed = hyper_params.replace(**values)
        return base.apply_gradient(changed, params, state, prepare(grads))

    @jax.jit
    def derivatives(values, params, state, grads):
        found = {}
        for setting, value in values.items():
            by = lambda x, s=setting: step({**values, s: x}, params, state, grads)
            new, (moved, _) = jax.jvp(by, (value,), (jnp.ones_like(value),))
            found[setting] = flatten_util.ravel_pytree(moved)[0]
        return found, new

    try:
        jaxpr = jax.make_jaxpr(step)(values, params, state, params).jaxpr
        for grads in gradients:
            before = params, state, grads
            found, (params, state) = derivatives(values, *before)
    except TypeError as error:
        reason = str(error).splitlines()[0]
        return dict.fromkeys(settings, f"it cannot be differentiated: {reason}")
    last = lambda values: derivatives(values, *before)
    inputs = dict(zip(sorted(values), jaxpr.invars, strict=False))
    faults = {}
    for name, setting in settings.items():
        if name in ("beta1", "beta2") and _is_raised(jaxpr, [inputs[setting]]):
            faults[name] = (
                f"it corrects the bias of moments as if {setting} were constant; use "
                "adam.lamb or adam.adamw of gbt_t5x"
            )
        elif not np.isfinite(found[setting]).all():
            faults[name] = (
                f"the derivative by {setting} is not finite where a gradient is 0"
            )
        elif _is_step_function(setting, values, last):
            faults[name] = (
                f"its update is a step function of {setting}, or changes from the next "
                "step on"
            )
    return faults


def _trial_data() -> tuple[Any, list[Any]]:
    """Parameters and three gradients.

    Of these some elements are 0, one is 1e-12, one changes its sign against its mean; one
    array is 0.
    """
    matrices = np.random.default_rng(0).normal(size=(4, 2, 4)).astype(np.float32)
    matrices[1:, 0, :2], matrices[1:, 1, 0] = 0.0, 1e-12
    matrices[1:, 1, 1] = 1.0, 1.0, -0.01
    params, *gradients = (
        core.freeze({"matrix": x, "vector": np.zeros(3, np.float32)}) for x in matrices
    )
    return params, gradients


def _is_step_function(
    setting: str,
    values: Mapping[str, Any],
    derivatives: Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], Any]],
) -> bool:
    """Whether an update changes with a setting, and has no derivative by it.

    Args:
        setting: its name.
        values: of all settings.
        derivatives: values -> setting -> derivative of the new parameters; and what the
            update made.
    """
    found, made = derivatives(values)
    is_used, is_flat = False, not np.any(found[setting])
    for scale in (1 / 2, 1 / 8, 1 / 64):
        there, new = derivatives({**values, setting: scale * values[setting]})
        pairs = zip(*map(jax.tree.leaves, (new, made)), strict=True)
        is_used |= any(np.any(x != y) for x, y in pairs)
        is_flat &= not np.any(there[setting])
    return is_used and is_flat


def _is_raised(jaxpr: Any, numbers: Collection[Any]) -> bool:
    """Whether inputs of a jaxpr, and nothing else, make the base of a variable power."""
    alone = set(numbers)
    for eqn in jaxpr.eqns:
        inputs = [x for x in eqn.invars if not isinstance(x, jax_core.Literal)]
        if eqn.primitive.name == "pow" and len(inputs) == 2 and inputs[0] in alone:
            return True
        for inner in jax_core.jaxprs_in_params(eqn.params):
            outer = eqn.invars[len(eqn.invars) - len(inner.invars) :]
            pairs = zip(inner.invars, outer, strict=True)
            if _is_raised(inner, [x for x, y in pairs if y in inputs and y in alone]):
                return True
        if inputs and alone.issuperset(inputs):
            alone.update(eqn.outvars)
    return False
