#!/usr/bin/env bash
# optax 0.2.8: after one NaN in a gradient MultiSteps never takes a right step again.
#
# optax.MultiSteps adds up the gradients of several batches. After a step "the wrapper's
# accumulated gradients are then set back to zero". They are multiplied by 0, and 0 * NaN is
# NaN: one batch with a NaN or an infinity stays in all later sums. An optimizer inside that
# leaves such gradients out does not help. apply_if_finite rejects every later step, and makes
# the weights NaN when its max_consecutive_errors are over; with zero_nans the weights that
# had the NaN stand still, with no sign of it. Without MultiSteps both lose one step.
# should_skip_update_fn=optax.skip_not_finite, or apply_if_finite around MultiSteps, leave
# out the bad batch alone. With the first has_updated is True also for a bad batch that
# follows a step, and what is counted or averaged by it runs ahead.
#
# Command: findings/optax_multisteps_nan.sh
# Prints, and fails if it changes: a weight on its way from 0 to 1, after each of 6 steps
# of 4 batches; the gradient of the fifth batch has a NaN.
#   no MultiSteps, batches 4 times as large
#     apply_if_finite(sgd): 0.50 0.50 0.75 0.88 0.94 0.97
#     chain(zero_nans, sgd): 0.50 0.50 0.75 0.88 0.94 0.97
#   MultiSteps
#     of apply_if_finite(sgd): 0.50 0.50 0.50 0.50 nan nan
#     of chain(zero_nans, sgd): 0.50 0.50 0.50 0.50 0.50 0.50
#     accumulated gradient after the second step: nan
#   apply_if_finite(MultiSteps): 0.50 0.50 0.75 0.88 0.94 0.97
#   MultiSteps, skip_not_finite: 0.50 0.50 0.75 0.88 0.94 0.97
#     steps 5, has_updated 6 times
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check optax==0.2.8 \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >"$folder/steps.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import optax

BAD, BATCHES = 4, 24


def train(optimizer, every=1, state_at=None):
    """A weight after every 4 batches, and the state after `state_at` or all of them."""
    weights = jnp.zeros(2)
    state = optimizer.init(weights)
    update = jax.jit(optimizer.update)
    seen, kept, has_updated = [], None, 0
    for batch in range(0, BATCHES, every):
        gradients = weights - 1
        if batch == BAD:
            gradients = gradients.at[0].set(jnp.nan)
        updates, state = update(gradients, state, weights)
        weights = optax.apply_updates(weights, updates)
        if isinstance(optimizer, optax.MultiSteps):
            has_updated += int(optimizer.has_updated(state))
        if batch + every == (state_at or BATCHES):
            kept = state
        if (batch + every) % 4 == 0:
            seen.append(f"{weights[0]:.2f}")
    return " ".join(seen), kept, has_updated


sgd = optax.sgd(0.5)
finite = optax.apply_if_finite(sgd, max_consecutive_errors=3)
zeroed = optax.chain(optax.zero_nans(), sgd)
print("no MultiSteps, batches 4 times as large")
print("  apply_if_finite(sgd):", train(finite, every=4)[0])
print("  chain(zero_nans, sgd):", train(zeroed, every=4)[0])
print("MultiSteps")
print("  of apply_if_finite(sgd):", train(optax.MultiSteps(finite, 4))[0])
print("  of chain(zero_nans, sgd):", train(optax.MultiSteps(zeroed, 4))[0])
state = train(optax.MultiSteps(finite, 4), state_at=8)[1]
print(f"  accumulated gradient after the second step: {state.acc_grads[0]:.2f}")
inside = optax.MultiSteps(sgd, 4).gradient_transformation()
around = optax.apply_if_finite(inside, max_consecutive_errors=3)
print("apply_if_finite(MultiSteps):", train(around)[0])
skips = optax.MultiSteps(sgd, 4, should_skip_update_fn=optax.skip_not_finite)
weights, state, has_updated = train(skips)
print("MultiSteps, skip_not_finite:", weights)
print(f"  steps {int(state.gradient_step)}, has_updated {has_updated} times")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/steps.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
no MultiSteps, batches 4 times as large
  apply_if_finite(sgd): 0.50 0.50 0.75 0.88 0.94 0.97
  chain(zero_nans, sgd): 0.50 0.50 0.75 0.88 0.94 0.97
MultiSteps
  of apply_if_finite(sgd): 0.50 0.50 0.50 0.50 nan nan
  of chain(zero_nans, sgd): 0.50 0.50 0.50 0.50 0.50 0.50
  accumulated gradient after the second step: nan
apply_if_finite(MultiSteps): 0.50 0.50 0.75 0.88 0.94 0.97
MultiSteps, skip_not_finite: 0.50 0.50 0.75 0.88 0.94 0.97
  steps 5, has_updated 6 times
EXPECTED
