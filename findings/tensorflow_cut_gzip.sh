#!/usr/bin/env bash
# TensorFlow 2.21.0: a gzip file that was cut is read as a shorter one, without an error.
#
# tf.data.TextLineDataset with compression_type "GZIP" gives the lines of a truncated
# download and then ends, as if the file were whole: about half of them if half of the bytes
# are there. Python's gzip raises EOFError on the same file.
#
# Command: findings/tensorflow_cut_gzip.sh
# Prints, and fails if it changes:
#   lines of the whole file: 20000
#   of half of its bytes: fewer, no error
#   Python: EOFError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check tensorflow-cpu==2.21.0 \
    numpy==2.4.6 protobuf==7.36.2
cat >"$folder/read.py" <<'PYTHON'
import gzip
import random
import sys

import tensorflow as tf

path = sys.argv[1]
rng = random.Random(0)
raw = b"".join(b"%d\t%016x\n" % (i, rng.getrandbits(64)) for i in range(20_000))
packed = gzip.compress(raw, mtime=0)


def count(data):
    with open(path, "wb") as f:
        f.write(data)
    return sum(1 for _ in tf.data.TextLineDataset(path, "GZIP"))


print("lines of the whole file:", count(packed))
lines = count(packed[: len(packed) // 2])
assert 5_000 < lines < 15_000
print("of half of its bytes: fewer, no error")
try:
    gzip.open(path).read()
except EOFError:
    print("Python: EOFError")
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= "$folder/venv/bin/python" \
    "$folder/read.py" "$folder/text.gz" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
lines of the whole file: 20000
of half of its bytes: fewer, no error
Python: EOFError
EXPECTED
