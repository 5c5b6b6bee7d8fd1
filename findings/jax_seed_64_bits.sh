#!/usr/bin/env bash
# JAX 0.10.2: seeds that are equal in their low 32 bits give one key.
#
# jax.random.key and jax.random.PRNGKey document the seed as "a 64- or 32-bit integer". In
# JAX's default mode, without 64-bit types, a Python integer above 32 bits is cut to its low
# half, with no error or warning: 2**40 gives the key of 0, and 2**32 + 7 that of 7. With
# jax_enable_x64 the keys differ. Whoever derives seeds from hashes or nanoseconds may train
# several "seeds" alike.
#
# Command: findings/jax_seed_64_bits.sh
# Prints, and fails if it changes:
#   default: PRNGKey(0) [0, 0], PRNGKey(2**40) [0, 0], key(2**32 + 7) [0, 7]
#   x64: PRNGKey(2**40) [256, 0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
cat >"$folder/keys.py" <<'PYTHON'
import warnings

import jax

warnings.simplefilter("error")
key = lambda seed: jax.random.key_data(jax.random.key(seed)).tolist()
old = lambda seed: jax.random.PRNGKey(seed).tolist()
print(
    f"default: PRNGKey(0) {old(0)}, PRNGKey(2**40) {old(2**40)}, "
    f"key(2**32 + 7) {key(2**32 + 7)}"
)
jax.config.update("jax_enable_x64", True)
print(f"x64: PRNGKey(2**40) {old(2**40)}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/keys.py")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
default: PRNGKey(0) [0, 0], PRNGKey(2**40) [0, 0], key(2**32 + 7) [0, 7]
x64: PRNGKey(2**40) [256, 0]
EXPECTED
