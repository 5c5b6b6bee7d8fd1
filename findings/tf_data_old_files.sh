#!/usr/bin/env bash
# TensorFlow 2.21.0: a restored position reads the old files, where the pipeline names new ones.
#
# tf.train.Checkpoint saves where an iterator is, and restores it into a pipeline that is
# built anew. The position holds elements that were read ahead, and the arguments of flat_map
# and interleave: of a pipeline over files, paths. Where the data was copied to another
# folder, or the files of a new version have been named, the rest of the files in the shuffle
# buffer and of those that were open is read from the old place, for as long as it is there,
# with no error; the epoch after it from the new. To shuffle numbers in place of paths and
# look the path up inside of interleave helps only in part, since tf.data.TextLineDataset is
# itself a flat_map over its paths: the files that were open stay the old ones.
# tf.raw_ops.TextLineDataset with tf.data.experimental.from_variant is not.
#
# Command: findings/tf_data_old_files.sh
# Prints, and fails if it changes:
#   paths: 39 of 39 lines old, of the next epoch 0; old folder removed: NotFoundError
#   numbers: 4 of 39 lines old, of the next epoch 0; old folder removed: NotFoundError
#   raw: 0 of 39 lines old, of the next epoch 0; old folder removed: 0 of 39 lines old, of the next epoch 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check tensorflow-cpu==2.21.0
cat >"$folder/files.py" <<'PYTHON'
import pathlib
import shutil
import sys

import tensorflow as tf

folder = pathlib.Path(sys.argv[1])
FILES, LINES = 8, 5


def raw(path):
    variant = tf.raw_ops.TextLineDataset(
        filenames=path, compression_type="", buffer_size=1 << 18
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.string))


def pipeline(where, kind):
    (folder / where).mkdir(exist_ok=True)
    files = [str(folder / where / f"{i}.txt") for i in range(FILES)]
    for file in files:
        pathlib.Path(file).write_text(f"{where}\n" * LINES)
    options = {"cycle_length": 2, "num_parallel_calls": None}
    if kind == "paths":
        order = tf.data.Dataset.from_tensor_slices(files).shuffle(FILES, seed=0)
        lines = order.interleave(tf.data.TextLineDataset, **options)
    else:
        paths, read = tf.constant(files), raw if kind == "raw" else tf.data.TextLineDataset
        order = tf.data.Dataset.range(FILES).shuffle(FILES, seed=0)
        lines = order.interleave(lambda i: read(paths[i]), **options)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return iter(lines.repeat().with_options(options))


def old_lines(kind, remove=False):
    saved = pipeline("old", kind)
    next(saved)
    file = tf.train.Checkpoint(i=saved).write(str(folder / "position"))
    iterator = pipeline("new", kind)
    if remove:
        shutil.rmtree(folder / "old")
    try:
        tf.train.Checkpoint(i=iterator).read(file).assert_consumed()
    except tf.errors.OpError as error:
        return type(error).__name__
    rest = [next(iterator).numpy() == b"old" for _ in range(FILES * LINES - 1)]
    after = [next(iterator).numpy() == b"old" for _ in range(FILES * LINES)]
    return f"{sum(rest)} of {len(rest)} lines old, of the next epoch {sum(after)}"


for kind in ("paths", "numbers", "raw"):
    print(f"{kind}: {old_lines(kind)}; old folder removed: {old_lines(kind, remove=True)}")
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/files.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
paths: 39 of 39 lines old, of the next epoch 0; old folder removed: NotFoundError
numbers: 4 of 39 lines old, of the next epoch 0; old folder removed: NotFoundError
raw: 0 of 39 lines old, of the next epoch 0; old folder removed: 0 of 39 lines old, of the next epoch 0
EXPECTED
