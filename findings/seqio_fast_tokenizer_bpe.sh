#!/usr/bin/env bash
# seqio 0.0.20 and tensorflow-text 2.21.1: the fast tokenizer reads a BPE vocabulary as unigram.
#
# seqio.SentencePieceVocabulary has use_fast_tokenizer, "use the tf_text
# fastsentencepiecetokenizer implementation which runs much faster": encode_tf, for tf.data,
# is then tensorflow_text.FastSentencepieceTokenizer in place of SentencepieceTokenizer. It
# takes the pieces and scores of a model, and not its type, and looks for the pieces of
# highest total score, as is right for unigram. The scores of BPE are the order of its merges:
# so frequent short pieces are preferred to the word. With no error over half of the lines
# have other ids than those of encode, which is sentencepiece, and more of them. They decode
# to the same text, so that only the model is worse. SentencepieceTokenizer reads both types.
#
# Command: findings/seqio_fast_tokenizer_bpe.sh
# Prints, and fails if it changes: of lines of the docstrings of NumPy, how many have other
# ids by encode_tf than by encode.
#   unigram, use_fast_tokenizer=False: under 5% of lines
#   unigram, use_fast_tokenizer=True: under 5% of lines
#   bpe, use_fast_tokenizer=False: under 5% of lines
#   bpe, use_fast_tokenizer=True: over 50% of lines, more tokens, decoded to the same text
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -qq --disable-pip-version-check "$@"; }
pip tensorflow-cpu==2.21.0 tensorflow-datasets==4.9.10 jax==0.10.2 jaxlib==0.10.2 \
    clu==0.0.12 sentencepiece==0.2.3 protobuf==7.36.2 editdistance==0.8.1 pyglove==0.4.5 \
    numpy==2.4.6
# Its needs by name: tensorflow-text brings a second TensorFlow.
pip --no-deps seqio==0.0.20 tensorflow-text==2.21.1
cat >"$folder/fast.py" <<'PYTHON'
import ast
import io
import operator
import pathlib
import re
import sys

import numpy
import sentencepiece
import seqio
import tensorflow as tf

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
text = []
for file in sorted(pathlib.Path(numpy.__file__).parent.rglob("*.py")):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, DOCUMENTED):
            lines = (ast.get_docstring(node) or "").splitlines()
            text += [line.strip() for line in lines]
# Not repeated characters, of which sentencepiece and tensorflow-text choose other splits.
text = [x for x in text if x and x.isascii() and not re.search(r"(.)\1\1", x)]
sample = text[::10]


def train(kind):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=2000,
        model_type=kind,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    file = pathlib.Path(sys.argv[1], f"{kind}.model")
    file.write_bytes(model.getvalue())
    return str(file)


def share(lines):
    found = lines / len(sample)
    if found < 0.05:
        return "under 5%"
    return "over 50%" if found > 0.5 else f"{found:.0%}"


for kind in ("unigram", "bpe"):
    file = train(kind)
    for fast in (False, True):
        vocabulary = seqio.SentencePieceVocabulary(file, use_fast_tokenizer=fast)
        python = [vocabulary.encode(line) for line in sample]
        other = vocabulary.encode_tf(tf.constant(sample)).to_list()
        differ = sum(map(operator.ne, python, other))
        notes = ""
        if differ > 0.05 * len(sample):
            more = sum(map(len, other)) > sum(map(len, python))
            decoded = list(map(vocabulary.decode, other))
            same = decoded == list(map(vocabulary.decode, python))
            notes = f", {'more' if more else 'fewer'} tokens, decoded to "
            notes += "the same text" if same else "another text"
        print(f"{kind}, use_fast_tokenizer={fast}: {share(differ)} of lines{notes}")
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/fast.py" "$folder" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
unigram, use_fast_tokenizer=False: under 5% of lines
unigram, use_fast_tokenizer=True: under 5% of lines
bpe, use_fast_tokenizer=False: under 5% of lines
bpe, use_fast_tokenizer=True: over 50% of lines, more tokens, decoded to the same text
EXPECTED
