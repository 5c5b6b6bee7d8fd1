"""An optax optimizer as a T5X optimizer, its arguments open to change at every step."""

from collections.abc import Callable
import dataclasses
import inspect
from typing import Any

from flax import core, serialization, traverse_util
import jax
import jax.numpy as jnp
import optax
from t5x import optimizers

from gbt_t5x import optax_checks


class OptaxOptimizer(optimizers.OptimizerDef):
    """Rebuilds an optax transformation in each step, with the hyper-parameters given.

    The learning rate is the trainer's. Values may be traced, so they can be learned;
    nothing is compiled again when they change.

    >>> sgd = OptaxOptimizer(optax.sgd, momentum=0.5)
    >>> optimizer = sgd.create({"w": jnp.array(3.0)})
    >>> for _ in range(2):
    ...     optimizer = optimizer.apply_gradient({"w": jnp.array(1.0)}, learning_rate=0.1)
    >>> print(f"{optimizer.target['w']:.2f}")
    2.75

    Attributes:
        transformation: the function that makes it.
    """

    def __init__(
        self,
        transformation: Callable[..., optax.GradientTransformation],
        **arguments: Any,
    ):
        """Constructs the optimizer.

        Args:
            transformation: takes `learning_rate` and other arguments, for example
                `adam.lamb`, `optax.lion` or `optax.sgd`.
            **arguments: the other arguments; the rest keep their defaults.

        Raises:
            ValueError: it takes no `learning_rate`, or one is given here; it does not
                take one of the arguments, or not that value; its update needs more than
                gradients and parameters, or its state depends on the learning rate.
        """
        name, values = optax_checks.arguments(transformation, arguments)
        hyper_params = dataclasses.make_dataclass(
            name, values, namespace={"replace": dataclasses.replace}, frozen=True
        )
        super().__init__(hyper_params(**values))
        self.transformation = inspect.unwrap(transformation)  # of gin's wrapper
        self._initial = optax_checks.transformation(name, self._with_rate)
        params = optax_checks.example_params()
        try:
            self.optax_state_shape(params)
        except Exception:  # it wants parameters of certain names: see init_state
            self._is_checked = False
        else:
            optax_checks.check_update(name, self._with_rate, params)
            optax_checks.check_initial_state(name, self._with_rate, params)
            self._is_checked = True

    def _with_rate(self, learning_rate: Any) -> optax.GradientTransformation:
        return self.transformation(
            **vars(self.hyper_params) | {"learning_rate": learning_rate}
        )

    def optax_state_shape(self, params: Any) -> Any:
        """The optax state of such parameters, shapes in place of its arrays."""
        return jax.eval_shape(self._initial.init, params)

    def optax_state(self, params: Any, param_states: Any) -> Any:
        """The optax state of `param_states`."""
        return _unpack(param_states, self.optax_state_shape(params))

    def init_state(self, params: Any) -> optimizers.OptimizerState:
        if not self._is_checked:
            name = type(self.hyper_params).__name__
            optax_checks.check_update(name, self._with_rate, params)
        param_states = _pack(self._initial.init(params))
        return optimizers.OptimizerState(jnp.asarray(0, jnp.int32), param_states)

    def apply_gradient(self, hyper_params, params, state, grads):
        transformation = self.transformation(**vars(hyper_params))
        optax_state = self.optax_state(params, state.param_states)
        updates, optax_state = transformation.update(grads, optax_state, params)
        return optax.apply_updates(params, updates), optimizers.OptimizerState(
            state.step + 1, _pack(optax_state)
        )

    def derive_logical_axes(
        self, optimizer: optimizers.Optimizer, param_logical_axes: Any
    ) -> optimizers.Optimizer:
        """The axes of parameters, and of what is shaped like them; no others.

        In the state such an array stands at a path that ends in the parameter's.
        """
        flatten = lambda tree: traverse_util.flatten_dict(core.unfreeze(tree))
        shapes = {path: x.shape for path, x in flatten(optimizer.target).items()}
        axes = flatten(param_logical_axes)

        def axes_of(path, x):
            ends = (path[i:] for i in range(len(path)))
            return next((axes[end] for end in ends if shapes.get(end) == x.shape), None)

        flat = flatten(optimizer.state.param_states)
        param_states = traverse_util.unflatten_dict(
            {path: axes_of(path, x) for path, x in flat.items()}
        )
        state = optimizers.OptimizerState(None, param_states)
        return optimizer.replace(target=param_logical_axes, state=state)


def _pack(optax_state: Any) -> dict[str, Any]:
    """Nested dictionaries of what checkpoints can keep.

    Keys, typed or not, become the float32 of their bytes: T5X restores all of a state as
    float32, which rounds larger numbers. Empty nodes and arrays of size 0 are left out.
    """
    flat = traverse_util.flatten_dict(serialization.to_state_dict(optax_state))
    return traverse_util.unflatten_dict(
        {
            path: _bytes(x) if _is_key(x) or x.dtype == jnp.uint32 else x
            for path, x in flat.items()
            if x is not None and x.size
        }
    )


def _bytes(x: Any) -> jax.Array:
    numbers = jax.random.key_data(x) if _is_key(x) else x
    return jax.lax.bitcast_convert_type(numbers, jnp.uint8).astype(jnp.float32)


def _unpack(packed: Any, optax_state: Any) -> Any:
    """An optax state, like the given one, with the values of `_pack`."""
    shapes = serialization.to_state_dict(optax_state)
    flat = traverse_util.flatten_dict(shapes, keep_empty_nodes=True)
    packed = traverse_util.flatten_dict(packed)
    for path, like in flat.items():
        if like is None or like is traverse_util.empty_node:
            continue
        if not like.size:
            flat[path] = jnp.empty(like.shape, like.dtype)
        elif _is_key(like) or like.dtype == jnp.uint32:
            numbers = packed[path].astype(jnp.uint8)
            flat[path] = jax.lax.bitcast_convert_type(numbers, jnp.uint32)
            if _is_key(like):
                impl = jax.random.key_impl(jnp.empty(like.shape, like.dtype))
                flat[path] = jax.random.wrap_key_data(flat[path], impl=impl)
        else:
            flat[path] = packed[path]
    return serialization.from_state_dict(optax_state, traverse_util.unflatten_dict(flat))


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
