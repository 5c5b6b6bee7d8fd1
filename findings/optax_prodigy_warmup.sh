#!/usr/bin/env bash
# optax 0.2.8: prodigy and dadapt_adamw make NaN of a warm-up that begins at 0.
#
# Both of optax.contrib estimate the scale of the learning rate by a quotient of sums that
# the schedule weighs. After a first step of rate 0, or whose gradients are 0, both sums are
# 0, the estimate is 0 / 0, and the parameters are NaN: prodigy's at once, dadapt_adamw's a
# step later. The documentation of prodigy recommends "a 0-20% learning rate warmup"; of
# optax.warmup_cosine_decay_schedule an init_value of 1e-8 is 0 too, in float32.
# apply_if_finite does not help: it looks at gradients, which are finite when the parameters
# become NaN. prodigy's safeguard_warmup, "Off by default", does for the rate, not for the
# gradients. dog, dowg, cocob and mechanize go on after gradients of 0.
#
# Command: findings/optax_prodigy_warmup.sh
# Prints, and fails if it changes: a parameter after each of the first 6 steps, of a loss
# whose minimum is at 1; in the last three lines, with which optimizers it is finite.
#   warm-up from 0
#     prodigy: nan nan nan nan nan nan
#     dadapt_adamw: 0 nan nan nan nan nan
#     apply_if_finite(prodigy): nan nan nan nan nan nan
#   warm-up from 1e-8, in float32 0
#     prodigy: nan nan nan nan nan nan
#     dadapt_adamw: 0 nan nan nan nan nan
#   no warm-up, gradients of 0 at the first step
#     prodigy: nan nan nan nan nan nan
#     dadapt_adamw: 0 nan nan nan nan nan
#     prodigy, safeguard_warmup: nan nan nan nan nan nan
#   warm-up from 0: finite of prodigy with safeguard_warmup
#   warm-up from 1e-6: finite of prodigy, dadapt_adamw
#   gradients of 0 at the first step: finite of dog, dowg, cocob, mechanize
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check optax==0.2.8 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$folder/warmup.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib


def schedule(first):
    return optax.warmup_cosine_decay_schedule(first, 1.0, 3, 100)


def train(optimizer, first_gradient=1.0):
    """The first of three parameters after each step."""
    params = jnp.zeros(3)
    state = optimizer.init(params)
    seen = []
    for step in range(6):
        grads = jax.grad(lambda x: jnp.sum((x - 1) ** 2) / 2)(params)
        grads *= 1.0 if step else first_gradient
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(float(params[0]))
    return seen


def show(name, *args):
    print(f"  {name}:", *(f"{x:.0f}" for x in train(*args)))


def show_finite(what, optimizers, *args):
    names = [n for n, o in optimizers.items() if np.isfinite(train(o, *args)).all()]
    print(f"{what}: finite of {', '.join(names)}")


print("warm-up from 0")
show("prodigy", contrib.prodigy(schedule(0.0)))
show("dadapt_adamw", contrib.dadapt_adamw(schedule(0.0)))
careful = optax.apply_if_finite(contrib.prodigy(schedule(0.0)), max_consecutive_errors=4)
show("apply_if_finite(prodigy)", careful)
print(f"warm-up from 1e-8, in float32 {schedule(1e-8)(0):.0f}")
show("prodigy", contrib.prodigy(schedule(1e-8)))
show("dadapt_adamw", contrib.dadapt_adamw(schedule(1e-8)))
print("no warm-up, gradients of 0 at the first step")
show("prodigy", contrib.prodigy(1.0), 0.0)
show("dadapt_adamw", contrib.dadapt_adamw(1.0), 0.0)
show("prodigy, safeguard_warmup", contrib.prodigy(1.0, safeguard_warmup=True), 0.0)
safe = {
    "prodigy with safeguard_warmup": contrib.prodigy(
        schedule(0.0), safeguard_warmup=True
    ),
    "dadapt_adamw": contrib.dadapt_adamw(schedule(0.0)),
}
show_finite("warm-up from 0", safe)
low = {
    "prodigy": contrib.prodigy(schedule(1e-6)),
    "dadapt_adamw": contrib.dadapt_adamw(schedule(1e-6)),
}
show_finite("warm-up from 1e-6", low)
others = {
    "dog": contrib.dog(1.0),
    "dowg": contrib.dowg(),
    "cocob": contrib.cocob(),
    "mechanize": contrib.mechanize(optax.sgd(1.0)),
    "prodigy": contrib.prodigy(1.0),
}
show_finite("gradients of 0 at the first step", others, 0.0)
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/warmup.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
warm-up from 0
  prodigy: nan nan nan nan nan nan
  dadapt_adamw: 0 nan nan nan nan nan
  apply_if_finite(prodigy): nan nan nan nan nan nan
warm-up from 1e-8, in float32 0
  prodigy: nan nan nan nan nan nan
  dadapt_adamw: 0 nan nan nan nan nan
no warm-up, gradients of 0 at the first step
  prodigy: nan nan nan nan nan nan
  dadapt_adamw: 0 nan nan nan nan nan
  prodigy, safeguard_warmup: nan nan nan nan nan nan
warm-up from 0: finite of prodigy with safeguard_warmup
warm-up from 1e-6: finite of prodigy, dadapt_adamw
gradients of 0 at the first step: finite of dog, dowg, cocob, mechanize
EXPECTED
