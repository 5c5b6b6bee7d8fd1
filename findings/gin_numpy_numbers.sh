#!/usr/bin/env bash
# gin-config 0.5.0 with NumPy 2: a saved configuration lacks the numbers that NumPy made.
#
# gin writes a parameter whose repr it can read back, and leaves the others out, without a word.
# NumPy 2 writes np.float64(0.1) where NumPy 1 wrote 0.1. A learning rate from np.geomspace, bound
# by bind_parameter, trains with its value, and neither config_str nor operative_config_str has
# it: a run of the saved file trains with the default. Lists of such numbers are lost whole.
# Infinity, which 1e999 is, is lost with every NumPy. float(x), or binding text, is saved.
#
# Command: findings/gin_numpy_numbers.sh
# Prints, and fails if it changes: what is bound, what train gets, and what it gets again, from
# either saved text.
#   NumPy 1.26.4
#     np.float64: rate 0.1, layers 4; again: rate 0.1, layers 4
#     float(np.float64): rate 0.1, layers 4; again: rate 0.1, layers 4
#     np.int64: rate 0.1, layers 6; again: rate 0.1, layers 6
#     1e999: rate inf, layers 4; again: rate 0.001, layers 4
#   NumPy 2.4.6
#     np.float64: rate 0.1, layers 4; again: rate 0.001, layers 4
#     float(np.float64): rate 0.1, layers 4; again: rate 0.1, layers 4
#     np.int64: rate 0.1, layers 6; again: rate 0.1, layers 2
#     1e999: rate inf, layers 4; again: rate 0.001, layers 4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check gin-config==0.5.0
cat >"$folder/saved.py" <<'PYTHON'
import gin
import numpy as np


@gin.configurable
def train(rate=0.001, layers=2):
    return rate, layers


def show(name, rate, layers=4):
    gin.clear_config()
    if rate == "1e999":
        gin.parse_config("train.rate = 1e999")
    else:
        gin.bind_parameter("train.rate", rate)
    gin.bind_parameter("train.layers", layers)
    first = train()
    bound, ran = gin.config_str(), gin.operative_config_str()
    again = []
    for text in (bound, ran):
        gin.clear_config()
        gin.parse_config(text)
        again.append(train())
    values = lambda run: f"rate {float(run[0]):g}, layers {run[1]}"
    assert again[0] == again[1]
    print(f"  {name}: {values(first)}; again: {values(again[0])}")


rate = np.geomspace(0.01, 1.0, 3)[1]
print(f"NumPy {np.__version__}")
show("np.float64", rate)
show("float(np.float64)", float(rate))
show("np.int64", 0.1, layers=np.int64(6))
show("1e999", "1e999")
PYTHON
seen=$(
    for version in 1.26.4 2.4.6; do
        "$folder/venv/bin/pip" install -qq --disable-pip-version-check numpy==$version
        "$folder/venv/bin/python" "$folder/saved.py"
    done 2>"$folder/log"
) || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
NumPy 1.26.4
  np.float64: rate 0.1, layers 4; again: rate 0.1, layers 4
  float(np.float64): rate 0.1, layers 4; again: rate 0.1, layers 4
  np.int64: rate 0.1, layers 6; again: rate 0.1, layers 6
  1e999: rate inf, layers 4; again: rate 0.001, layers 4
NumPy 2.4.6
  np.float64: rate 0.1, layers 4; again: rate 0.001, layers 4
  float(np.float64): rate 0.1, layers 4; again: rate 0.1, layers 4
  np.int64: rate 0.1, layers 6; again: rate 0.1, layers 2
  1e999: rate inf, layers 4; again: rate 0.001, layers 4
EXPECTED
