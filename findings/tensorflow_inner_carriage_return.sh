#!/usr/bin/env bash
# TensorFlow 2.21.0: TextLineDataset removes carriage returns from the middle of lines.
#
# A line ends at a line feed, with or without a carriage return before it. But every other
# carriage return is dropped too, wherever it stands, with no error, and what separated the
# words is gone before any function of the pipeline sees it. Python's lines and tf.io.gfile
# keep it.
#
# Command: findings/tensorflow_inner_carriage_return.sh
# Prints, and fails if it changes:
#   open: [b'erste Zeile\rzweite Zeile\tfirst line\rsecond line', b'10%\r20%\r\rdone']
#   TextLineDataset, plain: [b'erste Zeilezweite Zeile\tfirst linesecond line', b'10%20%done']
#   TextLineDataset, GZIP: [b'erste Zeilezweite Zeile\tfirst linesecond line', b'10%20%done']
#   tf.io.gfile.GFile.read keeps carriage returns: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check tensorflow-cpu==2.21.0 \
    numpy==2.4.6 protobuf==7.36.2
cat >"$folder/lines.py" <<'PYTHON'
import gzip
import sys

import tensorflow as tf

LINES = b"erste Zeile\rzweite Zeile\tfirst line\rsecond line\r\n10%\r20%\r\rdone\n"
file = sys.argv[1] + "/lines"
with open(file, "wb") as f:
    f.write(LINES)
with gzip.open(f"{file}.gz", "wb") as f:
    f.write(LINES)
with open(file, "rb") as f:
    print("open:", [line.removesuffix(b"\n").removesuffix(b"\r") for line in f])
for path, kind in ((file, ""), (f"{file}.gz", "GZIP")):
    found = tf.data.TextLineDataset(path, kind).as_numpy_iterator()
    print(f"TextLineDataset, {kind or 'plain'}:", [*found])
with tf.io.gfile.GFile(file, "rb") as f:
    print("tf.io.gfile.GFile.read keeps carriage returns:", f.read() == LINES)
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/lines.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
open: [b'erste Zeile\rzweite Zeile\tfirst line\rsecond line', b'10%\r20%\r\rdone']
TextLineDataset, plain: [b'erste Zeilezweite Zeile\tfirst linesecond line', b'10%20%done']
TextLineDataset, GZIP: [b'erste Zeilezweite Zeile\tfirst linesecond line', b'10%20%done']
tf.io.gfile.GFile.read keeps carriage returns: True
EXPECTED
