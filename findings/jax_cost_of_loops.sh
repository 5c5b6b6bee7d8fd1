#!/usr/bin/env bash
# JAX 0.10.2 on CPUs: cost_analysis counts a loop's body once, however often it runs.
#
# jax.stages.Compiled.cost_analysis gives "execution cost estimates", "flops" among them. Of
# lax.scan, lax.fori_loop and lax.map over 100 matrix products they are those of one product,
# and of 1 and of 100 turns they are the same; written out, 100 products are counted 100
# times. The number of turns is known to XLA: the compiled scan says known_trip_count 100.
#
# Command: findings/jax_cost_of_loops.sh
# Prints, and fails if it changes:
#   products counted, written out: 1 turn 1, 100 turns 100
#   scan: 1 turn 1, 100 turns 1
#   fori_loop: 1 turn 1, 100 turns 1
#   map: 1 turn 1, 100 turns 1
#   the compiled scan knows that it has 100 turns: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
cat >"$folder/cost.py" <<'PYTHON'
import re

import jax
import jax.numpy as jnp

WIDTH = 64
x = jnp.ones((WIDTH, WIDTH))


def written_out(n):
    def function(x):
        for _ in range(n):
            x = x @ x
        return x

    return function


def scan(n):
    return lambda x: jax.lax.scan(lambda x, _: (x @ x, None), x, length=n)[0]


def fori_loop(n):
    return lambda x: jax.lax.fori_loop(0, n, lambda _, x: x @ x, x)


def in_map(n):
    return lambda x: jax.lax.map(lambda a: a * x @ x, jnp.ones(n))


def compiled(function):
    return jax.jit(function).lower(x).compile()


def products(function):
    return round(compiled(function).cost_analysis()["flops"] / (2 * WIDTH**3))


for name, make in {
    "products counted, written out": written_out,
    "scan": scan,
    "fori_loop": fori_loop,
    "map": in_map,
}.items():
    print(f"{name}: 1 turn {products(make(1))}, 100 turns {products(make(100))}")
count = r'known_trip_count"?:\{"n":"100"\}'
known = bool(re.search(count, compiled(scan(100)).as_text()))
print("the compiled scan knows that it has 100 turns:", known)
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/cost.py")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
products counted, written out: 1 turn 1, 100 turns 100
scan: 1 turn 1, 100 turns 1
fori_loop: 1 turn 1, 100 turns 1
map: 1 turn 1, 100 turns 1
the compiled scan knows that it has 100 turns: True
EXPECTED
