#!/usr/bin/env bash
# optax 0.2.8: inject_hyperparams makes Adam of bfloat16 weights NaN at its first step.
#
# inject_hyperparams keeps the hyperparameters in the optimizer's state, to schedule,
# change or log them. "hyperparam_dtype: Optional datatype override. If specified, all
# float hyperparameters will be cast to this type." Not specified, all are cast to the
# widest type of the weights. In bfloat16 b2=0.999, the default, as all from 0.9981 on,
# becomes 1: the second moment stays 0 and is divided by 1 - 1. optax.adam and adamw
# without the wrapper take the same step as in float32; so does the wrapper with float32,
# or with one array of float32 among the weights. b2=0.99 becomes 0.988, with no error.
#
# Command: findings/optax_inject_bfloat16.sh
# Prints, and fails if it changes:
#   float32: adam -0.0010, injected -0.0010, adamw -0.0010, injected -0.0010, b2 0.999
#   bfloat16: adam -0.0010, injected nan, adamw -0.0010, injected nan, b2 1.0
#   bfloat16, hyperparam_dtype float32: injected -0.0010, b2 0.999
#   bfloat16 and float32: injected -0.0010, b2 0.999
#   b2 given and kept: 0.95 0.949, 0.99 0.988, 0.998 0.996, 0.9981 1.0, 0.9999 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check optax==0.2.8 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$folder/inject.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import optax


def first_step(optimizer, *dtypes):
    """The update of one of the weights, and the b2 in the state if there is one."""
    weights = [jnp.ones(2, dtype) for dtype in dtypes]
    state = optimizer.init(weights)
    gradients = jax.tree.map(lambda w: 0.5 * w, weights)
    updates, _ = jax.jit(optimizer.update)(gradients, state, weights)
    b2 = getattr(state, "hyperparams", {}).get("b2", 0.0)
    return f"{float(updates[0][0]):.4f}", round(float(b2), 3)


def injected(factory, *dtypes, hyperparam_dtype=None, **settings):
    wrapped = optax.inject_hyperparams(factory, hyperparam_dtype=hyperparam_dtype)
    return first_step(wrapped(1e-3, **settings), *dtypes)


for dtype in (jnp.float32, jnp.bfloat16):
    steps = []
    for factory in (optax.adam, optax.adamw):
        plain, _ = first_step(factory(1e-3), dtype)
        step, b2 = injected(factory, dtype)
        steps.append(f"{factory.__name__} {plain}, injected {step}")
    print(f"{dtype.__name__}: {', '.join(steps)}, b2 {b2}")
step, b2 = injected(optax.adam, jnp.bfloat16, hyperparam_dtype=jnp.float32)
print(f"bfloat16, hyperparam_dtype float32: injected {step}, b2 {b2}")
step, b2 = injected(optax.adam, jnp.bfloat16, jnp.float32)
print(f"bfloat16 and float32: injected {step}, b2 {b2}")
kept = [
    f"{b2} {injected(optax.adam, jnp.bfloat16, b2=b2)[1]}"
    for b2 in (0.95, 0.99, 0.998, 0.9981, 0.9999)
]
print(f"b2 given and kept: {', '.join(kept)}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/inject.py")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
float32: adam -0.0010, injected -0.0010, adamw -0.0010, injected -0.0010, b2 0.999
bfloat16: adam -0.0010, injected nan, adamw -0.0010, injected nan, b2 1.0
bfloat16, hyperparam_dtype float32: injected -0.0010, b2 0.999
bfloat16 and float32: injected -0.0010, b2 0.999
b2 given and kept: 0.95 0.949, 0.99 0.988, 0.998 0.996, 0.9981 1.0, 0.9999 1.0
EXPECTED
