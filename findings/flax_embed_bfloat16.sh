#!/usr/bin/env bash
# flax 0.12.8 and JAX 0.10.2: in bfloat16 the gradient of a frequent token's embedding stops
# at 256.
#
# flax.linen.Embed with dtype=bfloat16 and parameters of float32, the usual mixed precision,
# casts the table before it looks up rows, so that the gradients of all places of a token
# are added in bfloat16, on a CPU one by one, and only their sum is cast to float32. Of 1,000
# places with a gradient of 1 it is 256: 256 + 1 is 256. Of a batch of 65,536 tokens as
# frequent as words are, with gradients around 0.1, the gradient of the first token is 19 %
# off, and of those with more than 1,000 places 5 % in the median. jnp.sum, jnp.cumsum,
# jnp.dot and a product with one_hot make 1,000 of the same numbers; segment_sum, bincount
# and .at[].add 256. Looked up before it is cast the table has no such fault.
#
# Command: findings/flax_embed_bfloat16.sh
# Prints, and fails if it changes:
#   1000 places of one token, gradients of 1
#     Embed, float32: 1000
#     Embed, bfloat16: 256
#     one_hot @ table, bfloat16: 1000
#     table[tokens], then cast: 1000
#     1000 ones of bfloat16: sum 1000 cumsum 1000 dot 1000 segment_sum 256 bincount 256 at[].add 256
#   65536 tokens, the first 7493 times, 7 more than 1000
#     Embed, float32: the first is 0.0% off, of these the median 0.0%
#     Embed, bfloat16: the first is 18.6% off, of these the median 4.6%
#     one_hot @ table, bfloat16: the first is 0.2% off, of these the median 0.2%
#     table[tokens], then cast: the first is 0.0% off, of these the median 0.0%
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check flax==0.12.8 optax==0.2.8 \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml-dtypes==0.6.0
cat >"$folder/embed.py" <<'PYTHON'
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

VOCABULARY, FEATURES = 4096, 16


def cast_after(table, tokens):
    return table[tokens].astype(jnp.bfloat16)


def one_hot(table, tokens):
    rows = jax.nn.one_hot(tokens, VOCABULARY, dtype=jnp.bfloat16)
    return rows @ table.astype(jnp.bfloat16)


def embed(dtype):
    module = nn.Embed(VOCABULARY, FEATURES, dtype=dtype, param_dtype=jnp.float32)
    return lambda table, tokens: module.apply({"params": {"embedding": table}}, tokens)


LAYERS = {
    "Embed, float32": embed(jnp.float32),
    "Embed, bfloat16": embed(jnp.bfloat16),
    "one_hot @ table, bfloat16": one_hot,
    "table[tokens], then cast": cast_after,
}


def gradient(layer, tokens, cotangents):
    """Of the table, when the loss has `cotangents`, which bfloat16 has, by the rows."""

    @jax.jit
    def of(table):
        _, pull = jax.vjp(lambda table: layer(table, tokens), table)
        return pull(cotangents.astype(layer(table, tokens[:1]).dtype))[0]

    return np.asarray(of(jnp.zeros((VOCABULARY, FEATURES), jnp.float32)))


print("1000 places of one token, gradients of 1")
once = np.zeros(1000, np.int32), jnp.ones((1000, FEATURES))
for name, layer in LAYERS.items():
    print(f"  {name}: {gradient(layer, *once)[0, 0]:.0f}")
ones, zeros = jnp.ones(1000, jnp.bfloat16), np.zeros(1000, np.int32)
sums = {
    "sum": jnp.sum(ones),
    "cumsum": jnp.cumsum(ones)[-1],
    "dot": jnp.dot(ones, ones),
    "segment_sum": jax.ops.segment_sum(ones, zeros, 1)[0],
    "bincount": jnp.bincount(zeros, weights=ones, length=1)[0],
    "at[].add": jnp.zeros(1, jnp.bfloat16).at[zeros].add(ones)[0],
}
print("  1000 ones of bfloat16:", *(f"{name} {x:.0f}" for name, x in sums.items()))
rng = np.random.default_rng(0)
places = 1 / np.arange(1, VOCABULARY + 1)
tokens = rng.choice(VOCABULARY, 65536, p=places / places.sum()).astype(np.int32)
counts = np.bincount(tokens, minlength=VOCABULARY)
cotangents = jnp.asarray(rng.normal(0.1, 1, (65536, FEATURES)), jnp.bfloat16)
cotangents = cotangents.astype(jnp.float32)
exact = np.zeros((VOCABULARY, FEATURES))
np.add.at(exact, tokens, np.asarray(cotangents, np.float64))
print(f"65536 tokens, the first {counts[0]} times, {np.sum(counts > 1000)} more than 1000")
for name, layer in list(LAYERS.items()):
    found = gradient(layer, tokens, cotangents)
    off = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
    median = np.median(off[counts > 1000])
    print(f"  {name}: the first is {off[0]:.1%} off, of these the median {median:.1%}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/embed.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
1000 places of one token, gradients of 1
  Embed, float32: 1000
  Embed, bfloat16: 256
  one_hot @ table, bfloat16: 1000
  table[tokens], then cast: 1000
  1000 ones of bfloat16: sum 1000 cumsum 1000 dot 1000 segment_sum 256 bincount 256 at[].add 256
65536 tokens, the first 7493 times, 7 more than 1000
  Embed, float32: the first is 0.0% off, of these the median 0.0%
  Embed, bfloat16: the first is 18.6% off, of these the median 4.6%
  one_hot @ table, bfloat16: the first is 0.2% off, of these the median 0.2%
  table[tokens], then cast: the first is 0.0% off, of these the median 0.0%
EXPECTED
