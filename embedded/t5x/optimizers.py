"""What an optimizer is: its state, its update, and the parameters it updates."""

from typing import Any

from flax import serialization, struct
import jax


@struct.dataclass
class OptimizerState:
    """State of an optimizer, or in its place the logical axes of each array.

    Attributes:
        step: (), int32, updates so far.
        param_states: a tree of per-parameter states.
    """

    step: jax.Array | None
    param_states: Any


class OptimizerDef:
    """An update rule, which keeps no state itself."""

    def __init__(self, hyper_params: Any):
        """`hyper_params`: a flax dataclass of the rule's hyper-parameters."""
        self.hyper_params = hyper_params

    def init_state(self, params: Any) -> Any:
        """The state before the first update."""
        raise NotImplementedError

    def apply_gradient(
        self, hyper_params: Any, params: Any, state: Any, grads: Any
    ) -> tuple[Any, Any]:
        """One update. Returns the new parameters and state."""
        raise NotImplementedError

    def derive_logical_axes(self, optimizer: "Optimizer", param_logical_axes: Any) -> Any:
        """The optimizer with the logical axes of each array in its place."""
        raise NotImplementedError

    def create(self, target: Any) -> "Optimizer":
        """Bundles the rule with parameters and a fresh state."""
        return Optimizer(optimizer_def=self, state=self.init_state(target), target=target)


class Optimizer(struct.PyTreeNode):
    """Parameters (`target`), optimizer state, and the rule that updates both."""

    optimizer_def: OptimizerDef = struct.field(pytree_node=False)
    state: Any
    target: Any

    def apply_gradient(self, grads: Any, **hyper_param_overrides: Any) -> "Optimizer":
        """One update, with hyper-parameters overridden by keyword (`learning_rate`).

        The values may be traced.
        """
        hyper_params = self.optimizer_def.hyper_params.replace(**hyper_param_overrides)
        target, state = self.optimizer_def.apply_gradient(
            hyper_params, self.target, self.state, grads
        )
        return self.replace(target=target, state=state)

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries {target, state} of arrays, as checkpoints keep them."""
        return {
            "target": serialization.to_state_dict(self.target),
            "state": serialization.to_state_dict(self.state),
        }

    def restore_state(self, state_dict: Any) -> "Optimizer":
        """This optimizer with the values of a `state_dict`."""
        return self.replace(
            target=serialization.from_state_dict(self.target, state_dict["target"]),
            state=serialization.from_state_dict(self.state, state_dict["state"]),
        )
