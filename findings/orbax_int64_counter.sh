#!/usr/bin/env bash
# orbax-checkpoint 0.12.8 with JAX 0.10.2: a counter above 2^31 is restored as a negative one.
#
# NumPy's int64 is stored and read as such. A target that is made by jax.eval_shape of the
# function that makes the state says int32 of the same counter, since JAX has no int64 unless
# jax_enable_x64 is set. Orbax then casts what is stored, without a look at its size: a count
# of tokens or of examples loses its upper half, without an error.
#
# Command: findings/orbax_int64_counter.sh
# Prints, and fails if it changes:
#   stored: int64 3000000000
#     target none, StandardCheckpointer: int64 3000000000
#     target none, v1: int64 3000000000
#     target NumPy arrays, StandardCheckpointer: int64 3000000000
#     target NumPy arrays, v1: int64 3000000000
#     target jax.eval_shape, StandardCheckpointer: int32 -1294967296
#     target jax.eval_shape, with a sharding, StandardCheckpointer: int32 -1294967296
#     target jax.eval_shape, with a sharding, v1: int32 -1294967296
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check orbax-checkpoint==0.12.8 \
    jax==0.10.2 jaxlib==0.10.2 tensorstore==0.1.86 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/counter.py" <<'PYTHON'
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import v1


def state(tokens=0):
    return {"tokens": np.array(tokens, np.int64)}


def describe(tree):
    return f"{tree['tokens'].dtype} {int(tree['tokens'])}"


def main(folder):
    stored = state(3_000_000_000)
    print("stored:", describe(stored))
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(f"{folder}/checkpointer", stored)
    checkpointer.wait_until_finished()
    v1.save_pytree(f"{folder}/v1", stored)
    of_shapes = jax.eval_shape(state)
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])
        ),
        of_shapes,
    )
    for name, target in (
        ("none", None),
        ("NumPy arrays", state()),
        ("jax.eval_shape", of_shapes),
        ("jax.eval_shape, with a sharding", placed),
    ):
        arguments = () if target is None else (target,)
        restored = checkpointer.restore(f"{folder}/checkpointer", *arguments)
        print(f"  target {name}, StandardCheckpointer: {describe(restored)}")
        if target is not of_shapes:  # v1 asks for a sharding.
            print(f"  target {name}, v1: {describe(v1.load_pytree(f'{folder}/v1', *arguments))}")


if __name__ == "__main__":
    main(sys.argv[1])
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/counter.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
stored: int64 3000000000
  target none, StandardCheckpointer: int64 3000000000
  target none, v1: int64 3000000000
  target NumPy arrays, StandardCheckpointer: int64 3000000000
  target NumPy arrays, v1: int64 3000000000
  target jax.eval_shape, StandardCheckpointer: int32 -1294967296
  target jax.eval_shape, with a sharding, StandardCheckpointer: int32 -1294967296
  target jax.eval_shape, with a sharding, v1: int32 -1294967296
EXPECTED
