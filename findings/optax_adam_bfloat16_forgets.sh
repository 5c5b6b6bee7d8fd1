#!/usr/bin/env bash
# optax 0.2.8: of bfloat16 weights Adam's second moment never gets smaller.
#
# optax.adam keeps the second moment in the type of the weights, and has no argument to
# change that: mu_dtype is for the first. Each step keeps b2 of it and adds 1 - b2 of the
# squared gradient. In bfloat16 b2=0.999, the default, as all from 0.9981 on, is 1: the moment
# is a sum from which nothing is taken, while its bias is corrected for 0.999, in float32.
# After 1,000 gradients of 1, as before a warm-up has ended, gradients of 0.01 make steps of
# 0.014 of the learning rate, for as long as training lasts; in float32 they make 1. Nothing
# is NaN, and there is no error. adamw and lamb have the same moment. Adafactor's decay is an
# array of float32, but its moments are rounded to bfloat16 after each step, and after 2,400
# steps what a step takes away is rounded off: the same 0.014. Adam with b2=0.95 forgets (0.95), and
# so does Adam whose state was made by init of the weights as float32.
#
# Command: findings/optax_adam_bfloat16_forgets.sh
# Prints, and fails if it changes: after 1,000 gradients of 1 and 20,000 of 0.01 the step,
# of the learning rate, and the second moment of Adam.
#                               float32   bfloat16
#   adam                              1      0.014
#     second moment              0.0001        0.5
#   adam, mu_dtype float32            1      0.014
#   adafactor                         1      0.014
#   adam, b2=0.95                     1       0.95
#   adam, state of float32            1          1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check optax==0.2.8 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml-dtypes==0.6.0
cat >"$folder/forgets.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import optax

LARGE, SMALL = 1000, 20000
TYPES = (jnp.float32, jnp.bfloat16)


def last_step(optimizer, dtype, state_dtype):
    """The size of the last step, at a learning rate of 1, and the state after it."""

    @jax.jit
    def run(weights, gradients):
        def update(state, gradient):
            gradient = jnp.full_like(weights, gradient)
            return optimizer.update(gradient, state, weights)

        state = optimizer.init(weights.astype(state_dtype))
        rest, last = gradients[:-1], gradients[-1]
        state, _ = jax.lax.scan(lambda s, g: (update(s, g)[1], None), state, rest)
        return update(state, last)

    gradients = jnp.where(jnp.arange(LARGE + SMALL) < LARGE, 1.0, 0.01)
    updates, state = run(jnp.ones((8, 8), dtype), gradients.astype(dtype))
    return float(-updates[0, 0]), state


def show(name, numbers):
    print(f"  {name:<24}", *(f"{x:>10.2g}" for x in numbers))


def steps(optimizer, state_dtype=None):
    return [last_step(optimizer, dtype, state_dtype or dtype)[0] for dtype in TYPES]


adam = optax.adam(1.0)
adafactor = optax.adafactor(
    1.0,
    min_dim_size_to_factor=8,
    multiply_by_parameter_scale=False,
    clipping_threshold=None,
)
print(f"{'':<26}", *(f"{dtype.__name__:>10}" for dtype in TYPES))
show("adam", steps(adam))
moments = [last_step(adam, dtype, dtype)[1][0].nu[0, 0] for dtype in TYPES]
show("  second moment", map(float, moments))
show("adam, mu_dtype float32", steps(optax.adam(1.0, mu_dtype=jnp.float32)))
show("adafactor", steps(adafactor))
show("adam, b2=0.95", steps(optax.adam(1.0, b2=0.95)))
show("adam, state of float32", steps(adam, jnp.float32))
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/forgets.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
                              float32   bfloat16
  adam                              1      0.014
    second moment              0.0001        0.5
  adam, mu_dtype float32            1      0.014
  adafactor                         1      0.014
  adam, b2=0.95                     1       0.95
  adam, state of float32            1          1
EXPECTED
