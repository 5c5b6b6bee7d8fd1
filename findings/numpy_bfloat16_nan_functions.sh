#!/usr/bin/env bash
# numpy 2.4.6: nan_to_num leaves the NaN of bfloat16, and nansum and nanmean count it.
#
# NumPy looks for NaN in types that are np.inexact, and of the types of ml_dtypes none is. Of
# bfloat16 and float8 nan_to_num gives back what it got; nansum and nanmean are NaN, as is all
# of nancumsum from there on; nanargmax, which is to skip NaN, is its index, while nanmax is
# right, so that x[nanargmax(x)] is not nanmax(x). None is an error. testing.assert_array_equal
# says that an array with NaN differs from itself, one of jax.numpy too. Otherwise the
# same functions of jax.numpy are right, and so are NumPy's after astype(float32).
#
# Command: findings/numpy_bfloat16_nan_functions.sh
# Prints, and fails if it changes: of 1 2 nan 4 0.
#   float32
#     nan_to_num 1 2 0 4 0, nansum 7, nanmean 1.75, nancumsum 1 3 3 7 7, nanmax 4, nanargmax 3
#     equal to itself: True
#   bfloat16
#     nan_to_num 1 2 nan 4 0, nansum nan, nanmean nan, nancumsum 1 3 nan nan nan, nanmax 4, nanargmax 2
#     equal to itself: False
#   float8_e5m2
#     nan_to_num 1 2 nan 4 0, nansum nan, nanmean nan, nancumsum 1 3 nan nan nan, nanmax 4, nanargmax 2
#     equal to itself: False
#   bfloat16 of jax.numpy
#     nan_to_num 1 2 0 4 0, nansum 7, nanmean 1.75, nancumsum 1 3 3 7 7, nanmax 4, nanargmax 3
#     equal to itself: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 ml-dtypes==0.6.0 \
    jax==0.10.2 jaxlib==0.10.2
cat >"$folder/nans.py" <<'PYTHON'
import jax.numpy as jnp
import ml_dtypes
import numpy as np

VALUES = [1, 2, np.nan, 4, 0]
NAMES = ("nan_to_num", "nansum", "nanmean", "nancumsum", "nanmax", "nanargmax")


def text(values):
    return " ".join(f"{float(x):.3g}" for x in np.atleast_1d(values))


def is_itself(x):
    try:
        np.testing.assert_array_equal(x, x)
    except AssertionError:
        return False
    return True


def show(name, x, of=np):
    found = (f"{function} {text(getattr(of, function)(x))}" for function in NAMES)
    print(f"{name}\n  {', '.join(found)}\n  equal to itself: {is_itself(x)}")


show("float32", np.array(VALUES, np.float32))
show("bfloat16", np.array(VALUES, ml_dtypes.bfloat16))
show("float8_e5m2", np.array(VALUES, ml_dtypes.float8_e5m2))
show("bfloat16 of jax.numpy", jnp.array(VALUES, jnp.bfloat16), jnp)
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/nans.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
float32
  nan_to_num 1 2 0 4 0, nansum 7, nanmean 1.75, nancumsum 1 3 3 7 7, nanmax 4, nanargmax 3
  equal to itself: True
bfloat16
  nan_to_num 1 2 nan 4 0, nansum nan, nanmean nan, nancumsum 1 3 nan nan nan, nanmax 4, nanargmax 2
  equal to itself: False
float8_e5m2
  nan_to_num 1 2 nan 4 0, nansum nan, nanmean nan, nancumsum 1 3 nan nan nan, nanmax 4, nanargmax 2
  equal to itself: False
bfloat16 of jax.numpy
  nan_to_num 1 2 0 4 0, nansum 7, nanmean 1.75, nancumsum 1 3 3 7 7, nanmax 4, nanargmax 3
  equal to itself: False
EXPECTED
