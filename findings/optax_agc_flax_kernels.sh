#!/usr/bin/env bash
# optax 0.2.8, flax 0.12.8: adaptive_grad_clip takes other units of a kernel with another shape.
#
# The clipping of Brock et al. 2021 compares the gradient of each output of a layer with that
# output's weights, over all of its inputs. optax takes axis 0 of a kernel with two or three
# axes for the inputs, as a query's kernel has them. nn.MultiHeadDotProductAttention's output
# projection has two axes of inputs, heads and features of a head, and nn.Conv over one
# dimension the window and the channels: their gradients are clipped by parts of an output.
# Written as nn.Dense, and as a convolution of two dimensions with a window of height 1, both
# compute the same, have the same weights and gradients, and keep 1.8 to 7 times the norm. The
# argument axis is one for all of a network's kernels.
#
# Command: findings/optax_agc_flax_kernels.sh
# Prints, and fails if it changes:
#   each output's norm after clipping to 0.1 of its weights'
#     attention, query, kernel of (16, 4, 8): 0.100 to 0.100
#     attention, query, kernel of (16, 32): 0.100 to 0.100
#     attention, out, kernel of (4, 8, 16): 0.022 to 0.056
#     attention, out, kernel of (32, 16): 0.100 to 0.100
#     convolution, kernel of (5, 8, 16): 0.014 to 0.051
#     convolution, kernel of (1, 5, 8, 16): 0.100 to 0.100
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check optax==0.2.8 flax==0.12.8 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$folder/kernels.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

CLIP = 0.1


def kernels():
    """Yields a name, a kernel of flax, and the same of another layer, with its shape."""
    key = jax.random.key(0)
    attention = nn.MultiHeadDotProductAttention(num_heads=4, qkv_features=32)
    params = attention.init(key, jnp.ones((1, 3, 16)))["params"]
    yield "attention, query", params["query"]["kernel"], (16, 32)
    yield "attention, out", params["out"]["kernel"], (32, 16)
    params = nn.Conv(16, kernel_size=(5,)).init(key, jnp.ones((1, 9, 8)))["params"]
    yield "convolution", params["kernel"], (1, 5, 8, 16)


def ratios(update, kernel, outputs):
    """Returns the least and the largest norm of an output's update, to its weights'."""
    norms = [jnp.linalg.norm(x.reshape(-1, outputs), axis=0) for x in (update, kernel)]
    ratio = np.asarray(norms[0] / norms[1])
    return f"{ratio.min():.3f} to {ratio.max():.3f}"


def main():
    clip = optax.adaptive_grad_clip(CLIP)
    print(f"each output's norm after clipping to {CLIP} of its weights'")
    for name, kernel, shape in kernels():
        # One large number an output: its gradient has the norm of its weights.
        outputs = shape[-1]
        norms = jnp.linalg.norm(kernel.reshape(-1, outputs), axis=0)
        gradient = jnp.zeros((kernel.size // outputs, outputs)).at[0].set(norms)
        for at in (kernel.shape, shape):
            weights = kernel.reshape(at)
            update, _ = clip.update(gradient.reshape(at), clip.init(weights), weights)
            print(f"  {name}, kernel of {at}: {ratios(update, kernel, outputs)}")


if __name__ == "__main__":
    main()
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/kernels.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
each output's norm after clipping to 0.1 of its weights'
  attention, query, kernel of (16, 4, 8): 0.100 to 0.100
  attention, query, kernel of (16, 32): 0.100 to 0.100
  attention, out, kernel of (4, 8, 16): 0.022 to 0.056
  attention, out, kernel of (32, 16): 0.100 to 0.100
  convolution, kernel of (5, 8, 16): 0.014 to 0.051
  convolution, kernel of (1, 5, 8, 16): 0.100 to 0.100
EXPECTED
