#!/usr/bin/env bash
# clu 0.0.12 with JAX 0.10.2: of 2^31 tokens or more in one summary accuracy is wrong.
#
# Metrics of single steps are merged until a summary is written. clu.metrics.Average, and so
# Accuracy, counts what it has seen as int32, which wraps around without an error, while the
# total beside it is a float32. Of batches of 256 rows of 114 target tokens, as in pre-training
# by span corruption, that is so from the 73,585th step of a summary on: of a model that is
# always right accuracy falls from 1 to -1, to -262,000, and starts anew from 336,000. No
# argument of from_model_output makes the count a float; replace(count=...) does.
#
# Command: findings/clu_count_overflow.sh
# Prints, and fails if it changes:
#   accuracy of a model that is always right, of steps of 29184 tokens
#     73584: 1, of 2147475456 tokens
#     73585: -1, of -2147462656 tokens
#     147168: -2.62e+05, of -16384 tokens
#     147169: 3.36e+05, of 12800 tokens
#   with a count of float32
#     147169: 1, of 4294980096 tokens
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check clu==0.0.12 flax==0.12.8 \
    orbax-checkpoint==0.12.8 optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 \
    ml-dtypes==0.6.0
cat >"$folder/accuracy.py" <<'PYTHON'
from clu import metrics
import jax
import jax.numpy as jnp

ROWS, LENGTH = 256, 114
labels = jnp.ones((ROWS, LENGTH), jnp.int32)
logits = jnp.stack([jnp.zeros(labels.shape), jnp.ones(labels.shape)], axis=-1)
step = metrics.Accuracy.from_model_output(logits=logits, labels=labels)


@jax.jit
def merged(metric, steps):
    return jax.lax.fori_loop(1, steps, lambda _, total: total.merge(metric), metric)


def show(metric, steps):
    found = merged(metric, steps)
    print(f"  {steps}: {found.compute():.3g}, of {int(found.count)} tokens")


print(f"accuracy of a model that is always right, of steps of {ROWS * LENGTH} tokens")
for steps in (73584, 73585, 147168, 147169):
    show(step, steps)
print("with a count of float32")
show(step.replace(count=step.count.astype(jnp.float32)), 147169)
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/accuracy.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
accuracy of a model that is always right, of steps of 29184 tokens
  73584: 1, of 2147475456 tokens
  73585: -1, of -2147462656 tokens
  147168: -2.62e+05, of -16384 tokens
  147169: 3.36e+05, of 12800 tokens
with a count of float32
  147169: 1, of 4294980096 tokens
EXPECTED
