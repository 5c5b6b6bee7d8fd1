"""The order in which a compiled program computes what does not depend on each other.

XLA may hold many large arrays at once that could take turns. CPUs have no optimization
barrier when programs are ordered there, so a dependency of data is made.
"""

from typing import Any

import jax
import jax.numpy as jnp


def after(tree: Any, first: jax.Array) -> Any:
    """The tree, of which nothing can be computed before an array is.

    >>> after({"tokens": jnp.arange(3)}, jnp.zeros((2, 2)))
    {'tokens': Array([0, 1, 2], dtype=int32)}

    Args:
        tree: of arrays.
        first: an array of any shape and numeric dtype.
    """
    # A reduction: XLA would compute a single number again for each that waits for it.
    row = first[(0,) * (first.ndim - 1)].astype(jnp.float32)
    zero = jnp.max(row) > jnp.inf  # never
    return jax.tree.map(lambda x: x + zero.astype(x.dtype), tree)
