#!/usr/bin/env bash
# flax 0.12.8: with a mask that broadcasts nnx.metrics.Average is too large, and Accuracy
# above 1.
#
# "We use `values * mask` rule and mask shape should be broadcastable to the shape of values
# array." The total is of all values that the mask reaches; what it is divided by is the sum
# of the mask as it is. Of losses of 4 rows of 114 tokens, each 2, and a mask of the rows,
# (4, 1), the average is 228, and accuracy 114; with a mask of the places, (114,), loss is 8
# and accuracy 4. With a mask of each token both are right. A loss that is NaN where it is
# masked, as of a row of padding, makes the average NaN: it is multiplied by 0. So the loss
# of an evaluation, and what is chosen by it, depends on the shape of the mask. clu.metrics
# takes the same masks of rows and tokens, and has 2 and 1 each time. A mask that
# jnp.broadcast_to has given the shape of the values is right.
#
# Command: findings/flax_nnx_metrics_mask.sh
# Prints, and fails if it changes:
#   every loss is 2, every prediction right
#     mask (4, 114): nnx loss 2, accuracy 1; clu loss 2, accuracy 1
#     mask (4, 1): nnx loss 228, accuracy 114; clu loss 2, accuracy 1
#     mask (114,): nnx loss 8, accuracy 4
#   NaN where it is masked, mask (4, 114): nnx loss nan; clu loss 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check clu==0.0.12 flax==0.12.8 \
    orbax-checkpoint==0.12.8 optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 \
    ml-dtypes==0.6.0
cat >"$folder/mask.py" <<'PYTHON'
from clu import metrics as clu_metrics
from flax import nnx
import jax.numpy as jnp

ROWS, LENGTH = 4, 114
losses = jnp.full((ROWS, LENGTH), 2.0)
labels = jnp.ones((ROWS, LENGTH), jnp.int32)
logits = jnp.stack([jnp.zeros(labels.shape), jnp.ones(labels.shape)], axis=-1)


def of_nnx(metric, **outputs):
    metric.update(**outputs)
    return f"{metric.compute():.3g}"


def of_clu(metric, **outputs):
    return f"{metric.from_model_output(**outputs).compute():.3g}"


def nnx_both(mask):
    loss = of_nnx(nnx.metrics.Average(), values=losses, mask=mask)
    right = of_nnx(nnx.metrics.Accuracy(), logits=logits, labels=labels, mask=mask)
    return f"mask {mask.shape}: nnx loss {loss}, accuracy {right}"


def clu_both(mask):
    loss = of_clu(clu_metrics.Average, values=losses, mask=mask)
    right = of_clu(clu_metrics.Accuracy, logits=logits, labels=labels, mask=mask)
    return f"clu loss {loss}, accuracy {right}"


rows = jnp.arange(ROWS)[:, None] < ROWS - 1
tokens = jnp.broadcast_to(rows, losses.shape)
places = jnp.arange(LENGTH) < 100
print("every loss is 2, every prediction right")
for mask in (tokens, rows):
    print(f"  {nnx_both(mask)}; {clu_both(mask)}")
print(f"  {nnx_both(places)}")
masked_nan = jnp.where(tokens, losses, jnp.nan)
loss = of_nnx(nnx.metrics.Average(), values=masked_nan, mask=tokens)
clu_loss = of_clu(clu_metrics.Average, values=masked_nan, mask=tokens)
what = f"NaN where it is masked, mask {tokens.shape}"
print(f"{what}: nnx loss {loss}; clu loss {clu_loss}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/mask.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
every loss is 2, every prediction right
  mask (4, 114): nnx loss 2, accuracy 1; clu loss 2, accuracy 1
  mask (4, 1): nnx loss 228, accuracy 114; clu loss 2, accuracy 1
  mask (114,): nnx loss 8, accuracy 4
NaN where it is masked, mask (4, 114): nnx loss nan; clu loss 2
EXPECTED
