#!/usr/bin/env bash
# optax 0.2.8: adafactor with a decay_offset makes NaN at the first step of fine-tuning.
#
# "decay_offset: For fine-tuning, one may set this to the starting step number of the
# fine-tuning phase." Adafactor's decay is 1 - t^-0.8. t is 1 at the first step that the
# optimizer's state has counted, less the offset. Fine-tuning mostly begins with the weights
# and a new state, of T5 at step 1,000,000: t is then negative, its power NaN, and with it
# every parameter, for good. An offset of 1 does it: 0^-0.8 is infinite. The offset is right
# for a state that is restored too and has counted as many steps. In MultiSteps of 4 batches
# it has counted 250,000 at the trainer's step 1,000,000, and the parameters are NaN again. A
# new state needs no offset.
#
# Command: findings/optax_adafactor_decay_offset.sh
# Prints, and fails if it changes: a parameter after each of 3 steps of 0.01 from 1.
#   new state
#     decay_offset 0: 0.99 0.98 0.97
#     decay_offset 1: nan nan nan
#     decay_offset 1000000: nan nan nan
#   state that has counted 1000000 steps
#     decay_offset 1000000: 0.99 0.98 0.97
#   state that has counted 250000 steps, in MultiSteps of 4 batches
#     decay_offset 1000000: nan nan nan
#     decay_offset 250000: 0.99 0.98 0.97
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check optax==0.2.8 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$folder/offset.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import optax


def adafactor(decay_offset):
    settings = {"multiply_by_parameter_scale": False, "decay_offset": decay_offset}
    return optax.adafactor(0.01, **settings)


def counted(optimizer, params, steps):
    """A state of `optimizer` as it is after `steps` steps with gradients of 1."""
    _, state = adafactor(0).update(jnp.ones(2), optimizer.init(params), params)
    return (state[0]._replace(count=jnp.asarray(steps, jnp.int32)), *state[1:])


def show(decay_offset, steps=0, batches=1):
    optimizer = adafactor(decay_offset)
    params = jnp.ones(2)
    state = optimizer.init(params)
    if steps:
        state = counted(optimizer, params, steps)
    if batches > 1:
        several = optax.MultiSteps(optimizer, batches)
        new = several.init(params)
        state = new._replace(gradient_step=state[0].count, inner_opt_state=state)
        optimizer = several
    update = jax.jit(optimizer.update)
    seen = []
    for _ in range(3):
        for _ in range(batches):
            updates, state = update(jnp.ones(2), state, params)
            params = optax.apply_updates(params, updates)
        seen.append(f"{params[0]:.2f}")
    print(f"  decay_offset {decay_offset}:", *seen)


print("new state")
for offset in (0, 1, 1_000_000):
    show(offset)
print("state that has counted 1000000 steps")
show(1_000_000, steps=1_000_000)
print("state that has counted 250000 steps, in MultiSteps of 4 batches")
for offset in (1_000_000, 250_000):
    show(offset, steps=250_000, batches=4)
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/offset.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
new state
  decay_offset 0: 0.99 0.98 0.97
  decay_offset 1: nan nan nan
  decay_offset 1000000: nan nan nan
state that has counted 1000000 steps
  decay_offset 1000000: 0.99 0.98 0.97
state that has counted 250000 steps, in MultiSteps of 4 batches
  decay_offset 1000000: nan nan nan
  decay_offset 250000: 0.99 0.98 0.97
EXPECTED
