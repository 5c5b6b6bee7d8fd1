"""Stochastic rounding: trees of float32 arrays in fewer bits, without bias.

A number between two that can be kept, a < x < b, becomes b with probability
(x - a) / (b - a) and else a: its mean is x. A sum of many is then far more precise than
each of them.

The probabilities come from a hash of a number's place in its array and of a seed: the
same on any number of devices, and in a run that was resumed.
"""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

DTYPES = ("float32", "bfloat16", "int8")
DEFAULT = "int8"


class Scaled(struct.PyTreeNode):
    """An array of whole multiples of a scale.

    Attributes:
        values: int8, of the array's shape.
        scale: (), float32: the largest magnitude / 127.
    """

    values: Any
    scale: Any


def quantize(tree: Any, dtype: str, seed: jax.typing.ArrayLike) -> Any:
    """A tree whose arrays take the bits of a dtype.

    >>> kept = quantize(jnp.array([0.3, -2.54]), "int8", seed=1)
    >>> print(kept.values, f"{kept.scale:.2f}")
    [  15 -127] 0.02

    Args:
        tree: of arrays, which are taken as float32 unless they stay as they are.
        dtype: one of `DTYPES`.
        seed: (), a whole number.

    Returns:
        The tree, for int8 with `Scaled` in place of its arrays.
    """
    rounded = {"float32": lambda x, _: x, "bfloat16": _to_bfloat16, "int8": _to_int8}
    leaves, structure = jax.tree.flatten(tree)
    first = jnp.asarray(seed, jnp.uint32) * np.uint32(len(leaves))
    kept = [rounded[dtype](x, first + np.uint32(i)) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(structure, kept)


def dequantize(tree: Any) -> Any:
    """A tree of float32 arrays, of one that `quantize` made.

    A number that is not finite makes its whole array so in int8.
    """
    return jax.tree.map(_dequantize, tree, is_leaf=lambda x: isinstance(x, Scaled))


def like(tree: Any, dtype: str) -> Any:
    """A tree with the structure that `quantize` gives.

    Args:
        tree: of anything that stands for an array, of which a scale has none.
        dtype: one of `DTYPES`.
    """
    if dtype != "int8":
        return tree
    is_leaf = lambda x: x is None or isinstance(x, jax.sharding.PartitionSpec)
    return jax.tree.map(lambda x: Scaled(x, None), tree, is_leaf=is_leaf)


def _dequantize(x: Any) -> jax.Array:
    if isinstance(x, Scaled):
        return x.values * x.scale
    return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x


def _to_bfloat16(x: jax.Array, seed: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    bits = (bits + (_random_bits(x.shape, seed) >> 16)) & np.uint32(0xFFFF0000)
    rounded = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


def _to_int8(x: jax.Array, seed: jax.Array) -> Scaled:
    x = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(x)) / 127
    multiples = x * jnp.where(scale > 0, 1 / scale, 0)
    uniform = (_random_bits(x.shape, seed) >> 8).astype(jnp.float32) * 2**-24
    values = jnp.clip(jnp.floor(multiples + uniform), -127, 127)
    return Scaled(values.astype(jnp.int8), scale)


def _random_bits(shape: tuple[int, ...], seed: jax.Array) -> jax.Array:
    """A hash of every place in an array and of a seed, uint32."""
    place = jnp.zeros(shape, jnp.uint32)
    for axis, size in enumerate(shape):
        place = place * np.uint32(size) + jax.lax.broadcasted_iota(
            jnp.uint32, shape, axis
        )
    return _mix(place + _mix(seed))


def _mix(x: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3, by Austin Appleby: each bit depends on all."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
