"""Parameters, with optimizer state to train or without to decode."""

from typing import Any

from flax import core, struct
from flax.linen import partitioning as flax_partitioning
import jax
import jax.numpy as jnp
from t5x import optimizers

EMPTY_DICT = core.freeze({})


def _split_variables(model_variables: Any) -> tuple[Any, Any]:
    """A model's `params` and `params_axes`. Raises ValueError for other collections."""
    others, params = core.pop(core.freeze(model_variables), "params")
    others, params_axes = core.pop(others, "params_axes")
    if others:
        raise ValueError(
            f"variables beside parameters: {sorted(others)}; the embedded t5x has "
            "parameters alone"
        )
    return params, params_axes


class FlaxOptimTrainState(struct.PyTreeNode):
    """The optimizer, which holds parameters and moments, and the parameters' axes.

    `flax_mutables` is T5X's place for other variable collections. The models here
    have none, and it stays empty.
    """

    _optimizer: optimizers.Optimizer
    params_axes: Any = None
    flax_mutables: Any = EMPTY_DICT

    @classmethod
    def create(
        cls, optimizer_def: optimizers.OptimizerDef, model_variables: Any
    ) -> "FlaxOptimTrainState":
        """A state at step 0.

        Args:
            optimizer_def: the rule that will update the parameters.
            model_variables: the model's `params`, and `params_axes` that name their
                axes; no other collection.

        Raises:
            ValueError: the variables hold other collections.
        """
        params, params_axes = _split_variables(model_variables)
        if hasattr(optimizer_def, "set_param_axes"):
            optimizer_def.set_param_axes(flax_partitioning.get_axis_names(params_axes))
        return cls(optimizer_def.create(params), params_axes=params_axes)

    @property
    def step(self) -> jax.Array:
        return self._optimizer.state.step

    @property
    def params(self) -> Any:
        return self._optimizer.target

    @property
    def param_states(self) -> Any:
        return self._optimizer.state.param_states

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries {target, state}, as checkpoints keep them."""
        return self._optimizer.state_dict()

    def restore_state(self, state_dict: Any) -> "FlaxOptimTrainState":
        return self.replace(_optimizer=self._optimizer.restore_state(state_dict))

    def replace_params(self, params: Any) -> "FlaxOptimTrainState":
        return self.replace(_optimizer=self._optimizer.replace(target=params))

    def apply_gradient(
        self, grads: Any, learning_rate: Any, flax_mutables: Any = EMPTY_DICT
    ) -> "FlaxOptimTrainState":
        """One optimizer step."""
        optimizer = self._optimizer.apply_gradient(grads, learning_rate=learning_rate)
        return self.replace(_optimizer=optimizer, flax_mutables=flax_mutables)

    def as_logical_axes(self) -> "FlaxOptimTrainState":
        """This state with the logical axis names of each array in its place."""
        axes = flax_partitioning.get_axis_names(self.params_axes)
        optimizer_def = self._optimizer.optimizer_def
        return FlaxOptimTrainState(
            optimizer_def.derive_logical_axes(self._optimizer, axes)
        )


class InferenceState(struct.PyTreeNode):
    """The parameters, their axes, and the step at which they were saved."""

    step: Any
    params: Any
    params_axes: Any = None
    flax_mutables: Any = EMPTY_DICT

    @classmethod
    def create(cls, model_variables: Any) -> "InferenceState":
        """The initial parameters, at step 0.

        Raises:
            ValueError: the variables hold other collections.
        """
        params, params_axes = _split_variables(model_variables)
        return cls(step=jnp.array(0), params=params, params_axes=params_axes)

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries, a part of FlaxOptimTrainState's."""
        return {"target": core.unfreeze(self.params), "state": {"step": self.step}}

    def restore_state(self, state_dict: Any) -> "InferenceState":
        params = core.freeze(state_dict["target"])
        return self.replace(params=params, step=state_dict["state"]["step"])

    def as_logical_axes(self) -> "InferenceState":
        """This state with the logical axis names of each array in its place."""
        return InferenceState(None, flax_partitioning.get_axis_names(self.params_axes))
