"""What can be learned, and how a bounded value is kept as an unbounded number.

A learned hyper-parameter is stored raw: λ in (-∞, ∞), float32. The optimizer sees its
activation (Table 5 of the paper has the first two):

    name                activation         domain    what it is to the optimizer
    alpha               exp(λ)             (0, ∞)    factor on the learning-rate schedule
    beta1               1 / (1 + exp(-λ))  (0, 1)    momentum
    beta2               1 / (1 + exp(-λ))  (0, 1)    decay of the second moment
    epsilon             exp(λ)             (0, ∞)    added to the second moment or root
    weight_decay        exp(λ)             (0, ∞)    weight decay
    decay_rate          1 / (1 + exp(-λ))  (0, 1)    Adafactor's c: the decay is 1 - t^-c
    clipping_threshold  exp(λ)             (0, ∞)    Adafactor's largest RMS of an update
"""

from collections.abc import Callable, Mapping
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Activation:
    """An increasing map from the real line onto the open interval (low, high)."""

    forward: Callable[[jax.Array], jax.Array]
    inverse: Callable[[float], float]
    low: float
    high: float


EXP = Activation(jnp.exp, math.log, 0.0, math.inf)
SIGMOID = Activation(jax.nn.sigmoid, lambda v: math.log(v) - math.log1p(-v), 0.0, 1.0)

ACTIVATIONS: Mapping[str, Activation] = {
    "alpha": EXP,
    "beta1": SIGMOID,
    "beta2": SIGMOID,
    "epsilon": EXP,
    "weight_decay": EXP,
    "decay_rate": SIGMOID,
    "clipping_threshold": EXP,
}


@dataclasses.dataclass(frozen=True)
class HyperParam:
    """One learned hyper-parameter.

    >>> beta1 = HyperParam("beta1", initial_value=0.5)
    >>> float(beta1.raw), float(beta1.value(beta1.raw))
    (0.0, 0.5)

    Attributes:
        name: a key of `ACTIVATIONS`.
        initial_value: inside the activation's domain.

    Raises:
        ValueError: the name is unknown, or the value outside the domain.
    """

    name: str
    initial_value: float

    def __post_init__(self):
        if self.name not in ACTIVATIONS:
            raise ValueError(
                f"unknown hyper-parameter {self.name!r}: "
                f"GuidedOptimizer.hyperparams can name {', '.join(ACTIVATIONS)}"
            )
        low, high = self.activation.low, self.activation.high
        # As a float32: nothing would be learned from 1 - 1e-9, which is 1.
        if not low < np.float32(self.initial_value) < high:
            setting = {"alpha": "GuidedOptimizer.initial_alpha"}.get(
                self.name, f"the {self.name} of the base optimizer"
            )
            raise ValueError(
                f"{self.name} starts at {self.initial_value}, outside ({low:g}, "
                f"{high:g}): change {setting}"
            )

    @property
    def activation(self) -> Activation:
        return ACTIVATIONS[self.name]

    @property
    def raw(self) -> jax.Array:
        """(), the initial λ: float32, or float64 where JAX has 64-bit types on."""
        return jnp.asarray(self.activation.inverse(self.initial_value), dtype=float)

    def value(self, raw: jax.Array) -> jax.Array:
        """The activation of a raw number, of the same shape."""
        return self.activation.forward(raw)


def values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Activates every raw number: name -> λ, or a tree of them, to name -> value."""
    return {name: jax.tree.map(ACTIVATIONS[name].forward, x) for name, x in raw.items()}
