#!/usr/bin/env bash
# flax 0.12.8: the weights of nn.Einsum begin too small, by the square root of an axis.
#
# The layers of flax begin with lecun_normal, so that outputs are as large as inputs: the
# variance of a weight is 1 over the number of inputs that are added up. flax.linen.Einsum
# and nnx.Einsum know from their equation which axes those are, and do not look: the
# initializer takes the last axis but one for the inputs, the last for the outputs, and all
# others for the window of a convolution, which counts as inputs too. A projection to 8
# heads, (512, 8, 64), adds up 512 inputs and is made for 4,096: queries and keys are 0.35 for
# 1, and the logits of attention an eighth. With queries, keys and values in one kernel, with
# the two inputs of a gated layer, or with 8 experts, the axis in front shrinks them as well.
# The projection back, (8, 64, 512), is right. nn.DenseGeneral, in the same file, flattens the
# axes first. A kernel_init of lecun_normal with in_axis, out_axis or batch_axis is right.
#
# Command: findings/flax_einsum_init.sh
# Prints, and fails if it changes: the standard deviation of outputs, of inputs of 1.
#   DenseGeneral, 8 heads: linen 1.00
#   td,dhk->thk (512, 8, 64): linen 0.35, nnx 0.35
#   td,ndhk->nthk (3, 512, 8, 64): linen 0.20, nnx 0.20
#   td,ndf->ntf (2, 512, 1024): linen 0.71, nnx 0.71
#   etd,edf->etf (8, 512, 1024): linen 0.35, nnx 0.35
#   thk,hkd->td (8, 64, 512): linen 1.00, nnx 1.00
#   td,dhk->thk, in_axis=0, out_axis=(1, 2): linen 1.00
#   etd,edf->etf, batch_axis=0: linen 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check flax==0.12.8 optax==0.2.8 \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml-dtypes==0.6.0
cat >"$folder/einsum.py" <<'PYTHON'
from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp

SIZES = {"t": 2000, "e": 8, "d": 512, "h": 8, "k": 64}
lecun_normal = nn.initializers.lecun_normal


def inputs_of(equation):
    axes = equation.split(",")[0]
    return jax.random.normal(jax.random.key(0), [SIZES[axis] for axis in axes])


def linen(layer, inputs):
    outputs, _ = layer.init_with_output(jax.random.key(1), inputs)
    return f"linen {jnp.std(outputs):.2f}"


def einsum(equation, shape, **settings):
    layer = nn.Einsum(shape, equation, use_bias=False, **settings)
    return linen(layer, inputs_of(equation))


heads = nn.DenseGeneral((8, 64), use_bias=False)
print("DenseGeneral, 8 heads:", linen(heads, inputs_of("td,")))
for equation, shape in {
    "td,dhk->thk": (512, 8, 64),
    "td,ndhk->nthk": (3, 512, 8, 64),
    "td,ndf->ntf": (2, 512, 1024),
    "etd,edf->etf": (8, 512, 1024),
    "thk,hkd->td": (8, 64, 512),
}.items():
    layer = nnx.Einsum(equation, shape, rngs=nnx.Rngs(1))
    deviation = jnp.std(layer(inputs_of(equation)))
    print(f"{equation} {shape}: {einsum(equation, shape)}, nnx {deviation:.2f}")
by_axes = lecun_normal(in_axis=0, out_axis=(1, 2))
right = einsum("td,dhk->thk", (512, 8, 64), kernel_init=by_axes)
print(f"td,dhk->thk, in_axis=0, out_axis=(1, 2): {right}")
by_expert = lecun_normal(batch_axis=0)
right = einsum("etd,edf->etf", (8, 512, 1024), kernel_init=by_expert)
print(f"etd,edf->etf, batch_axis=0: {right}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/einsum.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
DenseGeneral, 8 heads: linen 1.00
td,dhk->thk (512, 8, 64): linen 0.35, nnx 0.35
td,ndhk->nthk (3, 512, 8, 64): linen 0.20, nnx 0.20
td,ndf->ntf (2, 512, 1024): linen 0.71, nnx 0.71
etd,edf->etf (8, 512, 1024): linen 0.35, nnx 0.35
thk,hkd->td (8, 64, 512): linen 1.00, nnx 1.00
td,dhk->thk, in_axis=0, out_axis=(1, 2): linen 1.00
etd,edf->etf, batch_axis=0: linen 1.00
EXPECTED
