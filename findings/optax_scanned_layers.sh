#!/usr/bin/env bash
# optax 0.2.8, flax 0.12.8: layers under nn.scan are optimized as one layer, by muon not at all.
#
# flax.linen.scan stacks the arrays of equal layers, as scanned T5 models do for the time that
# compilation takes. Loss and gradients are those of layers one by one, and the updates are
# not. LAMB and LARS have one trust ratio for the stack, so that a layer of large weights sets
# the rate of all; Adafactor's scale of parameters and adaptive_grad_clip's norms are of the
# stack too. Muon takes arrays of two dimensions: a stack of matrices has three, and is updated
# by AdamW, unless muon_weight_dimension_numbers says otherwise. Adam and SGD are the same.
#
# Command: findings/optax_scanned_layers.sh
# Prints, and fails if it changes: whether gradients agree; of the first update of each layer,
# the last of which has weights 50 times as large, its norm, scanned over one by one, and the
# lowest cosine between the two.
#   gradients agree: True
#   adam                     1      1      1      1   cosine 1
#   lamb                    28     29     28    0.3   cosine 1
#   lars                    30     31     28  0.023   cosine 1
#   adafactor               28     28     29    0.5   cosine 1
#   adaptive_grad_clip      30     32     27  0.089   cosine 0.64
#   muon                   9.2    8.8    9.3    8.9   cosine 0.57
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check flax==0.12.8 optax==0.2.8 \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml-dtypes==0.6.0
cat >"$folder/layers.py" <<'PYTHON'
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

LAYERS, WIDTH, RATE = 4, 16, 1e-2


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + jnp.tanh(nn.Dense(WIDTH, use_bias=False)(nn.LayerNorm()(x))), None


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        stack = nn.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS
        )
        return stack(name="layers")(x, None)[0]


class OneByOne(nn.Module):
    @nn.compact
    def __call__(self, x):
        for number in range(LAYERS):
            x, _ = Layer(name=str(number))(x, None)
        return x


def gradients(network, params, x):
    return jax.grad(lambda p: jnp.sum(network.apply({"params": p}, x) ** 2))(params)


def unstack(tree):
    one = lambda number: jax.tree.map(lambda a: a[number], tree["layers"])
    return {str(number): one(number) for number in range(LAYERS)}


def first_update(optimizer, params, gradient):
    return optimizer.update(gradient, optimizer.init(params), params)[0]


x = jax.random.normal(jax.random.key(1), (8, WIDTH))
params = Scanned().init(jax.random.key(0), x)["params"]
scale = jnp.where(jnp.arange(LAYERS) == LAYERS - 1, 50.0, 1.0)
kernel = params["layers"]["Dense_0"]["kernel"]
params["layers"]["Dense_0"]["kernel"] = kernel * scale[:, None, None]
of_stack = gradients(Scanned(), params, x)
of_each = gradients(OneByOne(), unstack(params), x)
close = functools.partial(np.allclose, rtol=1e-3, atol=1e-3)
agree = jax.tree.all(jax.tree.map(close, unstack(of_stack), of_each))
print("gradients agree:", agree)
for name, optimizer in (
    ("adam", optax.adam(RATE)),
    ("lamb", optax.lamb(RATE)),
    ("lars", optax.lars(RATE)),
    ("adafactor", optax.adafactor(RATE, min_dim_size_to_factor=WIDTH)),
    ("adaptive_grad_clip", optax.adaptive_grad_clip(RATE)),
    ("muon", optax.contrib.muon(RATE)),
):
    scanned = unstack(first_update(optimizer, params, of_stack))
    each = first_update(optimizer, unstack(params), of_each)
    ratios, cosines = [], []
    for number in map(str, range(LAYERS)):
        a, b = (tree[number]["Dense_0"]["kernel"].ravel() for tree in (scanned, each))
        norms = jnp.linalg.norm(a), jnp.linalg.norm(b)
        ratios.append(f"{norms[0] / norms[1]:7.2g}")
        cosines.append(float(a @ b / norms[0] / norms[1]))
    print(f"{name:<19}{''.join(ratios)}   cosine {min(cosines):.2g}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/layers.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
gradients agree: True
adam                     1      1      1      1   cosine 1
lamb                    28     29     28    0.3   cosine 1
lars                    30     31     28  0.023   cosine 1
adafactor               28     28     29    0.5   cosine 1
adaptive_grad_clip      30     32     27  0.089   cosine 0.64
muon                   9.2    8.8    9.3    8.9   cosine 0.57
EXPECTED
