#!/usr/bin/env bash
# orbax-checkpoint 0.12.8, flax 0.12.8: restored layers of an NNX model are in another order.
#
# NNX numbers the layers of a list by integers, and so does its pure dictionary. Orbax stores
# them as strings, and restores strings where it is given no target. JAX sorts dictionaries by
# key: 0, 1, 10, 11, 2, and so on. Whoever puts the restored leaves into the model's structure,
# as one does for another class of the same arrays, gets layer 10 in the place of layer 2, from
# the eleventh layer on: all shapes fit, and there is no error. flax.serialization does so with
# plain lists too, which it makes dictionaries; Orbax keeps those lists. Right are a target,
# from_bytes, and nnx.replace_by_pure_dict after restore_int_paths, which go by name.
#
# Command: findings/orbax_layers_after_ten.sh
# Prints, and fails if it changes: the layers, each full of its number, after a restore.
#   model: 0 1 2 3 4 5 6 7 8 9 10 11
#   restored: 0 1 10 11 2 3 4 5 6 7 8 9
#   put into the structure: 0 1 10 11 2 3 4 5 6 7 8 9
#   with a target: 0 1 2 3 4 5 6 7 8 9 10 11
#   replace_by_pure_dict: 0 1 2 3 4 5 6 7 8 9 10 11
#   list, msgpack_restore: 0 1 10 11 2 3 4 5 6 7 8 9
#   list, from_bytes: 0 1 2 3 4 5 6 7 8 9 10 11
#   list, orbax: 0 1 2 3 4 5 6 7 8 9 10 11
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check flax==0.12.8 optax==0.2.8 \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 tensorstore==0.1.86 numpy==2.4.6 \
    ml-dtypes==0.6.0 protobuf==7.36.2
cat >"$folder/layers.py" <<'PYTHON'
import pathlib
import sys

from flax import nnx, serialization
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

LAYERS = 12
path = pathlib.Path(sys.argv[1]) / "checkpoint"
checkpointer = ocp.PyTreeCheckpointer()


class Model(nnx.Module):
    def __init__(self):
        self.layers = nnx.List(nnx.Param(jnp.full(2, i)) for i in range(LAYERS))


def show(name, leaves):
    print(f"{name}:", *(int(x[0]) for x in leaves))


model = Model()
show("model", jax.tree.leaves(nnx.state(model)))
saved = nnx.to_pure_dict(nnx.state(model))
checkpointer.save(path, saved)
restored = checkpointer.restore(path)
show("restored", jax.tree.leaves(restored))
placed = jax.tree.unflatten(jax.tree.structure(saved), jax.tree.leaves(restored))
show("put into the structure", [placed["layers"][i] for i in range(LAYERS)])
targeted = checkpointer.restore(path, item=saved)
show("with a target", jax.tree.leaves(targeted))
state = nnx.state(model)
nnx.replace_by_pure_dict(state, nnx.statelib.restore_int_paths(restored))
show("replace_by_pure_dict", jax.tree.leaves(state))
layers = [jnp.full(2, i) for i in range(LAYERS)]
encoded = serialization.to_bytes(layers)
show("list, msgpack_restore", jax.tree.leaves(serialization.msgpack_restore(encoded)))
show("list, from_bytes", serialization.from_bytes(layers, encoded))
checkpointer.save(path.with_name("list"), layers)
show("list, orbax", checkpointer.restore(path.with_name("list")))
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/layers.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
model: 0 1 2 3 4 5 6 7 8 9 10 11
restored: 0 1 10 11 2 3 4 5 6 7 8 9
put into the structure: 0 1 10 11 2 3 4 5 6 7 8 9
with a target: 0 1 2 3 4 5 6 7 8 9 10 11
replace_by_pure_dict: 0 1 2 3 4 5 6 7 8 9 10 11
list, msgpack_restore: 0 1 10 11 2 3 4 5 6 7 8 9
list, from_bytes: 0 1 2 3 4 5 6 7 8 9 10 11
list, orbax: 0 1 2 3 4 5 6 7 8 9 10 11
EXPECTED
