"""The order in which a compiled program computes what does not depend on each other.

XLA may hold many large arrays at once that could take turns. CPUs have no optimization
barrier when programs are ordered there (findings/jax_cpu_barrier_order.sh), so a
dependency of data is made.
"""

from typing import Any

import jax
import jax.numpy as jnp


def after(tree: Any, first: Any) -> Any:
    """The tree, of which nothing can be computed before others are.

    >>> after({"tokens": jnp.arange(3)}, jnp.zeros((2, 2)))
    {'tokens': Array([0, 1, 2], dtype=int32)}

    Args:
        tree: of arrays.
        first: an array of any shape and numeric dtype, or a tree of them.
    """
    # Reductions: XLA would compute a single number again for each that waits for it.
    rows = [x[(0,) * (x.ndim - 1)].astype(jnp.float32) for x in jax.tree.leaves(first)]
    zero = jnp.any(jnp.stack([jnp.max(row) > jnp.inf for row in rows]))  # never
    return jax.tree.map(lambda x: x + zero.astype(x.dtype), tree)
