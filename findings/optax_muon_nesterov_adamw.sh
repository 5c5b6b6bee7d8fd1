#!/usr/bin/env bash
# optax 0.2.8: what optax.contrib.muon leaves to AdamW is trained by NAdamW.
#
# Muon is for matrices; its documentation says that other parameters are passed through an
# AdamW optimizer. `nesterov`, True by default, goes to that AdamW too, which makes it
# NAdamW. So biases and scales, and embeddings where Muon is told to leave them, take steps
# that are not optax.adamw's of the same arguments: with β1 = 0.9, and a gradient that does
# not change, the first is 1.47 times the learning rate in place of 1.00. With
# nesterov=False they are the same, but Muon then has no Nesterov momentum either.
#
# Command: findings/optax_muon_nesterov_adamw.sh
# Prints, and fails if it changes:
#   optax.adamw                  1.00 1.00 1.00 1.00 1.00
#   optax.nadamw                 1.47 1.16 1.08 1.05 1.03
#   contrib.muon, nesterov=True  1.47 1.16 1.08 1.05 1.03
#   contrib.muon, nesterov=False 1.00 1.00 1.00 1.00 1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    optax==0.2.8 jax==0.10.2 jaxlib==0.10.2
cat >"$folder/bias.py" <<'PYTHON'
import jax.numpy as jnp
import optax
from optax import contrib

STEPS, RATE = 5, 0.1
B1, B2 = 0.9, 0.999


def steps(optimizer):
    """By how many learning rates a bias moves in each step, of a gradient of 1."""
    params = {"bias": jnp.zeros(3)}
    state, moved = optimizer.init(params), []
    for _ in range(STEPS):
        updates, state = optimizer.update({"bias": jnp.ones(3)}, state, params)
        moved.append(-float(updates["bias"][0]) / RATE)
    return " ".join(f"{x:.2f}" for x in moved)


print("optax.adamw                 ", steps(optax.adamw(RATE, B1, B2)))
print("optax.nadamw                ", steps(optax.nadamw(RATE, B1, B2)))
for nesterov in (True, False):
    muon = contrib.muon(RATE, adam_b1=B1, adam_b2=B2, nesterov=nesterov)
    print(f"contrib.muon, nesterov={nesterov!s:<5}", steps(muon))
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/bias.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
optax.adamw                  1.00 1.00 1.00 1.00 1.00
optax.nadamw                 1.47 1.16 1.08 1.05 1.03
contrib.muon, nesterov=True  1.47 1.16 1.08 1.05 1.03
contrib.muon, nesterov=False 1.00 1.00 1.00 1.00 1.00
EXPECTED
