#!/usr/bin/env bash
# JAX 0.10.2 on CPUs: optimization_barrier does not order what stands behind it.
#
# jax.lax.optimization_barrier is documented to be of use "to enforce a particular order of
# operations": what depends on its outputs comes after them. Two gradient steps, each of
# which makes a one-hot matrix of its own tokens: with (w, tokens) of the second step behind
# a barrier, the compiled program has no barrier, and needs the memory that it needs without
# one. With a dependence in the data, a comparison that is never true added to the tokens, it
# needs less. gbt_t5x/ordering.py makes such a dependence.
#
# Command: findings/jax_cpu_barrier_order.sh
# Prints, and fails if it changes:
#   the compiled program has a barrier: False
#   its memory is that of a program without one: True
#   with a dependence in the data it is 10% less, or more: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
cat >"$folder/order.py" <<'PYTHON'
import jax
import jax.numpy as jnp

VOCABULARY, WIDTH, TOKENS = 4096, 64, 2048


def loss(w, tokens):
    logits = (jax.nn.one_hot(tokens, VOCABULARY, dtype=w.dtype) @ w) @ w.T
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(TOKENS), tokens])


def compiled(between):
    def two_steps(w, first, second):
        w = w - 0.1 * jax.grad(loss)(w, first)
        w, second = between(w, second)
        return w - 0.1 * jax.grad(loss)(w, second)

    w, tokens = jnp.ones((VOCABULARY, WIDTH)), jnp.arange(TOKENS) % VOCABULARY
    return jax.jit(two_steps).lower(w, tokens, tokens).compile()


def memory(program):
    return program.memory_analysis().temp_size_in_bytes


nothing = compiled(lambda w, tokens: (w, tokens))
barrier = compiled(lambda *both: jax.lax.optimization_barrier(both))
depends = compiled(lambda w, tokens: (w, tokens + (w[0, 0] > jnp.inf)))
print("the compiled program has a barrier:", "opt-barrier" in barrier.as_text())
print("its memory is that of a program without one:", memory(barrier) == memory(nothing))
less = memory(depends) <= 0.9 * memory(barrier)
print("with a dependence in the data it is 10% less, or more:", less)
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/order.py")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
the compiled program has a barrier: False
its memory is that of a program without one: True
with a dependence in the data it is 10% less, or more: True
EXPECTED
