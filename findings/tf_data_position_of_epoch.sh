#!/usr/bin/env bash
# TensorFlow 2.21.0: a position that was saved at an epoch's end goes on in another order.
#
# tf.train.Checkpoint saves where an iterator is, so that another process goes on with the
# same elements. Not so of shuffle(seed).batch(4).repeat() of 10 elements, if it is saved
# behind the third batch, which is not full: the next epochs have the orders of later ones,
# with no error. A batch that finds the end drops its input, and with it the generator of
# the shuffle's seeds, before repeat asks for the next epoch. Of batches of 5 the last is
# full, and does not find it. A batch with num_parallel_calls keeps its input, and so does
# interleave; filter, unbatch, take, enumerate, flat_map and a second shuffle drop theirs when
# what is behind them finds their end. gbt_t5x has the files of WMT19 from TFDS in one order,
# since it filters them.
#
# Command: findings/tf_data_position_of_epoch.sh
# Prints, and fails if it changes:
#   batch(4), saved behind batch 2 of 3: epochs [0, 1, 2, 3]
#   batch(4), saved behind batch 3 of 3: epochs [0, 3, 'other', 'other']
#   batch(5), saved behind batch 2 of 2: epochs [0, 1, 2, 3]
#   batch(4), num_parallel_calls=1, saved behind batch 3 of 3: epochs [0, 1, 2, 3]
#   filter before that: epochs [0, 3, 'other', 'other']
#   unbatch before that: epochs [0, 3, 'other', 'other']
#   take before that: epochs [0, 3, 'other', 'other']
#   enumerate before that: epochs [0, 3, 'other', 'other']
#   flat_map before that: epochs [0, 3, 'other', 'other']
#   shuffle before that: epochs [0, 'other', 'other', 'other']
#   interleave before that: epochs [0, 1, 2, 3]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check tensorflow-cpu==2.21.0 \
    numpy==2.4.6 protobuf==7.36.2
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


def batched(before=lambda dataset: dataset):
    return lambda dataset: before(dataset).batch(
        4, num_parallel_calls=1, deterministic=True
    )


four = lambda dataset: dataset.batch(4)
show("batch(4), saved behind batch 2 of 3", four, 8)
show("batch(4), saved behind batch 3 of 3", four, 10)
show("batch(5), saved behind batch 2 of 2", lambda dataset: dataset.batch(5), 10)
show("batch(4), num_parallel_calls=1, saved behind batch 3 of 3", batched(), 10)
one = tf.data.Dataset.from_tensors
for name, before in {
    "filter": lambda dataset: dataset.filter(lambda i: i >= 0),
    "unbatch": lambda dataset: dataset.batch(5).unbatch(),
    "take": lambda dataset: dataset.take(SIZE),
    "enumerate": lambda dataset: dataset.enumerate().map(lambda _, i: i),
    "flat_map": lambda dataset: dataset.flat_map(one),
    "shuffle": lambda dataset: dataset.shuffle(2, seed=1),
    "interleave": lambda dataset: dataset.interleave(one, cycle_length=1),
}.items():
    show(f"{name} before that", batched(before), 10)
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/position.py" 2>"$folder/log" |
    tee "$folder/output" || { cat "$folder/log"; exit 1; }
diff "$folder/output" <(sed -n '/^# Prints/,/^set /s/^#   //p' "$0")
