#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: of a target of NumPy arrays the shapes are ignored.
#
# StandardRestore has "strict", True by default: "if False, restoration allows silent
# truncating/padding of arrays if the stored array shape does not match the target shape.
# Otherwise, raises an error." A jax.Array of another shape than is stored, or a
# jax.ShapeDtypeStruct with a sharding, is a ValueError. A NumPy array, or a ShapeDtypeStruct
# without a sharding, is not: the array comes back with the shape that is stored, by
# Checkpointer, CheckpointManager and, of NumPy arrays, the functions of orbax.checkpoint.v1.
# A bias of one number is then added to a layer of five by broadcasting.
#
# Command: findings/orbax_unchecked_shapes.sh
# Prints, and fails if it changes:
#   stored: float32 (1,) [1.75]; target: float32 (5,)
#     jax.Array, Checkpointer, CheckpointManager, v1: ValueError: Requested shape: (5,)
#     ShapeDtypeStruct with a sharding, Checkpointer, CheckpointManager, v1: ValueError: Requested shape: (5,)
#     ShapeDtypeStruct, Checkpointer, CheckpointManager: float32 (1,) [1.75]
#     ShapeDtypeStruct, v1: ValueError: Sharding of jax.Array cannot be None
#     NumPy array, Checkpointer, CheckpointManager, v1: float32 (1,) [1.75]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check orbax-checkpoint==0.12.8 \
    jax==0.10.2 jaxlib==0.10.2 tensorstore==0.1.86 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/shapes.py" <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import v1

STORED = {"bias": np.array([1.75], np.float32)}
SHARDING = jax.sharding.SingleDeviceSharding(jax.devices()[0])
TARGETS = {
    "jax.Array": jnp.zeros,
    "ShapeDtypeStruct with a sharding": lambda shape, dtype: jax.ShapeDtypeStruct(
        shape, dtype, sharding=SHARDING
    ),
    "ShapeDtypeStruct": jax.ShapeDtypeStruct,
    "NumPy array": np.zeros,
}


def seen(restore, target):
    try:
        found = restore(target)["bias"]
    except ValueError as error:
        return f"ValueError: {str(error).split(' is not')[0].split('. Provide')[0]}"
    return f"{found.dtype} {found.shape} {np.asarray(found).tolist()}"


folder = sys.argv[1]
checkpointer = ocp.StandardCheckpointer()
checkpointer.save(f"{folder}/checkpointer", STORED)
checkpointer.wait_until_finished()
manager = ocp.CheckpointManager(f"{folder}/manager")
manager.save(0, args=ocp.args.StandardSave(STORED))
manager.wait_until_finished()
v1.save_pytree(f"{folder}/v1", STORED)
apis = {
    "Checkpointer": lambda target: checkpointer.restore(f"{folder}/checkpointer", target),
    "CheckpointManager": lambda target: manager.restore(
        0, args=ocp.args.StandardRestore(target)
    ),
    "v1": lambda target: v1.load_pytree(f"{folder}/v1", target),
}
print("stored: float32 (1,) [1.75]; target: float32 (5,)")
for kind, make in TARGETS.items():
    found = {}
    for name, restore in apis.items():
        result = seen(restore, {"bias": make((5,), np.float32)})
        found.setdefault(result, []).append(name)
    for result, names in found.items():
        print(f"  {kind}, {', '.join(names)}: {result}")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/shapes.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
stored: float32 (1,) [1.75]; target: float32 (5,)
  jax.Array, Checkpointer, CheckpointManager, v1: ValueError: Requested shape: (5,)
  ShapeDtypeStruct with a sharding, Checkpointer, CheckpointManager, v1: ValueError: Requested shape: (5,)
  ShapeDtypeStruct, Checkpointer, CheckpointManager: float32 (1,) [1.75]
  ShapeDtypeStruct, v1: ValueError: Sharding of jax.Array cannot be None
  NumPy array, Checkpointer, CheckpointManager, v1: float32 (1,) [1.75]
EXPECTED
