#!/usr/bin/env bash
# optax 0.2.8: clip_by_global_norm of many bfloat16 gradients leaves more than its bound.
#
# "max_norm: The maximum global norm for an update." The norm, optax.tree.norm, adds up the
# squares of the arrays' norms one after another in the gradients' own type. In bfloat16 a
# sum does not grow by what is below 1/256 of it: of arrays of like norm those after the
# 256th are not counted. Of 1,024 arrays of norm 1 it says 16 for 32, and what is clipped to 1
# has the norm 2; the step is twice as long, and logs of the norm say half. A T5 of 24 layers
# on each side, not scanned over, has more than 500 arrays. Inside jax.jit it is the same.
# Gradients cast to float32 before it are clipped to 1.
#
# Command: findings/optax_clip_many_bfloat16.sh
# Prints, and fails if it changes:
#   256 arrays, norm 16.0: tree.norm 16.0, clipped to 1: 1.00, jit 1.00, in float32 1.00
#   512 arrays, norm 22.6: tree.norm 16.0, clipped to 1: 1.41, jit 1.41, in float32 1.00
#   1024 arrays, norm 32.0: tree.norm 16.0, clipped to 1: 2.00, jit 2.00, in float32 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check optax==0.2.8 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$folder/clip.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optax


def norm(arrays):
    parts = [np.asarray(x).astype(np.float64) for x in arrays]
    return float(np.sqrt(sum(np.sum(x**2) for x in parts)))


def clipped(arrays):
    transformation = optax.clip_by_global_norm(1.0)
    return transformation.update(arrays, transformation.init(arrays))[0]


for count in (256, 512, 1024):
    gradients = [jnp.full(16, 0.25, jnp.bfloat16)] * count
    wide = [x.astype(jnp.float32) for x in gradients]
    print(
        f"{count} arrays, norm {norm(gradients):.1f}: "
        f"tree.norm {float(optax.tree.norm(gradients)):.1f}, "
        f"clipped to 1: {norm(clipped(gradients)):.2f}, "
        f"jit {norm(jax.jit(clipped)(gradients)):.2f}, "
        f"in float32 {norm(clipped(wide)):.2f}"
    )
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/clip.py")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
256 arrays, norm 16.0: tree.norm 16.0, clipped to 1: 1.00, jit 1.00, in float32 1.00
512 arrays, norm 22.6: tree.norm 16.0, clipped to 1: 1.41, jit 1.41, in float32 1.00
1024 arrays, norm 32.0: tree.norm 16.0, clipped to 1: 2.00, jit 2.00, in float32 1.00
EXPECTED
