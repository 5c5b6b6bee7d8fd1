#!/usr/bin/env bash
# tensorflow-text 2.21.1: tf.random.set_seed takes the vocabulary from tokenizers that are
# there.
#
# tf.random.set_seed "Sets the global random seed". It also empties the eager context's cache
# of kernels, "to reset any existing seeds" (TensorFlow 2.21.0), and the vocabulary of a
# SentencepieceTokenizer lives as long as its kernel. Eager calls and tf.data pipelines of
# the tokenizer then end in NotFoundError; a variable and a lookup table stay. Seed before
# the tokenizer is made.
#
# Command: findings/tensorflow_text_set_seed.sh
# Prints, and fails if it changes:
#   before: 2 pieces
#   after set_seed(1): NotFoundError
#   tf.data after it: NotFoundError
#   a tokenizer made after it: 2 pieces
#   a table and a variable from before: 3, 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -qq --disable-pip-version-check "$@"; }
pip tensorflow-cpu==2.21.0 sentencepiece==0.2.3 numpy==2.4.6 protobuf==7.36.2
pip --no-deps tensorflow-text==2.21.1 # it needs a TensorFlow by another name
cat >"$folder/seed.py" <<'PYTHON'
from sentencepiece import sentencepiece_model_pb2
import tensorflow as tf
import tensorflow_text


def tokenizer():
    model = sentencepiece_model_pb2.ModelProto()
    kinds = model.SentencePiece
    model.pieces.add(piece="<unk>", score=0.0, type=kinds.UNKNOWN)
    for piece, score in {"▁": -1.0, "a": -2.0, "▁b": -3.0}.items():
        model.pieces.add(piece=piece, score=score, type=kinds.NORMAL)
    model.trainer_spec.model_type = model.trainer_spec.UNIGRAM
    model.trainer_spec.bos_id = model.trainer_spec.eos_id = -1
    return tensorflow_text.SentencepieceTokenizer(model.SerializeToString())


def pieces(tokenize):
    try:
        return f"{len(tokenize())} pieces"
    except tf.errors.NotFoundError as error:
        return type(error).__name__


old = tokenizer()
keys_and_values = tf.lookup.KeyValueTensorInitializer([1], [3])
table, variable = tf.lookup.StaticHashTable(keys_and_values, 0), tf.Variable(1.0)
print("before:", pieces(lambda: old.tokenize("ba")))
tf.random.set_seed(1)
print("after set_seed(1):", pieces(lambda: old.tokenize("ba")))
dataset = tf.data.Dataset.from_tensors("ba").map(old.tokenize)
print("tf.data after it:", pieces(lambda: next(dataset.as_numpy_iterator())))
new = tokenizer()
print("a tokenizer made after it:", pieces(lambda: new.tokenize("ba")))
found = table.lookup(tf.constant(1)).numpy()
print(f"a table and a variable from before: {found}, {variable.numpy()}")
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/seed.py" 2>/dev/null)
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
before: 2 pieces
after set_seed(1): NotFoundError
tf.data after it: NotFoundError
a tokenizer made after it: 2 pieces
a table and a variable from before: 3, 1.0
EXPECTED
