#!/usr/bin/env bash
# optax 0.2.8: adafactor's weight decay is not multiplied by the learning rate.
#
# optax.adafactor documents weight_decay_rate as "Optional rate at which to decay weights".
# In adamw, nadamw, adamaxw, lion and adan the decay is a part of the update, which the
# learning rate scales: at a learning rate of 0 nothing moves. adafactor adds it behind the
# learning rate. A rate of 0.1 takes a tenth of every parameter at every step, whatever the
# schedule says, and what is left after 100 steps at a learning rate of 0 is 0.00003 of them.
#
# Command: findings/optax_adafactor_weight_decay.sh
# Prints, and fails if it changes:
#   100 steps at a learning rate of   0        0.01
#   adamw                           1.00000  0.90479
#   nadamw                          1.00000  0.90479
#   adamaxw                         1.00000  0.90479
#   lion                            1.00000  0.90479
#   adan                            1.00000  0.90479
#   adafactor                       0.00003  0.00003
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    optax==0.2.8 jax==0.10.2 jaxlib==0.10.2
cat >"$folder/decay.py" <<'PYTHON'
import inspect

import jax.numpy as jnp
import optax

STEPS, RATE = 100, 0.1


def left(make, learning_rate):
    """What is left of parameters of 1 after STEPS without gradients of the loss."""
    names = inspect.signature(make).parameters
    name = next(name for name in ("weight_decay", "weight_decay_rate") if name in names)
    optimizer = make(learning_rate, **{name: RATE})
    parameters = jnp.ones((4, 4))
    state = optimizer.init(parameters)
    for _ in range(STEPS):
        updates, state = optimizer.update(jnp.zeros((4, 4)), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return f"{parameters.mean():.5f}"


print(f"{STEPS} steps at a learning rate of   0        0.01")
names = ("adamw", "nadamw", "adamaxw", "lion", "adan", "adafactor")
for name in names:
    make = getattr(optax, name)
    print(f"{name:<31} {left(make, 0.0)}  {left(make, 0.01)}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/decay.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
100 steps at a learning rate of   0        0.01
adamw                           1.00000  0.90479
nadamw                          1.00000  0.90479
adamaxw                         1.00000  0.90479
lion                            1.00000  0.90479
adan                            1.00000  0.90479
adafactor                       0.00003  0.00003
EXPECTED
