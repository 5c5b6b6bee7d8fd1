"""Checks of GuidedOptimizer's arguments."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from gbt_t5x import checks, rounding, wrapper


def check(
    *,
    base: Any,
    hyperparams: Any,
    meta_learning_rate: Any,
    initial_alpha: Any,
    groups: Any,
    discount: Any,
    bounds: Any,
    fixed_mean: Any,
) -> None:
    """Raises ValueError for arguments of GuidedOptimizer that no optimizer could use."""
    show = checks.show
    wrapper.check_base("GuidedOptimizer", base)
    is_list = isinstance(hyperparams, list | tuple)
    if (
        not is_list
        or not hyperparams
        or not all(isinstance(name, str) for name in hyperparams)
        or len(set(hyperparams)) < len(hyperparams)
    ):
        raise ValueError(
            f"GuidedOptimizer.hyperparams={show(hyperparams)}: give a list that names at "
            "least one hyper-parameter, each once: set HYPERPARAMS, for example to "
            "['alpha', 'beta1']"
        )
    of_each = rates(hyperparams, meta_learning_rate)
    if set(of_each) != set(hyperparams):
        raise ValueError(
            f"GuidedOptimizer.meta_learning_rate={show(meta_learning_rate)}: must be one "
            f"number, or name each of {', '.join(hyperparams)}: set META_LEARNING_RATE"
        )
    for rate in of_each.values():
        if not (0 <= checks.number(rate) and checks.float32(rate) < math.inf):
            raise ValueError(
                f"GuidedOptimizer.meta_learning_rate={show(rate)}: must be >= 0 and "
                "finite as a float32: set META_LEARNING_RATE"
            )
    if "alpha" not in hyperparams and checks.number(initial_alpha) != 1.0:
        raise ValueError(
            f"GuidedOptimizer.initial_alpha={show(initial_alpha)}, but alpha is not "
            "learned: add it to HYPERPARAMS, or change the schedule"
        )
    # As a float32, in which a discount of 1 - 1e-9 is 1.
    is_discount = 0 <= checks.number(discount) and checks.float32(discount) < 1
    if discount is not None and not is_discount:
        raise ValueError(
            f"GuidedOptimizer.discount={show(discount)}: must be None or in [0, 1): set "
            "DISCOUNT"
        )
    is_list = isinstance(fixed_mean, list | tuple)
    if not is_list or any(name not in hyperparams for name in fixed_mean):
        raise ValueError(
            f"GuidedOptimizer.fixed_mean={show(fixed_mean)}: must be a list of names of "
            f"those learned, {', '.join(hyperparams)}: set FIXED_MEAN"
        )
    if groups is None:
        check_groups(fixed_mean, [])
    if bounds is None:
        return
    if not isinstance(bounds, Mapping) or not set(bounds) <= set(hyperparams):
        raise ValueError(
            f"GuidedOptimizer.bounds={show(bounds)}: must be None, or a dictionary of "
            f"(low, high) by names of those learned, {', '.join(hyperparams)}: set BOUNDS"
        )


def check_groups(fixed_mean: Sequence[str], names: Sequence[str]) -> None:
    """Raises ValueError for a mean to keep without groups of these names, or of one."""
    if fixed_mean and len(names) < 2:
        raise ValueError(
            f"GuidedOptimizer.fixed_mean={checks.show(fixed_mean)}, but one λ alone "
            "would stay where it is: set GROUPS, of two or more, or FIXED_MEAN = ()"
        )


def rates(hyperparams: Sequence[str], meta_learning_rate: Any) -> Mapping[str, Any]:
    """Hyper-parameter -> η̂."""
    if isinstance(meta_learning_rate, Mapping):
        return meta_learning_rate
    return dict.fromkeys(hyperparams, meta_learning_rate)


def sensitivity_dtype(dtype: Any, discount: float | None) -> str:
    """The dtype in which sensitivities are kept, or "float32" if they are not.

    Raises:
        ValueError: it is unknown, or they are not kept.
    """
    if dtype is not None and dtype not in rounding.DTYPES:
        raise ValueError(
            f"GuidedOptimizer.sensitivity_dtype={checks.show(dtype)}: must be None or "
            f"one of {', '.join(rounding.DTYPES)}: set SENSITIVITY_DTYPE"
        )
    if discount is not None:
        return dtype or rounding.DEFAULT
    if dtype is not None:
        raise ValueError(
            f"GuidedOptimizer.sensitivity_dtype={dtype!r}, but a held-out batch with "
            "DISCOUNT = None keeps no sensitivities: set SENSITIVITY_DTYPE = None"
        )
    return "float32"
