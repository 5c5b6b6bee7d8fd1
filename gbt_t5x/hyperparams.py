"""What can be learned, and how a bounded value is kept as an unbounded number.

A learned hyper-parameter is stored raw: λ in (-∞, ∞), float32. The optimizer sees its
activation (Table 5 of the paper has the first two): exp(λ) in (0, ∞), or the sigmoid
1 / (1 + exp(-λ)) in (0, 1). λ stays where the value is in an interval, by default

    name               activation interval         what it is to the optimizer
    alpha              exp        [1e-6, 1e6]      factor on the learning-rate schedule
    beta1              sigmoid    [1e-6, 1 - 1e-6] momentum
    beta2              sigmoid    [1e-6, 1 - 1e-6] decay of the second moment
    epsilon            exp        [1e-18, 1e6]     added to the second moment or root
    weight_decay       exp        [1e-12, 1]       weight decay
    decay_rate         sigmoid    [1e-6, 1 - 1e-6] Adafactor's c: the decay is 1 - t^-c
    clipping_threshold exp        [1e-6, 1e6]      Adafactor's largest RMS of an update

In float32 the sigmoid of 17 is 1, where its derivative is 0, and exp overflows at 89.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gbt_t5x import checks


@dataclasses.dataclass(frozen=True)
class Activation:
    """An increasing map from the real line onto the open interval (low, high).

    Attributes:
        forward: the map.
        inverse: its inverse.
        low: the lower end of the domain.
        high: the upper end.
        widest: the largest closed interval of values that can be learned in. In float32
            they differ from `low` and `high`, and their derivatives from 0.
    """

    forward: Callable[[jax.Array], jax.Array]
    inverse: Callable[[float], float]
    low: float
    high: float
    widest: tuple[float, float]


EXP = Activation(jnp.exp, math.log, 0.0, math.inf, (1e-30, 1e30))
SIGMOID = Activation(
    jax.nn.sigmoid,
    lambda v: math.log(v) - math.log1p(-v),
    0.0,
    1.0,
    (1e-30, 1 - 1e-6),
)

ACTIVATIONS: Mapping[str, Activation] = {
    "alpha": EXP,
    "beta1": SIGMOID,
    "beta2": SIGMOID,
    "epsilon": EXP,
    "weight_decay": EXP,
    "decay_rate": SIGMOID,
    "clipping_threshold": EXP,
}


BOUNDS: Mapping[str, tuple[float, float]] = {
    "alpha": (1e-6, 1e6),
    "beta1": (1e-6, 1 - 1e-6),
    "beta2": (1e-6, 1 - 1e-6),
    "epsilon": (1e-18, 1e6),
    "weight_decay": (1e-12, 1.0),
    "decay_rate": (1e-6, 1 - 1e-6),
    "clipping_threshold": (1e-6, 1e6),
}


@dataclasses.dataclass(frozen=True)
class HyperParam:
    """One learned hyper-parameter.

    >>> beta1 = HyperParam("beta1", initial_value=0.5, bounds=(0.25, 0.75))
    >>> float(beta1.raw), float(beta1.value(beta1.raw))
    (0.0, 0.5)
    >>> print(f"{beta1.value(beta1.project(100.0)):.2f}")
    0.75

    Attributes:
        name: a key of `ACTIVATIONS`.
        initial_value: inside the bounds.
        bounds: (lowest, highest) value, inside the activation's domain; None for those of
            `BOUNDS`.

    Raises:
        ValueError: the name is unknown, the bounds are no interval inside the domain, or
            the value is outside them.
    """

    name: str
    initial_value: float
    bounds: tuple[float, float] | None = None

    def __post_init__(self):
        if not isinstance(self.name, str) or self.name not in ACTIVATIONS:
            raise ValueError(
                f"unknown hyper-parameter {checks.show(self.name)}: "
                f"GuidedOptimizer.hyperparams can name {', '.join(ACTIVATIONS)}: set "
                "HYPERPARAMS"
            )
        low, high = self._raw_bounds
        setting = {"alpha": "GuidedOptimizer.initial_alpha"}.get(
            self.name, f"the {self.name} of the base optimizer"
        )
        domain = self.activation.low, self.activation.high
        # As a float32: nothing would be learned from 1 - 1e-9, which is 1.
        if not domain[0] < checks.float32(self.initial_value) < domain[1]:
            raise ValueError(
                f"{self.name} starts at {checks.show(self.initial_value)}, outside "
                f"({domain[0]:g}, {domain[1]:g}): change {setting}"
            )
        value = checks.number(self.initial_value)
        if not low <= np.float32(self.activation.inverse(value)) <= high:
            raise ValueError(
                f"{self.name} starts at {value:.9g}, outside its interval "
                f"{_interval(self.bounds or BOUNDS[self.name])}: change {setting}, or "
                f"set BOUNDS = {{{self.name!r}: (low, high)}}"
            )

    @functools.cached_property
    def _raw_bounds(self) -> tuple[np.float32, np.float32]:
        """The bounds of λ."""
        bounds = BOUNDS[self.name] if self.bounds is None else self.bounds
        is_pair = isinstance(bounds, tuple | list) and len(bounds) == 2
        low, high = map(checks.number, bounds) if is_pair else (math.nan, math.nan)
        widest = self.activation.widest
        if widest[0] <= low < high <= widest[1]:
            inverse = self.activation.inverse
            if checks.float32(low) < checks.float32(high):
                return np.float32(inverse(low)), np.float32(inverse(high))
        raise ValueError(
            f"the interval of {self.name} is {checks.show(bounds)}: must be two numbers "
            f"(low, high), low < high, within {_interval(widest)}: set BOUNDS, a "
            "dictionary of them by name, or None"
        )

    @property
    def activation(self) -> Activation:
        return ACTIVATIONS[self.name]

    @property
    def raw(self) -> jax.Array:
        """(), the initial λ: float32, or float64 where JAX has 64-bit types on."""
        value = checks.number(self.initial_value)
        return jnp.asarray(self.activation.inverse(value), dtype=float)

    def value(self, raw: jax.Array) -> jax.Array:
        """The activation of a raw number, of the same shape."""
        return self.activation.forward(raw)

    def project(self, raw: jax.typing.ArrayLike) -> jax.Array:
        """The nearest λ whose value is inside the bounds, of the same shape."""
        low, high = self._raw_bounds
        return jnp.clip(raw, low, high)

    def at_bound(self, raw: jax.typing.ArrayLike) -> jax.Array:
        """Whether the value of λ is that of a bound, or outside them; same shape."""
        low, high = self._raw_bounds
        return jnp.logical_or(raw <= low, raw >= high)


def _interval(bounds: Any) -> str:
    return f"[{bounds[0]:.9g}, {bounds[1]:.9g}]"


def values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Activates every raw number: name -> λ, or a tree of them, to name -> value."""
    return {name: jax.tree.map(ACTIVATIONS[name].forward, x) for name, x in raw.items()}


def meta_learning_rate(steps: int, reach: float = 15.0) -> float:
    """η̂ by which λ, before activation, moves by about `reach` in a run at the most.

    Adam moves λ by up to about η̂ a step, so what a run can learn depends on η̂ times its
    steps: 10 for the paper's T5 (1e-5, 1M steps).

    >>> meta_learning_rate(1_000_000, reach=10)
    1e-05

    Args:
        steps: those that learn, at least 1.
        reach: above 0.

    Raises:
        ValueError: they are not.
    """
    checks.check_count("GUIDED_STEPS", steps)
    if not 0 < checks.number(reach) < math.inf:
        raise ValueError(
            f"meta_learning_rate.reach={checks.show(reach)}: must be above 0 and finite"
        )
    return reach / steps
