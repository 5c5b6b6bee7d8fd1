#!/usr/bin/env bash
# JAX 0.10.2 on CPUs: sort leaves subnormal float32 unsorted, and argmax finds the first.
#
# jax.lax.nextafter documents that "flush-denormal-to-zero semantics is used" in some
# environments, for numbers "which appear as zero in any operations". So 1e-39 equals 0. The
# documentation of jnp.sort and jnp.argmax does not say what follows: arrays hold such
# numbers, sort gives them back in the order that they had, and argmax finds the first. NumPy
# on the same processor tells them apart.
#
# Command: findings/jax_cpu_subnormals.sh
# Prints, and fails if it changes:
#   nextafter(0, 1) > 0: NumPy True, JAX False
#   1e-39 == 0: NumPy False, JAX True
#   maximum(1e-39, 0): NumPy 1e-39, JAX 0.0
#   sort: NumPy [1e-39, 2e-39, 3e-39], JAX [3e-39, 1e-39, 2e-39]
#   argmax of [1e-39, 3e-39, 2e-39]: NumPy 1, JAX 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 \
    numpy==2.4.6
cat >"$folder/subnormals.py" <<'PYTHON'
import jax.numpy as jnp
import numpy as np



def compare(what, function, *arrays):
    host = function(np, *(np.array(x, np.float32) for x in arrays))
    device = function(jnp, *(jnp.array(x, jnp.float32) for x in arrays))
    found = [np.asarray(x).tolist() for x in (host, device)]
    print(f"{what}: NumPy {show(found[0])}, JAX {show(found[1])}")


def show(x):
    if isinstance(x, list):
        return f"[{', '.join(map(show, x))}]"
    return f"{x:.0e}" if isinstance(x, float) and x else str(x)


compare("nextafter(0, 1) > 0", lambda xp, x: xp.nextafter(x, xp.ones_like(x)) > 0, 0)
compare("1e-39 == 0", lambda xp, x: x == 0, 1e-39)
compare("maximum(1e-39, 0)", lambda xp, x: xp.maximum(x, 0), 1e-39)
compare("sort", lambda xp, x: xp.sort(x), [3e-39, 1e-39, 2e-39])
compare("argmax of [1e-39, 3e-39, 2e-39]", lambda xp, x: xp.argmax(x), [1e-39, 3e-39, 2e-39])
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/subnormals.py")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
nextafter(0, 1) > 0: NumPy True, JAX False
1e-39 == 0: NumPy False, JAX True
maximum(1e-39, 0): NumPy 1e-39, JAX 0.0
sort: NumPy [1e-39, 2e-39, 3e-39], JAX [3e-39, 1e-39, 2e-39]
argmax of [1e-39, 3e-39, 2e-39]: NumPy 1, JAX 0
EXPECTED
