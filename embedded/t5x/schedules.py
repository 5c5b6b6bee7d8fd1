"""Learning rates as functions of the step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from t5x.checks import Amount, Count, Integer, Whole, checked


@checked
def create_learning_rate_scheduler(
    factors: str = "constant * linear_warmup * rsqrt_decay",
    base_learning_rate: Amount = 0.5,
    warmup_steps: Whole = 1000,
    decay_factor: Amount = 0.5,
    steps_per_decay: Count = 20000,
    steps_per_cycle: Count = 100000,
    step_offset: Integer = 0,
    min_learning_rate: Amount = 1e-8,
) -> Callable[[jax.Array], jax.Array]:
    """The product of named factors of the step s.

    Args:
        factors: separated by `*`. constant: base_learning_rate; linear_warmup:
            min(1, s/warmup_steps); rsqrt_decay: 1/√max(s, warmup_steps);
            rsqrt_normalized_decay: that times √warmup_steps; decay_every:
            decay_factor^⌊s/steps_per_decay⌋; cosine_decay: half a cosine from 1 to 0
            every steps_per_cycle.
        base_learning_rate: see factors.
        warmup_steps: see factors.
        decay_factor: see factors.
        steps_per_decay: see factors.
        steps_per_cycle: see factors.
        step_offset: subtracted from the step.
        min_learning_rate: lower bound.

    Raises:
        ValueError: a factor is not among those above, or a number is out of range.
    """
    known: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
        "constant": lambda rate, s: rate * base_learning_rate,
        "linear_warmup": lambda rate, s: rate * jnp.minimum(1.0, s / warmup_steps),
        "rsqrt_decay": lambda rate, s: rate / jnp.sqrt(jnp.maximum(s, warmup_steps)),
        "rsqrt_normalized_decay": lambda rate, s: (
            rate * jnp.sqrt(warmup_steps) / jnp.sqrt(jnp.maximum(s, warmup_steps))
        ),
        "decay_every": lambda rate, s: rate * decay_factor ** (s // steps_per_decay),
        "cosine_decay": lambda rate, s: (
            rate * _half_cosine((s - warmup_steps) / float(steps_per_cycle))
        ),
    }
    names = [name.strip() for name in factors.split("*")]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"unknown learning rate factors {unknown}: use {sorted(known)}")

    if not warmup_steps and set(names) - {"constant", "decay_every", "cosine_decay"}:
        raise ValueError(f"warmup_steps=0: must be at least 1 for factors={factors!r}")

    def learning_rate(step: jax.Array) -> jax.Array:
        step = jnp.maximum(0, step - step_offset)
        rate = jnp.asarray(1.0)
        for name in names:
            rate = known[name](rate, step)
        return jnp.asarray(jnp.maximum(rate, min_learning_rate), jnp.float32)

    return learning_rate


def _half_cosine(cycles: jax.Array) -> jax.Array:
    """From 1 to 0 in every cycle."""
    part = jnp.maximum(0.0, cycles) % 1.0
    return jnp.maximum(0.0, 0.5 * (1.0 + jnp.cos(jnp.pi * part)))
