"""Any optax optimizer as a T5X optimizer, its arguments open to change at every step."""

from collections.abc import Callable
import dataclasses
import inspect
from typing import Any

from flax import serialization, traverse_util
import jax
import jax.numpy as jnp
import optax
from t5x import optimizers


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
            ValueError: it takes no `learning_rate`, or one is given here.
            TypeError: it does not take one of the arguments.
        """
        parameters = inspect.signature(transformation).parameters
        name = getattr(transformation, "__name__", str(transformation))
        if "learning_rate" not in parameters or "learning_rate" in arguments:
            raise ValueError(
                f"OptaxOptimizer sets the learning_rate of {name} to the trainer's: "
                "the transformation has to take it, and OptaxOptimizer not to bind it"
            )
        values = {k: p.default for k, p in parameters.items()} | arguments
        values["learning_rate"] = None
        missing = [k for k, v in values.items() if v is inspect.Parameter.empty]
        if missing:
            raise TypeError(f"OptaxOptimizer: {name} needs {', '.join(missing)}")
        hyper_params = dataclasses.make_dataclass(
            name, values, namespace={"replace": dataclasses.replace}, frozen=True
        )
        self._transformation = transformation
        self._initial = transformation(**values | {"learning_rate": 0.0})
        super().__init__(hyper_params(**values))

    def optax_state_shape(self, params: Any) -> Any:
        """The optax state of such parameters, shapes in place of its arrays."""
        return jax.eval_shape(self._initial.init, params)

    def init_state(self, params: Any) -> optimizers.OptimizerState:
        param_states = _pack(self._initial.init(params))
        return optimizers.OptimizerState(jnp.asarray(0, jnp.int32), param_states)

    def apply_gradient(self, hyper_params, params, state, grads):
        transformation = self._transformation(**vars(hyper_params))
        optax_state = _unpack(state.param_states, self.optax_state_shape(params))
        updates, optax_state = transformation.update(grads, optax_state, params)
        return optax.apply_updates(params, updates), optimizers.OptimizerState(
            state.step + 1, _pack(optax_state)
        )

    def derive_logical_axes(
        self, optimizer: optimizers.Optimizer, param_logical_axes: Any
    ) -> optimizers.Optimizer:
        """The axes of parameters, and of what is shaped like them; no others."""
        like_params = lambda x, param, axes: axes if x.shape == param.shape else None
        param_states = optax.tree_map_params(
            self._initial,
            like_params,
            self.optax_state_shape(optimizer.target),
            optimizer.target,
            param_logical_axes,
            transform_non_params=lambda _: None,
        )
        state = optimizers.OptimizerState(None, _pack(param_states))
        return optimizer.replace(target=param_logical_axes, state=state)


def _pack(optax_state: Any) -> dict[str, Any]:
    """Nested dictionaries without the empty ones, which checkpoints do not keep."""
    flat = traverse_util.flatten_dict(serialization.to_state_dict(optax_state))
    return traverse_util.unflatten_dict(flat)


def _unpack(packed: Any, optax_state: Any) -> Any:
    """An optax state, like the given one, with the values of `_pack`."""
    empty = traverse_util.empty_node
    shapes = serialization.to_state_dict(optax_state)
    flat = traverse_util.flatten_dict(shapes, keep_empty_nodes=True)
    flat = {path: x for path, x in flat.items() if x is empty}
    flat |= traverse_util.flatten_dict(packed)
    return serialization.from_state_dict(optax_state, traverse_util.unflatten_dict(flat))
