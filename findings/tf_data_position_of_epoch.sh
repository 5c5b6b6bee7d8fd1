#!/usr/bin/env bash
# TensorFlow 2.21.0: a position that was saved at an epoch's end goes on in another order.
#
# tf.train.Checkpoint saves where an iterator is, so that another process goes on with the
# same elements. Not so of shuffle(seed).batch(4).repeat() of 10 elements, if it is saved
# behind the third batch, which is not full: the next epochs have the orders of later ones,
# with no error. A batch that finds the end drops its input, and with it the generator of
# the shuffle's seeds, before repeat asks for the next epoch. Of batches of 5 the last is
# full, and does not find it. Filter, unbatch, take, enumerate, flat_map and a second shuffle
# drop theirs too: where a parallel map or a prefetch behind them reads ahead, which
# TensorFlow adds by itself, any of the last positions of an epoch is lost. Interleave, and a
# batch with num_parallel_calls, keep it. gbt_t5x has the files of WMT19 from TFDS in one
# order, since it filters them; seqio shuffles examples behind repeat, where nothing is lost.
#
# Command: findings/tf_data_position_of_epoch.sh
# Prints, and fails if it changes:
#   batch(4), saved behind batch 2 of 3: epochs [0, 1, 2, 3]
#   batch(4), saved behind batch 3 of 3: epochs [0, 3, 'other', 'other']
#   batch(5), saved behind batch 2 of 2: epochs [0, 1, 2, 3]
#   batch(4), num_parallel_calls=1, saved behind batch 3 of 3: epochs [0, 1, 2, 3]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check tensorflow-cpu==2.21.0
cat >"$folder/position.py" <<'PYTHON'
import tempfile

import tensorflow as tf

SIZE, EPOCHS = 10, 4


def pipeline(make):
    dataset = make(tf.data.Dataset.range(SIZE).shuffle(SIZE, seed=1)).repeat()
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # the same in each run
    return iter(dataset.with_options(options))


def elements(iterator, number):
    found = []
    while len(found) < number:
        found += tf.reshape(next(iterator), [-1]).numpy().tolist()
    return found


def epochs(found):
    return [found[i : i + SIZE] for i in range(0, EPOCHS * SIZE, SIZE)]


def show(name, make, number):
    whole = epochs(elements(pipeline(make), EPOCHS * SIZE))
    first, second = pipeline(make), pipeline(make)
    found = elements(first, number)
    with tempfile.TemporaryDirectory() as folder:
        path = tf.train.Checkpoint(iterator=first).save(f"{folder}/position")
        tf.train.Checkpoint(iterator=second).restore(path).assert_consumed()
    found += elements(second, EPOCHS * SIZE - number)
    which = [whole.index(x) if x in whole else "other" for x in epochs(found)]
    print(f"{name}: epochs {which}")


four = lambda dataset: dataset.batch(4)
show("batch(4), saved behind batch 2 of 3", four, 8)
show("batch(4), saved behind batch 3 of 3", four, 10)
show("batch(5), saved behind batch 2 of 2", lambda dataset: dataset.batch(5), 10)
parallel = lambda dataset: dataset.batch(4, num_parallel_calls=1, deterministic=True)
show("batch(4), num_parallel_calls=1, saved behind batch 3 of 3", parallel, 10)
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/position.py" 2>"$folder/log" |
    tee "$folder/output" || { cat "$folder/log"; exit 1; }
diff "$folder/output" <(sed -n '/^# Prints/,/^set /s/^#   //p' "$0")
