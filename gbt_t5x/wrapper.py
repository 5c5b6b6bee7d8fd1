"""A T5X optimizer that runs another one with settings of its own at every step."""

from collections.abc import Mapping, Sequence
from typing import Any

from t5x import optimizers

from gbt_t5x import checks, groups as groups_lib, learnable


class WrappingOptimizer(optimizers.OptimizerDef):
    """What `GuidedOptimizer` and `ReplayedOptimizer` have in common; abstract.

    Attributes:
        hyper_params: the base optimizer's.
    """

    def __init__(
        self,
        base: optimizers.OptimizerDef,
        hyperparams: Sequence[str],
        groups: groups_lib.Groups | None,
    ):
        """Constructs the optimizer.

        Args:
            base: an optimizer that is no wrapper, see `check_base`.
            hyperparams: names of `hyperparams.ACTIVATIONS` whose values change.
            groups: parameters that have values of their own, or None.

        Raises:
            ValueError: see `learnable.settings`.
        """
        super().__init__(base.hyper_params)
        self._groups = groups
        self._ungrouped = base
        self._base = groups_lib.GroupedOptimizer(base, groups) if groups else base
        self._settings = learnable.settings(base, hyperparams)
        self._prepare = learnable.preparation(base, hyperparams)

    def group_names(self, params: Any) -> list[str]:
        """Names of the groups, sorted; none without groups."""
        return list(self._groups.split(params)) if self._groups else []

    def _with_values(self, hyper_params: Any, values: Mapping[str, Any]) -> Any:
        """The base optimizer's hyper-parameters with others in their place.

        Args:
            hyper_params: those of one optimizer; alpha is a factor on its learning rate.
            values: name -> (), or (groups,) with groups.

        Returns:
            What `apply_gradient` of the base takes: with groups, a list.
        """

        def replace(values: dict[str, Any]) -> Any:
            rate = hyper_params.learning_rate * values.pop("alpha", 1.0)
            settings = {self._settings[name]: value for name, value in values.items()}
            return hyper_params.replace(learning_rate=rate, **settings)

        if not self._groups:
            return replace(dict(values))
        of_groups = zip(*values.values(), strict=True)
        return [replace(dict(zip(values, own, strict=True))) for own in of_groups]

    def set_param_axes(self, param_logical_axes: Any) -> None:
        """Passes the parameters' axis names on to optimizers that want them."""
        if hasattr(self._base, "set_param_axes"):
            self._base.set_param_axes(param_logical_axes)

    def _base_axes(
        self, optimizer: optimizers.Optimizer, param_logical_axes: Any
    ) -> optimizers.Optimizer:
        """The base optimizer, with the logical axes of each array in its place."""
        state = optimizer.state
        base = optimizers.Optimizer(
            optimizer_def=self._base,
            state=optimizers.OptimizerState(state.step, state.param_states),
            target=optimizer.target,
        )
        return self._base.derive_logical_axes(base, param_logical_axes)


def check_base(owner: str, base: Any) -> None:
    """Raises ValueError unless an optimizer can be wrapped.

    Args:
        owner: class that wraps it.
        base: what gin gives.
    """
    is_optimizer = isinstance(base, optimizers.OptimizerDef)
    is_optimizer = is_optimizer and hasattr(base.hyper_params, "learning_rate")
    if not is_optimizer or isinstance(base, WrappingOptimizer):
        raise ValueError(
            f"{owner}.base={checks.show(base)}: must be an unguided optimizer: set "
            "OPTIMIZER, for example to @adafactor.Adafactor()"
        )
