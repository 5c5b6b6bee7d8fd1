#!/usr/bin/env bash
# clu 0.0.12: a position that is saved after a peek has lost the batch that was looked at.
#
# PeekableDatasetIterator.peek gives the next element "without consuming it": the next call
# of __next__ returns it again. save writes the position of the iterator inside, which has
# given that element away, and restore does not bring it back: a run that goes on from there
# never sees it, with no error. peek_async ("Users can call this to warm up the iterator")
# does the same. After a restore the next element is one that was looked at before it, of
# the old position. The second peek_async, and all later ones, give the first one's element,
# and read nothing.
#
# Command: findings/clu_peeked_position.sh
# Prints, and fails if it changes:
#   saved after nothing: goes on [2, 3, 4], restored [2, 3, 4]
#   saved after peek: goes on [2, 3, 4], restored [3, 4, 5]
#   saved after peek_async: goes on [2, 3, 4], restored [3, 4, 5]
#   saved at 5: restored [5, 6, 7], after a peek [0, 5, 6]
#   before each of [0, 1, 2] peek: [0, 1, 2]
#   before each of [0, 1, 2] peek_async: [0, 0, 0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    clu==0.0.12 tensorflow-cpu==2.21.0 jax==0.10.2 jaxlib==0.10.2
cat >"$folder/peeked.py" <<'PYTHON'
import pathlib
import sys

from clu.data import dataset_iterator
import tensorflow as tf

file = pathlib.Path(sys.argv[1]) / "position"


def make(peekable=True):
    data = tf.data.Dataset.range(10).map(lambda i: {"i": i})
    found = dataset_iterator.TfDatasetIterator(data, checkpoint=True)
    return dataset_iterator.PeekableDatasetIterator(found) if peekable else found


def numbers(iterator, count=3):
    return [int(next(iterator)["i"]) for _ in range(count)]


def restored(iterator):
    iterator.restore(file)
    return iterator


for how in ("nothing", "peek", "peek_async"):
    iterator = make()
    numbers(iterator, 2)
    if how == "peek":
        iterator.peek()
    elif how == "peek_async":
        iterator.peek_async().result()
    iterator.save(file)
    print(f"saved after {how}: goes on {numbers(iterator)}, restored {numbers(restored(make()))}")
iterator = make(peekable=False)
numbers(iterator, 5)
iterator.save(file)
iterator = make()
iterator.peek()
print(f"saved at 5: restored {numbers(restored(make()))}, after a peek {numbers(restored(iterator))}")
for how in ("peek", "peek_async"):
    iterator, seen, given = make(), [], []
    for _ in range(3):
        seen.append(iterator.peek() if how == "peek" else iterator.peek_async().result())
        given += numbers(iterator, 1)
    print(f"before each of {given} {how}: {[int(element['i']) for element in seen]}")
PYTHON
seen=$(JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3 \
    "$folder/venv/bin/python" "$folder/peeked.py" "$folder" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
saved after nothing: goes on [2, 3, 4], restored [2, 3, 4]
saved after peek: goes on [2, 3, 4], restored [3, 4, 5]
saved after peek_async: goes on [2, 3, 4], restored [3, 4, 5]
saved at 5: restored [5, 6, 7], after a peek [0, 5, 6]
before each of [0, 1, 2] peek: [0, 1, 2]
before each of [0, 1, 2] peek_async: [0, 0, 0]
EXPECTED
