#!/usr/bin/env bash
# numpy 2.4.6: with one NaN an array of bfloat16 is not sorted, and nothing says so.
#
# NumPy sorts NaN to the end, of its own types. The types of ml_dtypes, bfloat16 and the float8,
# are compared by < alone, which is False for NaN: it is taken for equal to all, and what is on
# either side of it is sorted by itself. argsort, by which hypotheses or losses are ranked, has
# the same order, and its last three are not the largest; unique gives a value twice; the
# median is a number, where float32 has NaN. jax.numpy.sort of the same array is right, and so
# is NumPy's after astype(float32).
#
# Command: findings/numpy_bfloat16_sort_nan.sh
# Prints, and fails if it changes: of 9 8 9 nan 6 5 4 3 2 1 9 8 what is sorted, what argsort
# ranks highest below NaN, the unique values, and the median.
#   float32
#     sorted 1 2 3 4 5 6 8 8 9 9 9 nan; highest 9 9 9
#     unique 1 2 3 4 5 6 8 9 nan; median nan
#   float16
#     sorted 1 2 3 4 5 6 8 8 9 9 9 nan; highest 9 9 9
#     unique 1 2 3 4 5 6 8 9 nan; median nan
#   bfloat16
#     sorted 8 9 9 nan 1 2 3 4 5 6 8 9; highest 9 8 6
#     unique 8 9 nan 1 2 3 4 5 6 8 9; median 2.5
#   float8_e5m2
#     sorted 8 8 8 nan 1 2 3 4 5 6 8 8; highest 8 8 6
#     unique 8 nan 1 2 3 4 5 6 8; median 2.5
#   bfloat16 of jax.numpy
#     sorted 1 2 3 4 5 6 8 8 9 9 9 nan; highest 9 9 9
#     unique 1 2 3 4 5 6 8 9 nan; median nan
#   bfloat16, no NaN
#     sorted 1 2 3 4 5 6 8 8 9 9 9; highest 9 9 9
#     unique 1 2 3 4 5 6 8 9; median 6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 ml-dtypes==0.6.0 \
    jax==0.10.2 jaxlib==0.10.2
cat >"$folder/sort.py" <<'PYTHON'
import jax.numpy as jnp
import ml_dtypes
import numpy as np

VALUES = [9, 8, 9, np.nan, 6, 5, 4, 3, 2, 1, 9, 8]


def text(values):
    return " ".join(f"{float(x):g}" for x in values)


def show(name, values, of=np):
    ranked = values[of.argsort(values)]
    highest = [x for x in ranked[::-1] if x == x][:3]
    print(
        f"{name}\n  sorted {text(of.sort(values))}; highest {text(highest)}\n"
        f"  unique {text(of.unique(values))}; median {text([of.median(values)])}"
    )


show("float32", np.array(VALUES, np.float32))
show("float16", np.array(VALUES, np.float16))
show("bfloat16", np.array(VALUES, ml_dtypes.bfloat16))
show("float8_e5m2", np.array(VALUES, ml_dtypes.float8_e5m2))
show("bfloat16 of jax.numpy", jnp.array(VALUES, jnp.bfloat16), jnp)
show("bfloat16, no NaN", np.array(VALUES[:3] + VALUES[4:], ml_dtypes.bfloat16))
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/sort.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
float32
  sorted 1 2 3 4 5 6 8 8 9 9 9 nan; highest 9 9 9
  unique 1 2 3 4 5 6 8 9 nan; median nan
float16
  sorted 1 2 3 4 5 6 8 8 9 9 9 nan; highest 9 9 9
  unique 1 2 3 4 5 6 8 9 nan; median nan
bfloat16
  sorted 8 9 9 nan 1 2 3 4 5 6 8 9; highest 9 8 6
  unique 8 9 nan 1 2 3 4 5 6 8 9; median 2.5
float8_e5m2
  sorted 8 8 8 nan 1 2 3 4 5 6 8 8; highest 8 8 6
  unique 8 nan 1 2 3 4 5 6 8; median 2.5
bfloat16 of jax.numpy
  sorted 1 2 3 4 5 6 8 8 9 9 9 nan; highest 9 9 9
  unique 1 2 3 4 5 6 8 9 nan; median nan
bfloat16, no NaN
  sorted 1 2 3 4 5 6 8 8 9 9 9; highest 9 9 9
  unique 1 2 3 4 5 6 8 9; median 6
EXPECTED
