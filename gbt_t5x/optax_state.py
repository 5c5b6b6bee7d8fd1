"""States of optax as nested dictionaries, which T5X's checkpoints keep whole."""

from typing import Any

from flax import serialization, traverse_util
import jax
import jax.numpy as jnp


def pack(state: Any) -> dict[str, Any]:
    """Nested dictionaries of what checkpoints can keep.

    Keys, typed or not, become the float32 of their bytes, and truth values float32: T5X
    restores what has no mesh axes as float32, which rounds larger numbers. Empty nodes
    and arrays of size 0 are left out; where nothing else is, there is a 0 in their place,
    since checkpoints lose an empty dictionary.
    """
    flat = traverse_util.flatten_dict(serialization.to_state_dict(state))
    kept = {path: _as_float32(x) for path, x in flat.items() if x is not None and x.size}
    return traverse_util.unflatten_dict(kept or {("nothing",): jnp.zeros(())})


def _as_float32(x: Any) -> Any:
    if x.dtype == jnp.bool:
        return x.astype(jnp.float32)
    if not _is_key(x) and x.dtype != jnp.uint32:
        return x
    numbers = jax.random.key_data(x) if _is_key(x) else x
    return jax.lax.bitcast_convert_type(numbers, jnp.uint8).astype(jnp.float32)


def unpack(packed: Any, like: Any) -> Any:
    """The optax state that was packed.

    Args:
        packed: what `pack` returned.
        like: the state, or shapes of its arrays.
    """
    shapes = serialization.to_state_dict(like)
    flat = traverse_util.flatten_dict(shapes, keep_empty_nodes=True)
    packed = traverse_util.flatten_dict(packed)
    for path, x in flat.items():
        if x is None or x is traverse_util.empty_node:
            continue
        if not x.size:
            flat[path] = jnp.empty(x.shape, x.dtype)
        elif _is_key(x) or x.dtype == jnp.uint32:
            numbers = packed[path].astype(jnp.uint8)
            flat[path] = jax.lax.bitcast_convert_type(numbers, jnp.uint32)
            if _is_key(x):
                impl = jax.random.key_impl(jnp.empty(x.shape, x.dtype))
                flat[path] = jax.random.wrap_key_data(flat[path], impl=impl)
        elif x.dtype == jnp.bool:
            flat[path] = packed[path].astype(jnp.bool)
        else:
            flat[path] = packed[path]
    return serialization.from_state_dict(like, traverse_util.unflatten_dict(flat))


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
