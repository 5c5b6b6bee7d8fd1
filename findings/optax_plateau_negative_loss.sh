#!/usr/bin/env bash
# optax 0.2.8: reduce_on_plateau never sees a negative loss stand still, or slowly get worse.
#
# A value counts as an improvement if it is below (1 - rtol) times the best so far. Of a best
# of -10 that is -9.999: above it. A loss of -10 that does not move is an improvement each
# time, the best is replaced by what is worse, and one that gets worse by less than 1e-4 of itself
# moves the best along: from -10 to -9.9 the scale stays 1, and the best is the last value.
# Logarithms of likelihoods, rewards, and BLEU with its sign changed are such losses. With
# rtol=0 and an atol, both of which it has, the scale falls for both signs.
#
# Command: findings/optax_plateau_negative_loss.sh
# Prints, and fails if it changes: the learning rate's scale after 200 values, patience 3,
# where the values are constant and where they rise by 0.1 in all.
#                                             constant     rising   best of the latter
#   rtol 1e-4, from +10                        1.4e-20    1.4e-20       10
#   rtol 1e-4, from -10                              1          1     -9.9
#   rtol 0, atol 1e-3, from +10                1.4e-20    1.4e-20       10
#   rtol 0, atol 1e-3, from -10                1.4e-20    1.4e-20      -10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check optax==0.2.8 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$folder/plateau.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import optax

VALUES = 200
SCHEMES = {"rtol 1e-4": {"rtol": 1e-4}, "rtol 0, atol 1e-3": {"rtol": 0, "atol": 1e-3}}


def last_state(first, rise, **tolerances):
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=3, **tolerances)

    def update(state, value):
        return plateau.update(jnp.ones(()), state, value=value)[1], None

    losses = first + rise * jnp.arange(VALUES, dtype=jnp.float32)
    return jax.lax.scan(update, plateau.init(jnp.ones(())), losses)[0]


print(f"{'':<40}{'constant':>10} {'rising':>10}   best of the latter")
for name, tolerances in SCHEMES.items():
    for first in (10.0, -10.0):
        still = last_state(first, 0.0, **tolerances)
        worse = last_state(first, 0.1 / VALUES, **tolerances)
        print(
            f"{f'{name}, from {first:+.0f}':<40}{still.scale:>10.2g} {worse.scale:>10.2g} "
            f"{worse.best_value:>8.3g}"
        )
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/plateau.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
                                          constant     rising   best of the latter
rtol 1e-4, from +10                        1.4e-20    1.4e-20       10
rtol 1e-4, from -10                              1          1     -9.9
rtol 0, atol 1e-3, from +10                1.4e-20    1.4e-20       10
rtol 0, atol 1e-3, from -10                1.4e-20    1.4e-20      -10
EXPECTED
