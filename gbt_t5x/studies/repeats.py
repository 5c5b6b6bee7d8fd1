"""Numbers of repeated runs: the mean, and how much they differ."""

from collections.abc import Sequence
import math
import statistics


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation (n - 1); None of one value, NaN if there is a NaN.

    >>> deviation([1.0, 3.0])
    1.4142135623730951
    """
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def text(values: Sequence[float], sign: str = "") -> str:
    """The mean ± the deviation, of one value that alone.

    >>> text([1.0, 3.0]), text([0.5], "+")
    ('2.0000 ± 1.4142', '+0.5000')
    """
    spread = deviation(values)
    mean = f"{statistics.fmean(values):{sign}.4f}"
    return mean if spread is None else f"{mean} ± {spread:.4f}"


def with_error(values: Sequence[float]) -> str:
    """The mean with its sign ± its standard error, of one value that alone.

    >>> with_error([1.0, 3.0]), with_error([0.5])
    ('+2.0000 ± 1.0000', '+0.5000')
    """
    spread = deviation(values)
    mean = f"{statistics.fmean(values):+.4f}"
    if spread is None:
        return mean
    return f"{mean} ± {spread / math.sqrt(len(values)):.4f}"
