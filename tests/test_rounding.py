"""Fewer bits cost precision, and no bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gbt_t5x import rounding

SMALL = [dtype for dtype in rounding.DTYPES if dtype != "float32"]
SEEDS = 400


def numbers(shape=(7, 11)):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3, shape))


def rounded(x, dtype, seed):
    return rounding.dequantize(rounding.quantize(x, dtype, seed))


def unit(x, dtype):
    """The distance of the numbers that can be kept, about x."""
    if dtype == "int8":
        return np.full(x.shape, np.max(np.abs(x)) / 127)
    return 2.0 ** (np.floor(np.log2(np.abs(x))) - 7)


@pytest.mark.parametrize("dtype", SMALL)
def test_the_mean_of_many_roundings_is_the_number(dtype):
    x = numbers().astype(jnp.float32)
    seeds = jnp.arange(SEEDS, dtype=jnp.uint32)
    errors = np.asarray(jax.vmap(lambda seed: rounded(x, dtype, seed))(seeds) - x)
    step = unit(x, dtype)
    assert np.all(np.abs(errors) < 1.001 * step)
    # A rounding's deviation is at most half a step.
    assert np.all(np.abs(errors.mean(0)) < 5 * 0.5 * step / SEEDS**0.5)
    assert np.abs(errors / step).max() > 0.9
    # Those of neighbours, and of one number and seeds that follow, are independent.
    units = errors / step
    for axis in range(units.ndim):
        a, b = np.delete(units, 0, axis), np.delete(units, -1, axis)
        assert abs(np.mean(a * b)) < 5 * 0.25 / a.size**0.5


@pytest.mark.parametrize("dtype", rounding.DTYPES)
def test_numbers_that_can_be_kept_are_kept(dtype):
    x = jnp.asarray([[-127.0, 3.0, 0.0], [127.0, -1.0, 64.0]])
    np.testing.assert_array_equal(rounded(x, dtype, 5), x)
    np.testing.assert_array_equal(rounded(0 * x, dtype, 5), 0 * x)
    np.testing.assert_array_equal(rounded(jnp.float32(1.5), dtype, 5), 1.5)


@pytest.mark.parametrize("dtype", rounding.DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(dtype, bad):
    x = jnp.asarray([1.0, bad, 2.0])
    found = rounded({"x": x, "y": x[::2]}, dtype, 0)
    assert not np.isfinite(found["x"][1])
    assert np.isfinite(found["y"]).all()


def test_every_array_of_a_tree_is_rounded_by_itself():
    x = numbers()
    tree = rounding.quantize({"a": x, "b": x, "c": 100 * x}, "int8", 0)
    assert (tree["a"].values != tree["b"].values).any()
    np.testing.assert_allclose(tree["c"].scale, 100 * tree["a"].scale, rtol=1e-6)
    shapes = rounding.like(
        {"a": None, "b": jax.sharding.PartitionSpec("x"), "c": 3}, "int8"
    )
    assert jax.tree.structure(jax.tree.map(lambda _: 0, tree)) == jax.tree.structure(
        jax.tree.map(
            lambda _: 0,
            shapes,
            is_leaf=lambda s: not isinstance(s, dict | rounding.Scaled),
        )
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_arrays_of_another_dtype_are_taken_as_float32(dtype):
    x = jnp.arange(1.0, 9.0)
    kept, cast = (
        rounding.quantize(y, dtype, seed=0) for y in (x.astype(jnp.bfloat16), x)
    )
    jax.tree.map(np.testing.assert_array_equal, kept, cast)
    assert [y.dtype for y in jax.tree.leaves(kept)] == [
        y.dtype for y in jax.tree.leaves(cast)
    ]


@pytest.mark.parametrize(
    ("dtype", "bytes_each"), [("float32", 4), ("bfloat16", 2), ("int8", 1)]
)
def test_the_bytes_of_each_dtype(dtype, bytes_each):
    leaves = jax.tree.leaves(rounding.quantize(numbers(), dtype, 0))
    assert leaves[0].nbytes == bytes_each * numbers().size
    assert all(x.ndim == 0 for x in leaves[1:])
