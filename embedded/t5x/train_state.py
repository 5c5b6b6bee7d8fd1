"""Everything that training changes: parameters and optimizer state."""

from typing import Any

from flax import core, struct
from flax.linen import partitioning as flax_partitioning
import jax
from t5x import optimizers

EMPTY_DICT = core.freeze({})


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
        others, params = core.pop(core.freeze(model_variables), "params")
        others, params_axes = core.pop(others, "params_axes")
        if others:
            raise ValueError(
                f"variables beside parameters: {sorted(others)}; the embedded t5x "
                "trains parameters alone"
            )
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
