#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: of two arrays whose paths differ by a dot alone one is lost.
#
# Orbax joins an array's path by dots to the name that it is stored under. {"query": {"lora":
# zeros}, "query.lora": ones} are two arrays, and both are stored as query.lora, at the same
# time. Save and restore succeed, the metadata lists both, and both come back as the one that
# was written last, which differs from save to save. It is so with and without OCDBT, by
# PyTreeCheckpointHandler, StandardCheckpointer and save_pytree of version 1. Only where shape
# or type differ is there an error, from the thread that saves. A dot in the name of a module
# or a parameter is allowed by Flax, and is what names from PyTorch have.
#
# Command: findings/orbax_dotted_names.sh
# Prints, and fails if it changes: of 10 checkpoints each how many restore both arrays as they
# were saved, and how many restore them as equal.
#   OCDBT: 0 right, 10 with equal arrays
#   a folder for each array: 0 right, 10 with equal arrays
#   StandardCheckpointer: 0 right, 10 with equal arrays
#   version 1: 0 right, 10 with equal arrays
#   other names: 10 right, 0 with equal arrays
#   in the metadata: query/lora, query.lora
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check orbax-checkpoint==0.12.8 \
    jax==0.10.2 jaxlib==0.10.2 tensorstore==0.1.86 numpy==2.4.6 protobuf==7.36.2
cat >"$folder/names.py" <<'PYTHON'
import pathlib
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import v1

SAVES = 10
folder = pathlib.Path(sys.argv[1])


def tree(other="query.lora"):
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    return {"query": {"lora": zeros}, other: ones}


def count(name, save, restore, saved):
    right = equal = 0
    for number in range(SAVES):
        path = folder / f"{name} {number}"
        save(path, saved)
        restored = restore(path)
        first, second = jax.tree.leaves(restored)
        right += jax.tree.all(jax.tree.map(np.array_equal, restored, saved))
        equal += np.array_equal(first, second)
    print(f"{name}: {right} right, {equal} with equal arrays")


ocdbt = ocp.PyTreeCheckpointer(use_ocdbt=True)
folders = ocp.PyTreeCheckpointer(use_ocdbt=False)
standard = ocp.StandardCheckpointer()


def save_standard(path, saved):
    standard.save(path, saved)
    standard.wait_until_finished()


count("OCDBT", ocdbt.save, ocdbt.restore, tree())
count("a folder for each array", folders.save, folders.restore, tree())
count("StandardCheckpointer", save_standard, standard.restore, tree())
count("version 1", v1.save_pytree, v1.load_pytree, tree())
count("other names", ocdbt.save, ocdbt.restore, tree("query_lora"))
metadata = ocdbt.metadata(folder / "OCDBT 0").item_metadata.tree
paths, _ = jax.tree_util.tree_flatten_with_path(metadata)
names = ("/".join(key.key for key in path) for path, _ in paths)
print("in the metadata:", ", ".join(names))
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/names.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
OCDBT: 0 right, 10 with equal arrays
a folder for each array: 0 right, 10 with equal arrays
StandardCheckpointer: 0 right, 10 with equal arrays
version 1: 0 right, 10 with equal arrays
other names: 10 right, 0 with equal arrays
in the metadata: query/lora, query.lora
EXPECTED
