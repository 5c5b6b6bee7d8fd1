"""Numbers of repeated runs: the mean, and how much they differ."""

from collections.abc import Sequence
import math
import statistics


def sample_std(values: Sequence[float]) -> float | None:
    """The sample standard deviation (n - 1); None of one value, NaN if there is a NaN.

    >>> sample_std([1.0, 3.0])
    1.4142135623730951
    """
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean; None of one value.

    >>> standard_error([1.0, 3.0])
    1.0
    """
    spread = sample_std(values)
    return None if spread is None else spread / math.sqrt(len(values))


def text(values: Sequence[float], digits: int = 4) -> str:
    """The mean ± the standard deviation, of one value that alone.

    >>> text([1.0, 3.0]), text([0.5]), text([1.0, 3.0], digits=1)
    ('2.0000 ± 1.4142', '0.5000', '2.0 ± 1.4')
    """
    return _text(values, sample_std(values), "", digits)


def with_error(values: Sequence[float], digits: int = 4) -> str:
    """The mean with its sign ± its standard error, of one value that alone.

    >>> with_error([1.0, 3.0]), with_error([0.5], 1)
    ('+2.0000 ± 1.0000', '+0.5')
    """
    return _text(values, standard_error(values), "+", digits)


def _text(values: Sequence[float], spread: float | None, sign: str, digits: int) -> str:
    mean = f"{statistics.fmean(values):{sign}.{digits}f}"
    return mean if spread is None else f"{mean} ± {spread:.{digits}f}"
