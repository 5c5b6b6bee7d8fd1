#!/usr/bin/env bash
# JAX 0.10.2 on CPUs: float32 below 1.2e-38 compares as 0, and sort leaves it unsorted.
#
# jnp.finfo(jnp.float32).smallest_subnormal is 1e-45, and arrays hold, copy and print such
# numbers. XLA's CPU programs take them for 0: the next number above 0 is not above 0, 1e-39
# equals 0, the maximum of it and 0 is 0, jnp.sort leaves them in their order and jnp.argmax
# finds the first. NumPy on the same processor tells them apart. A test for "any gradient at
# all", or a division guarded by x > 0, differs between the host and the device.
#
# Command: findings/jax_cpu_subnormals.sh
# Prints, and fails if it changes:
#   smallest_subnormal 1e-45, nextafter(0, 1) 1e-45
#   nextafter(0, 1) > 0: NumPy True, JAX False
#   1e-39 == 0: NumPy False, JAX True
#   maximum(1e-39, 0): NumPy 1e-39, JAX 0.0
#   sort: NumPy [1e-39, 2e-39, 3e-39], JAX [3e-39, 1e-39, 2e-39]
#   argmax of [1e-39, 3e-39, 2e-39]: NumPy 1, JAX 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
cat >"$folder/subnormals.py" <<'PYTHON'
import jax.numpy as jnp
import numpy as np

least = jnp.finfo(jnp.float32).smallest_subnormal
above_0 = jnp.nextafter(jnp.float32(0), jnp.float32(1))
print(f"smallest_subnormal {least:.0e}, nextafter(0, 1) {float(above_0):.0e}")


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
smallest_subnormal 1e-45, nextafter(0, 1) 1e-45
nextafter(0, 1) > 0: NumPy True, JAX False
1e-39 == 0: NumPy False, JAX True
maximum(1e-39, 0): NumPy 1e-39, JAX 0.0
sort: NumPy [1e-39, 2e-39, 3e-39], JAX [3e-39, 1e-39, 2e-39]
argmax of [1e-39, 3e-39, 2e-39]: NumPy 1, JAX 0
EXPECTED
