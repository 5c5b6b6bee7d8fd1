#!/usr/bin/env bash
# TensorStore 0.1.86: a lost chunk of a zarr array without fill value is read as zeros.
#
# Where .zarray says "fill_value": null, no value stands for a chunk that is not there, and
# TensorStore writes every chunk, those of zeros too. Yet when a chunk's file is lost it
# reads zeros, without an error: an array of a checkpoint, half of it 0. The option
# "fill_missing_data_reads": false turns that into an error; it is true by default, whatever
# the fill value. T5X's first checkpoint format is made of such arrays.
#
# Command: findings/tensorstore_missing_chunk.sh
# Prints, and fails if it changes:
#   fill_value null, files of chunks: 0 1
#   chunk 1 deleted, read: [1.0, 1.0, 0.0, 0.0]
#   fill_missing_data_reads false: NOT_FOUND
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    tensorstore==0.1.86 numpy==2.4.6
cat >"$folder/chunks.py" <<'PYTHON'
import json
import os
import sys

import numpy as np
import tensorstore as ts

path = sys.argv[1]
spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": path}}
new = {"shape": [4], "chunks": [2], "dtype": "<f4", "fill_value": None}
array = ts.open({**spec, "metadata": new}, create=True).result()
array.write(np.array([1, 1, 0, 0], np.float32)).result()
with open(os.path.join(path, ".zarray")) as f:
    assert json.load(f)["fill_value"] is None
chunks = sorted(name for name in os.listdir(path) if name[0] != ".")
print("fill_value null, files of chunks:", *chunks)
array.write(np.ones(4, np.float32)).result()
os.remove(os.path.join(path, "1"))
read = ts.open(spec, open=True).result().read().result()
print("chunk 1 deleted, read:", read.tolist())
try:
    ts.open({**spec, "fill_missing_data_reads": False}, open=True).result().read().result()
    print("fill_missing_data_reads false: read")
except ValueError as error:
    print("fill_missing_data_reads false:", str(error).split(":")[0])
PYTHON
seen=$("$folder/venv/bin/python" "$folder/chunks.py" "$folder/array")
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
fill_value null, files of chunks: 0 1
chunk 1 deleted, read: [1.0, 1.0, 0.0, 0.0]
fill_missing_data_reads false: NOT_FOUND
EXPECTED
