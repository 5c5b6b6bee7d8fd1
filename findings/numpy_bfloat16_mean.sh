#!/usr/bin/env bash
# NumPy 2.4.6 with ml_dtypes 0.6.0: sums and means of bfloat16 stop growing, those of float16
# do not.
#
# A checkpoint of bfloat16 is restored to NumPy as arrays of ml_dtypes.bfloat16. Of float16
# NumPy adds in pairs, and computes the mean "using float32 intermediates for extra
# precision"; of bfloat16 it adds one number after the other, in bfloat16, where 256 + 1 is
# 256. So the mean of 4,096 ones is 0.0625, that of weights 0.0005 in place of 0.01, and a
# standard deviation is taken around it. dtype=numpy.float32, or an array of JAX, gives the
# right number.
#
# Command: findings/numpy_bfloat16_mean.sh
# Prints, and fails if it changes:
#                                  float16   bfloat16   bfloat16 as float32   JAX, bfloat16
#   mean of 4,096 ones                   1     0.0625                     1               1
#   sum of 4,096 ones                 4096        256                  4096            4096
#   mean of 0.02 x normal + 0.01      0.01   0.000488                  0.01          0.0101
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check ml_dtypes==0.6.0 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$folder/mean.py" <<'PYTHON'
import jax.numpy as jnp
import ml_dtypes
import numpy as np


def show(*cells):
    widths = (-29, 9, 11, 22, 16)
    print("".join(f"{c:{'<' if w < 0 else '>'}{abs(w)}}" for c, w in zip(cells, widths)))


def row(name, reduce, values):
    half, brain = values.astype(np.float16), values.astype(ml_dtypes.bfloat16)
    found = [reduce(half), reduce(brain), reduce(brain, dtype=np.float32)]
    found.append(reduce(jnp.asarray(brain)))
    show(name, *(f"{float(x):.3g}" if "0.0" in name else f"{float(x):g}" for x in found))


show("", "float16", "bfloat16", "bfloat16 as float32", "JAX, bfloat16")
ones = np.ones(4096)
row("mean of 4,096 ones", np.mean, ones)
row("sum of 4,096 ones", np.sum, ones)
weights = 0.02 * np.random.default_rng(0).normal(size=65536) + 0.01
row("mean of 0.02 x normal + 0.01", np.mean, weights)
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/mean.py")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
                               float16   bfloat16   bfloat16 as float32   JAX, bfloat16
mean of 4,096 ones                   1     0.0625                     1               1
sum of 4,096 ones                 4096        256                  4096            4096
mean of 0.02 x normal + 0.01      0.01   0.000488                  0.01          0.0101
EXPECTED
