#!/usr/bin/env bash
# sentencepiece 0.2.3, tensorflow-text 2.21.1: one vocabulary file, two tokenizations.
#
# Both read SentencePiece models, and look for the pieces of highest total score. Where two
# splits have the same pieces in another order, a+aa and aa+a, the totals are the same but
# for rounding, and the two may choose otherwise. seqio has both: in a
# SentencePieceVocabulary, encode, "Tokenizes string to an int sequence, without adding
# EOS", is sentencepiece's, and encode_tf, for tf.data, tensorflow-text's. So a program that
# serves a T5 by sentencepiece can give it tokens other than those that it was trained on.
#
# Command: findings/sentencepiece_two_readers.sh
# Prints, and fails if it changes:
#   scores of space, a, aa     text     sentencepiece    tensorflow-text
#   -1.1, -4.3, -6.7           aaa      _ a aa           _ aa a
#   -1.1, -4.3, -6.7           aaaaa    _ a aa aa        _ aa a aa
#   -1.1, -4.3, -6.7           a aaa    _ a _ a aa       _ a _ a aa
#   -2.5, -4.2, -6.3           aaa      _ a aa           _ a aa
#   -2.5, -4.2, -6.3           aaaaa    _ a aa aa        _ a aa aa
#   -2.5, -4.2, -6.3           a aaa    _ a _ a aa       _ a _ aa a
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -qq --disable-pip-version-check "$@"; }
pip tensorflow-cpu==2.21.0 sentencepiece==0.2.3 numpy==2.4.6 protobuf==7.36.2
pip --no-deps tensorflow-text==2.21.1  # it needs a TensorFlow by another name
cat >"$folder/readers.py" <<'PYTHON'
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
import tensorflow as tf
import tensorflow_text


def vocabulary(space, a, aa):
    model = sentencepiece_model_pb2.ModelProto()
    kinds = model.SentencePiece
    model.pieces.add(piece="<unk>", score=0.0, type=kinds.UNKNOWN)
    for piece, score in {"▁": space, "a": a, "aa": aa}.items():
        model.pieces.add(piece=piece, score=score, type=kinds.NORMAL)
    model.trainer_spec.model_type = model.trainer_spec.UNIGRAM
    model.trainer_spec.bos_id = model.trainer_spec.eos_id = -1
    model.normalizer_spec.name = "identity"
    return model.SerializeToString()


def show(*cells):
    widths = (27, 9, 17, 0)
    print("".join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True)))


show("scores of space, a, aa", "text", "sentencepiece", "tensorflow-text")
for scores in ((-1.1, -4.3, -6.7), (-2.5, -4.2, -6.3)):
    model = vocabulary(*scores)
    one = sentencepiece.SentencePieceProcessor(model_proto=model)
    other = tensorflow_text.SentencepieceTokenizer(model, out_type=tf.string)
    for text in ("aaa", "aaaaa", "a aaa"):
        split = [x.decode() for x in other.tokenize(text).numpy()]
        show(
            ", ".join(map(str, scores)),
            text,
            " ".join(one.encode(text, out_type=str)).replace("▁", "_"),
            " ".join(split).replace("▁", "_"),
        )
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/readers.py" 2>"$folder/log" |
    tee "$folder/output" || { cat "$folder/log"; exit 1; }
diff "$folder/output" <(sed -n '/^# Prints/,/^set /s/^#   //p' "$0")
