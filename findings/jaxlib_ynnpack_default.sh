#!/usr/bin/env bash
# jaxlib 0.10.2 on CPUs: YNNPACK computes matrix products, and the help says it does not.
#
# What XLA_FLAGS can set is listed, with defaults, when a value is wrong. There the list of
# what XLA hands to YNNPACK, --xla_cpu_experimental_ynn_fusion_type, is empty, and "the
# default list is currently empty". A program compiled without the flag hands over its matrix
# products and sums all the same; one compiled with the flag set to that default does not.
# On two cores with AVX2, training steps of T5 are quicker without (docs/results/pytorch.md).
#
# Command: findings/jaxlib_ynnpack_default.sh
# Prints, and fails if it changes:
#   the help calls the default empty: True
#   without the flag, the program of x @ w has YNNPACK's fusions: True
#   without the flag, the program of x.sum(-1) has YNNPACK's fusions: True
#   with the flag set to the empty list, the program of x @ w has YNNPACK's fusions: False
#   with the flag set to the empty list, the program of x.sum(-1) has YNNPACK's fusions: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
cat >"$folder/fusions.py" <<'PYTHON'
import jax
import jax.numpy as jnp

x, w = jnp.ones((2048, 512)), jnp.ones((512, 512))
functions = {"x @ w": lambda x, w: x @ w, "x.sum(-1)": lambda x, w: x.sum(-1)}
for what, function in functions.items():
    fused = "__ynn_fusion" in jax.jit(function).lower(x, w).compile().as_text()
    print(f"the program of {what} has YNNPACK's fusions: {fused}")
PYTHON
flag=--xla_cpu_experimental_ynn_fusion_type
run() { JAX_PLATFORMS=cpu XLA_FLAGS="$1" "$folder/venv/bin/python" "$folder/fusions.py"; }
help=$(run --xla_cpu_use_xnnpack=neither 2>&1 || true)
empty=False
if grep -A4 -F -- "$flag=\"\"" <<<"$help" | grep -qi 'default list is currently empty'; then
    empty=True
fi
without=$(run "" | sed 's/^/without the flag, /')
with=$(run "$flag=" | sed 's/^/with the flag set to the empty list, /')
seen="the help calls the default empty: $empty
$without
$with"
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
the help calls the default empty: True
without the flag, the program of x @ w has YNNPACK's fusions: True
without the flag, the program of x.sum(-1) has YNNPACK's fusions: True
with the flag set to the empty list, the program of x @ w has YNNPACK's fusions: False
with the flag set to the empty list, the program of x.sum(-1) has YNNPACK's fusions: False
EXPECTED
