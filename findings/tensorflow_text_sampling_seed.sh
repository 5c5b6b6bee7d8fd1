#!/usr/bin/env bash
# tensorflow-text 2.21.1: subword sampling cannot be seeded.
#
# SentencepieceTokenizer samples splits of a text where nbest_size is not 0 or 1, as subword
# regularization does, and takes no seed. tf.random.set_seed, "Sets the global random seed",
# does not reach it, and tf.data's options.deterministic = True, which is about order, says
# nothing: two runs of one program train on other tokens. With
# tf.config.experimental.enable_op_determinism an op "will have the exact same outputs each
# time" or raise an error; this one does neither.
#
# Command: findings/tensorflow_text_sampling_seed.sh
# Prints, and fails if it changes:
#   two runs, set_seed(1): the same tokens: False
#   with enable_op_determinism too: the same tokens: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -qq --disable-pip-version-check "$@"; }
pip tensorflow-cpu==2.21.0 sentencepiece==0.2.3 numpy==2.4.6 protobuf==7.36.2
pip --no-deps tensorflow-text==2.21.1 # it needs a TensorFlow by another name
cat >"$folder/sample.py" <<'PYTHON'
import sys

from sentencepiece import sentencepiece_model_pb2
import tensorflow as tf
import tensorflow_text


def vocabulary():
    model = sentencepiece_model_pb2.ModelProto()
    kinds = model.SentencePiece
    model.pieces.add(piece="<unk>", score=0.0, type=kinds.UNKNOWN)
    for piece in ("▁", "a", "aa", "aaa"):
        model.pieces.add(piece=piece, score=-2.0 * len(piece), type=kinds.NORMAL)
    model.trainer_spec.model_type = model.trainer_spec.UNIGRAM
    model.trainer_spec.bos_id = model.trainer_spec.eos_id = -1
    return model.SerializeToString()


tf.random.set_seed(1)
if sys.argv[1] == "deterministic":
    tf.config.experimental.enable_op_determinism()
tokenizer = tensorflow_text.SentencepieceTokenizer(vocabulary(), nbest_size=-1, alpha=0.1)
options = tf.data.Options()
options.deterministic = True
data = tf.data.Dataset.from_tensors("a" * 200).map(tokenizer.tokenize)
print(next(data.with_options(options).as_numpy_iterator()).tolist())
PYTHON
tokens() { TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/sample.py" "$1"; }
compare() { # the runs' first lines, which have to be tokens
    one=$(tokens "$1" 2>"$folder/log") && other=$(tokens "$1" 2>"$folder/log") ||
        { cat "$folder/log" && exit 1; }
    if [[ $one == "$other" ]]; then echo True; else echo False; fi
}
seen="two runs, set_seed(1): the same tokens: $(compare seeded)
with enable_op_determinism too: the same tokens: $(compare deterministic)"
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
two runs, set_seed(1): the same tokens: False
with enable_op_determinism too: the same tokens: False
EXPECTED
