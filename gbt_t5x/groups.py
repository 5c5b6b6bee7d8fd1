"""Groups of parameters, and an optimizer whose hyper-parameters differ between them."""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from flax import core, traverse_util
import jax.numpy as jnp
from t5x import adafactor, optimizers

from gbt_t5x import checks


class Groups:
    r"""Divides trees of parameters by regular expressions over their paths.

    >>> groups = Groups([(r"layer_\1", r"layers_(\d+)/.*"), ("rest", ".*")])
    >>> groups.split({"layers_0": {"mlp": {"wi": 1, "wo": 2}}, "norm": {"scale": 3}})
    {'layer_0': {'layers_0': {'mlp': {'wi': 1, 'wo': 2}}}, 'rest': {'norm': {'scale': 3}}}
    """

    def __init__(self, patterns: Sequence[tuple[str, str]]):
        r"""Constructs the rule.

        Args:
            patterns: (name, expression) pairs. A parameter belongs to the first
                expression that matches its whole path, for example
                `encoder/layers_0/mlp/wi_0/kernel`. The name may use what the expression
                captured, as `\1`, and then makes a group of each value; a slash in it
                becomes a dot.

        Raises:
            ValueError: there are no pairs of strings, an expression is invalid, or a
                name refers to what its expression does not capture.
        """
        if not isinstance(patterns, list | tuple) or not patterns:
            raise ValueError(
                f"groups is empty or no list, {checks.show(patterns)}: "
                "set GROUPS to (name, expression) pairs, or None"
            )
        self._patterns = [self._compile(pair) for pair in patterns]

    @staticmethod
    def _compile(pair: Any) -> tuple[str, re.Pattern]:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or not all(isinstance(x, str) and x for x in pair):
            raise ValueError(
                f"groups: {checks.show(pair)} is no pair of a name and "
                "an expression: change GROUPS"
            )
        name, pattern = pair
        try:
            compiled = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(
                f"groups: {checks.show(pattern)} is no regular "
                f"expression, {error}: change GROUPS"
            ) from error
        try:
            compiled.sub(name, "")  # reads the name, whatever matches
        except (re.error, IndexError) as error:
            raise ValueError(
                f"groups: the name {checks.show(name)} does not go with "
                f"{checks.show(pattern)}, {error}: change GROUPS"
            ) from error
        return name, compiled

    def _group(self, path: Sequence[str]) -> tuple[int, str]:
        """The index of a pattern, and the name of the group."""
        joined = "/".join(path)
        for i, (name, pattern) in enumerate(self._patterns):
            if match := pattern.fullmatch(joined):
                group = match.expand(name).replace("/", ".")
                if not group:
                    raise ValueError(
                        f"groups: the name {name!r} is empty for the "
                        f"parameter {joined}: change GROUPS"
                    )
                return i, group
        raise ValueError(
            f"no group matches the parameter {joined}: add ('rest', '.*') to GROUPS"
        )

    def check(self, params: Any) -> None:
        """Raises ValueError for a parameter without group, a group without parameters."""
        flat = traverse_util.flatten_dict(core.unfreeze(params))
        used = {self._group(path)[0] for path in flat}
        for i, (name, pattern) in enumerate(self._patterns):
            if i not in used:
                path = "/".join(next(iter(flat)))
                raise ValueError(
                    f"group {name!r} is empty: {pattern.pattern!r} matches the path of "
                    f"no parameter that is left; one path is {path}: change GROUPS"
                )

    def split(self, tree: Any) -> dict[str, Any]:
        """Group -> the part of a tree like the parameters that is in it; names sorted.

        Raises:
            ValueError: a parameter is in no group, or its group's name is empty.
        """
        parts: dict[str, Any] = {}
        for path, x in traverse_util.flatten_dict(core.unfreeze(tree)).items():
            parts.setdefault(self._group(path)[1], {})[path] = x
        return {
            name: type(tree)(traverse_util.unflatten_dict(parts[name]))
            for name in sorted(parts)
        }

    def merge(self, parts: Mapping[str, Any], like: Any) -> Any:
        """The inverse of `split`, of the type of `like`."""
        flat: dict[tuple[str, ...], Any] = {}
        for part in parts.values():
            flat |= traverse_util.flatten_dict(core.unfreeze(part))
        return type(like)(traverse_util.unflatten_dict(flat))


class GroupedOptimizer(optimizers.OptimizerDef):
    """Updates every group of parameters by itself, with hyper-parameters of its own.

    What an optimizer computes over all parameters, a global norm for example, it
    computes over those of a group. `param_states` of T5X's Adafactor, one for each
    parameter, are where they are without groups, so that the same checkpoints fit. Of
    others it is group -> the base optimizer's.
    """

    def __init__(self, base: optimizers.OptimizerDef, groups: Groups):
        super().__init__(base.hyper_params)
        self._base = base
        self._groups = groups
        self._is_by_param = isinstance(base, adafactor.Adafactor)

    def _split_states(self, param_states: Any) -> Mapping[str, Any]:
        """Group -> the base optimizer's."""
        return self._groups.split(param_states) if self._is_by_param else param_states

    def _merge_states(self, parts: Mapping[str, Any], like: Any) -> Any:
        """The inverse, of the type of a tree like the parameters."""
        return self._groups.merge(parts, like=like) if self._is_by_param else parts

    def init_state(self, params: Any) -> optimizers.OptimizerState:
        self._groups.check(params)
        parts = self._groups.split(params)
        param_states = {
            name: self._base.init_state(part).param_states for name, part in parts.items()
        }
        param_states = self._merge_states(param_states, like=params)
        return optimizers.OptimizerState(jnp.asarray(0, jnp.int32), param_states)

    def apply_gradient(
        self, hyper_params: Sequence[Any], params: Any, state: Any, grads: Any
    ) -> tuple[Any, optimizers.OptimizerState]:
        """One update.

        Args:
            hyper_params: the base optimizer's for each group, in the order of
                `Groups.split`.
            params: all parameters.
            state: `init_state`'s, or one that this method gave.
            grads: like the parameters.
        """
        parts, grads = self._groups.split(params), self._groups.split(grads)
        states = self._split_states(state.param_states)
        new_params, new_states = {}, {}
        for (name, part), own in zip(parts.items(), hyper_params, strict=True):
            part_state = optimizers.OptimizerState(state.step, states[name])
            new_params[name], new_state = self._base.apply_gradient(
                own, part, part_state, grads[name]
            )
            new_states[name] = new_state.param_states
        new_states = self._merge_states(new_states, like=params)
        state = optimizers.OptimizerState(state.step + 1, new_states)
        return self._groups.merge(new_params, like=params), state

    def set_param_axes(self, param_logical_axes: Any) -> None:
        if hasattr(self._base, "set_param_axes"):
            self._base.set_param_axes(param_logical_axes)

    def derive_logical_axes(
        self, optimizer: optimizers.Optimizer, param_logical_axes: Any
    ) -> optimizers.Optimizer:
        targets = self._groups.split(optimizer.target)
        step = optimizer.state.step
        states = self._split_states(optimizer.state.param_states)
        param_states = {}
        for name, axes in self._groups.split(param_logical_axes).items():
            part = optimizers.Optimizer(
                optimizer_def=self._base,
                state=optimizers.OptimizerState(step, states[name]),
                target=targets[name],
            )
            axes = self._base.derive_logical_axes(part, axes)
            param_states[name] = axes.state.param_states
        param_states = self._merge_states(param_states, like=param_logical_axes)
        return optimizer.replace(
            target=param_logical_axes,
            state=optimizers.OptimizerState(None, param_states),
        )
