#!/usr/bin/env bash
# JAX 0.10.2: random numbers in bfloat16 take 128 values, and their mean is not 0.
#
# jax.random.normal and truncated_normal take a dtype and document their density, symmetric
# about 0. In bfloat16 they are made of a uniform number of 7 bits: 128 values, of mean
# -0.012. Weights of 4096 inputs that jax.nn.initializers.lecun_normal makes so move the
# outputs, if the inputs are 1, by more than their standard deviation; made in float32 and
# cast, they do not. jax.random.categorical adds such noise to logits of bfloat16: many
# classes draw the same greatest one, and the first of them is taken. Of 32,128 equal logits
# no draw in 1,000 is from the upper 95%. Its documentation has "in float32 sampling will be
# biased for events with probability less than about 1E-7", and nothing of bfloat16.
#
# Command: findings/jax_bfloat16_random.sh
# Prints, and fails if it changes:
#   float32: 1000000 normal numbers, more than 100000 values, mean +0.000
#     outputs of weights of lecun_normal, 4096 inputs of 1: mean +0.0, deviation 1.0
#     1000 draws from 32128 equal logits: the largest above 30000
#   bfloat16: 1000000 normal numbers, 128 values, mean -0.012
#     outputs of weights of lecun_normal, 4096 inputs of 1: mean -1.1, deviation 1.0
#     1000 draws from 32128 equal logits: the largest below 1600
#   float32, cast to bfloat16: outputs have the mean +0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml-dtypes==0.6.0
cat >"$folder/draw.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

INPUTS, CLASSES = 4096, 32128
key = jax.random.key(0)


def outputs(weights):
    return np.asarray(weights.astype(jnp.float32).sum(0))


def mean(x):
    return f"{round(float(x.mean()), 1) + 0.0:+.1f}"


initializer = jax.nn.initializers.lecun_normal()
for dtype in (jnp.float32, jnp.bfloat16):
    numbers = np.asarray(jax.random.normal(key, (1_000_000,), dtype)).astype(np.float64)
    values = len(np.unique(numbers))
    values = values if values < 100_000 else "more than 100000"
    average = round(numbers.mean(), 3) + 0.0
    print(
        f"{dtype.__name__}: {numbers.size} normal numbers, {values} values, "
        f"mean {average:+.3f}"
    )
    y = outputs(initializer(key, (INPUTS, 1024), dtype))
    print(
        f"  outputs of weights of lecun_normal, {INPUTS} inputs of 1: mean {mean(y)}, "
        f"deviation {y.std():.1f}"
    )
    draws = jax.random.categorical(key, jnp.zeros(CLASSES, dtype), shape=(1000,))
    largest = int(draws.max())
    bound = "above 30000" if largest > 30_000 else "below 1600"
    assert largest < 1600 or largest > 30_000, largest
    print(f"  1000 draws from {CLASSES} equal logits: the largest {bound}")
y = outputs(initializer(key, (INPUTS, 1024)).astype(jnp.bfloat16))
print(f"float32, cast to bfloat16: outputs have the mean {mean(y)}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/draw.py")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
float32: 1000000 normal numbers, more than 100000 values, mean +0.000
  outputs of weights of lecun_normal, 4096 inputs of 1: mean +0.0, deviation 1.0
  1000 draws from 32128 equal logits: the largest above 30000
bfloat16: 1000000 normal numbers, 128 values, mean -0.012
  outputs of weights of lecun_normal, 4096 inputs of 1: mean -1.1, deviation 1.0
  1000 draws from 32128 equal logits: the largest below 1600
float32, cast to bfloat16: outputs have the mean +0.0
EXPECTED
