#!/usr/bin/env bash
# grain 0.2.16: of TFRecord files the checksums are not read, and damaged text is trained on.
#
# A record has two checksums, of its length and of its data. TensorFlow compares both, and
# ends with DataLossError where one bit of a record has changed. TFRecordIterDataset reads past
# them: the record comes out with the changed bit.
#
# Command: findings/grain_tfrecord_damage.sh
# Prints, and fails if it changes: a file as read, before and after one bit of it changed.
#   whole
#     grain: one sentence | two sentences | three sentences
#     TensorFlow: one sentence | two sentences | three sentences
#   one bit changed
#     grain: one sentence | tso sentences | three sentences
#     TensorFlow: DataLossError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check grain==0.2.16 \
    array-record==0.8.6 etils==1.15.0 numpy==2.4.6 protobuf==7.36.2 tensorflow-cpu==2.21.0
cat >"$folder/damage.py" <<'PYTHON'
import pathlib
import sys

import grain
import tensorflow as tf

RECORDS = (b"one sentence", b"two sentences", b"three sentences")


def seen(records):
    try:
        return " | ".join(record.decode() for record in records)
    except tf.errors.DataLossError as error:
        return type(error).__name__


def main(path):
    with tf.io.TFRecordWriter(path) as writer:
        for record in RECORDS:
            writer.write(record)
    whole = pathlib.Path(path).read_bytes()
    damaged = whole.replace(b"two sentences", b"tso sentences")
    for name, data in (("whole", whole), ("one bit changed", damaged)):
        pathlib.Path(path).write_bytes(data)
        print(name)
        print("  grain:", seen(grain.experimental.TFRecordIterDataset(path)))
        print("  TensorFlow:", seen(tf.data.TFRecordDataset(path).as_numpy_iterator()))


if __name__ == "__main__":
    main(sys.argv[1])
PYTHON
seen=$("$folder/venv/bin/python" "$folder/damage.py" "$folder/records" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
whole
  grain: one sentence | two sentences | three sentences
  TensorFlow: one sentence | two sentences | three sentences
one bit changed
  grain: one sentence | tso sentences | three sentences
  TensorFlow: DataLossError
EXPECTED
