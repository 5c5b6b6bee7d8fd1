"""An optimizer whose hyper-parameters follow a schedule, as a guided run learned it."""

from collections.abc import Sequence
from typing import Any

from t5x import optimizers

from gbt_t5x import checks, groups as groups_lib, schedule as schedule_lib, wrapper


class ReplayedOptimizer(wrapper.WrappingOptimizer):
    """Runs a stock optimizer with the hyper-parameters of a schedule, by step.

    The learning rate is the trainer's times alpha. The state is the base optimizer's, and
    T5X's own trainer trains with it: nothing is learned. Update t uses the values of step
    t, and a run that goes on from a checkpoint goes on in the schedule.
    """

    def __init__(
        self,
        base: optimizers.OptimizerDef,
        schedule: Any,
        hyperparams: Sequence[str] | None = None,
        groups: Sequence[tuple[str, str]] | None = None,
        steps: int | None = None,
    ):
        """Constructs the optimizer.

        Args:
            base: the optimizer that the schedule was learned for, with its settings.
            schedule: path of the file, see `schedule`.
            hyperparams: names of those in it, in any order, to check them; or None.
            groups: those that it was learned with, see `groups.Groups`.
            steps: the step at which the schedule's last row stands, and the rows between
                it and the first in proportion; None leaves them where they are.

        Raises:
            ValueError: the file is no schedule, or one of other hyper-parameters than
                are named or than the optimizer has; it has groups and the optimizer has
                none, or the other way round; or see `GuidedOptimizer`.
        """
        wrapper.check_base("ReplayedOptimizer", base)
        self._file = str(schedule)
        self._schedule = schedule_lib.read(schedule)
        names = list(self._schedule.table)
        self._check_names(hyperparams, names)
        if bool(self._schedule.groups) != (groups is not None):
            of = self._schedule.groups
            raise ValueError(
                f"SCHEDULE={self._file!r} has {_listed(of) if of else 'no groups'}, and "
                f"GROUPS={checks.show(groups)}: set GROUPS to those of the guided run"
            )
        rule = None if groups is None else groups_lib.Groups(groups)
        try:
            super().__init__(base, names, rule)
        except ValueError as error:
            raise ValueError(
                f"SCHEDULE={self._file!r} is of {', '.join(names)}, which OPTIMIZER "
                f"cannot follow: {error}: set OPTIMIZER as in the guided run, or SCHEDULE"
            ) from error
        if steps is not None:
            self._schedule = self._schedule.stretched(steps)

    def _check_names(self, asked: Any, found: Sequence[str]) -> None:
        if asked is None:
            return
        is_list = isinstance(asked, list | tuple)
        if not is_list or sorted(map(str, asked)) != sorted(found):
            raise ValueError(
                f"SCHEDULE={self._file!r} is of {', '.join(found)}, and "
                f"HYPERPARAMS={checks.show(asked)}: set HYPERPARAMS to those, or None"
            )

    def init_state(self, params: Any) -> optimizers.OptimizerState:
        state = self._base.init_state(params)
        names = self.group_names(params)
        groups = list(self._schedule.groups)
        if names != groups:
            raise ValueError(
                f"SCHEDULE={self._file!r} has {_listed(groups)}, and GROUPS divides the "
                f"model's parameters into {_listed(names)}: set GROUPS to those of the "
                "guided run"
            )
        return state

    def apply_gradient(
        self, hyper_params: Any, params: Any, state: Any, grads: Any
    ) -> tuple[Any, optimizers.OptimizerState]:
        """Updates parameters with the schedule's values of this step."""
        values = self._schedule.values(state.step + 1)
        return self._base.apply_gradient(
            self._with_values(hyper_params, values), params, state, self._prepare(grads)
        )

    def derive_logical_axes(
        self, optimizer: optimizers.Optimizer, param_logical_axes: Any
    ) -> optimizers.Optimizer:
        """The base optimizer's axes."""
        axes = self._base_axes(optimizer, param_logical_axes)
        return optimizer.replace(target=axes.target, state=axes.state)


def _listed(groups: Sequence[str]) -> str:
    """The number of groups, and the names of the first ones."""
    names = ", ".join(groups[:4]) + ", ..." * (len(groups) > 4)
    return f"{len(groups)} groups ({names})"
