"""What settings may be, whatever was written in a gin file."""

import math
import numbers
from typing import Any

import numpy as np

_LARGEST_COUNT = 2**31 - 1


def number(value: Any) -> float:
    """A number as a float; NaN, which no range holds, for what is none or too large.

    >>> number(0.5), number(3), number("3"), number(True), number(10**400)
    (0.5, 3.0, nan, nan, nan)
    """
    is_number = isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()
    if not is_number or isinstance(value, bool | np.bool_):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def float32(value: Any) -> float:
    """`number` as float32 rounds it."""
    with np.errstate(over="ignore"):
        return float(np.float32(number(value)))


def show(value: Any) -> str:
    """A value as it is written, in at most 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_count(macro: str, value: Any) -> None:
    """Raises ValueError unless a setting is a whole number of at least 1.

    Args:
        macro: what gin files call it.
        value: what they give.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not 1 <= value <= _LARGEST_COUNT:
        raise ValueError(
            f"{macro}={show(value)}: must be at least 1, a whole number up to "
            f"{_LARGEST_COUNT}: set {macro}"
        )


def check_part(what: str, path: str, start: int, stop: int | None) -> None:
    """Raises ValueError unless [start, stop) can be of a file.

    Args:
        what: has it.
        path: of the file.
        start: the first that is in it, from 0.
        stop: the first that is not; None is the end.
    """
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(
            f"{what} has [{start}, {stop}) of {path}: must be 0 <= start < stop, or a "
            "stop of None, the end"
        )
