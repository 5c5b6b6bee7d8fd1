#!/usr/bin/env bash
# ml-dtypes 0.6.0: NumPy sums int4 in 4 bits, and the mean of twenty 7 is 0.
#
# NumPy adds up its own small integers in 64 bits, and takes their mean in float64. Of int4 and
# uint4, which are types of ml_dtypes, sum and cumsum stay in 4 bits and wrap, and mean
# divides what is left, in 4 bits too: of weights quantized to int4 each of these numbers is
# noise, and none is an error. dtype=np.int32, or astype before, gives the right ones. The mean of
# jax.numpy 0.10.2 is right, and its sum is an error.
#
# Command: findings/numpy_int4_sum.sh
# Prints, and fails if it changes: of an array of 20 times 7.
#   int8: sum 140 (int64), mean 7.0, cumsum ends at 140, with dtype=int32 sum 140
#   int4: sum -4 (int4), mean 0, cumsum ends at -4, with dtype=int32 sum 140
#   uint4: sum 12 (uint4), mean 0, cumsum ends at 12, with dtype=int32 sum 140
#   jax.numpy.sum of int4: Invalid integer data type 'V'.
#   jax.numpy.mean of int4: 7.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 ml-dtypes==0.6.0 \
    jax==0.10.2 jaxlib==0.10.2
cat >"$folder/sums.py" <<'PYTHON'
import jax.numpy as jnp
import ml_dtypes
import numpy as np

for name, dtype in (
    ("int8", np.int8),
    ("int4", ml_dtypes.int4),
    ("uint4", ml_dtypes.uint4),
):
    x = np.full(20, 7, dtype)
    print(
        f"{name}: sum {x.sum()} ({x.sum().dtype}), mean {x.mean()}, cumsum ends at "
        f"{np.cumsum(x)[-1]}, with dtype=int32 sum {x.sum(dtype=np.int32)}"
    )
for name in ("sum", "mean"):
    try:
        print(f"jax.numpy.{name} of int4:", getattr(jnp, name)(jnp.full(20, 7, jnp.int4)))
    except ValueError as e:
        print(f"jax.numpy.{name} of int4: {e}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/sums.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
int8: sum 140 (int64), mean 7.0, cumsum ends at 140, with dtype=int32 sum 140
int4: sum -4 (int4), mean 0, cumsum ends at -4, with dtype=int32 sum 140
uint4: sum 12 (uint4), mean 0, cumsum ends at 12, with dtype=int32 sum 140
jax.numpy.sum of int4: Invalid integer data type 'V'.
jax.numpy.mean of int4: 7.0
EXPECTED
