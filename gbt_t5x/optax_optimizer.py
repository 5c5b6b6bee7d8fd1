"""An optax optimizer as a T5X optimizer, its arguments open to change at every step."""

from collections.abc import Callable
import dataclasses
import inspect
from typing import Any

from flax import core, traverse_util
import jax
import jax.numpy as jnp
import optax
from t5x import optimizers

from gbt_t5x import optax_checks, optax_state as optax_state_lib


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
        self.transformation = _without_gin(transformation)
        try:
            self._is_checked = self._check(name)
        except ValueError as error:
            unset = [key for key, value in arguments.items() if value is None]
            if not unset:
                raise
            raise ValueError(
                f"{error}. OptaxOptimizer.{unset[0]} is None: set it to a number, if "
                f"{name} needs one"
            ) from error

    def _check(self, name: str) -> bool:
        """Makes and tries the transformation.

        Returns:
            Whether it could be tried: one that wants parameters of certain names is in
            `init_state`.
        """
        self._initial = optax_checks.transformation(name, self._with_rate)
        params = optax_checks.example_params()
        try:
            self.optax_state_shape(params)
        except Exception:
            return False
        optax_checks.check_update(name, self._with_rate, params)
        optax_checks.check_initial_state(name, self._with_rate, params)
        return True

    def _with_rate(self, learning_rate: Any) -> optax.GradientTransformation:
        return self.transformation(
            **vars(self.hyper_params) | {"learning_rate": learning_rate}
        )

    def optax_state_shape(self, params: Any) -> Any:
        """The optax state of such parameters, shapes in place of its arrays."""
        return jax.eval_shape(self._initial.init, params)

    def optax_state(self, params: Any, param_states: Any) -> Any:
        """The optax state of `param_states`."""
        return optax_state_lib.unpack(param_states, self.optax_state_shape(params))

    def init_state(self, params: Any) -> optimizers.OptimizerState:
        if not self._is_checked:
            name = type(self.hyper_params).__name__
            optax_checks.check_update(name, self._with_rate, params)
        param_states = optax_state_lib.pack(self._initial.init(params))
        return optimizers.OptimizerState(jnp.asarray(0, jnp.int32), param_states)

    def apply_gradient(self, hyper_params, params, state, grads):
        transformation = self.transformation(**vars(hyper_params))
        optax_state = self.optax_state(params, state.param_states)
        updates, optax_state = transformation.update(grads, optax_state, params)
        # A state keeps its types, which a rate or decay of float32 would widen.
        param_states = jax.tree.map(
            lambda x, like: x.astype(like.dtype),
            optax_state_lib.pack(optax_state),
            state.param_states,
        )
        return optax.apply_updates(params, updates), optimizers.OptimizerState(
            state.step + 1, param_states
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


def _without_gin(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function without gin's wrapper; one by `functools.wraps` of the user's stays."""
    is_gins = lambda f: getattr(f, "__globals__", {}).get("__name__") == "gin.config"
    return inspect.unwrap(function, stop=lambda f: not is_gins(f))
