#!/usr/bin/env bash
# sentencepiece 0.2.3: num_threads, of training, decides what the ids of a vocabulary mean.
#
# A unigram vocabulary is trained of the docstrings of NumPy, the same text and flags each
# time. One number of threads gives the same ids each time. With 2, 4 or 16 threads in place
# of 1, over 50 of 2,000 ids name another piece, and over 2 % of the lines are encoded as
# other ids. A checkpoint that was trained with one such vocabulary reads and writes other
# words with another. BPE does not differ. gbt_t5x's scripts/train_vocabulary.py has 8
# threads on every machine.
#
# Command: findings/sentencepiece_threads.sh
# Prints, and fails if it changes:
#   unigram, 1 thread again: the same ids
#   unigram, 16 threads again: the same ids
#   unigram, 1 and 2 threads: over 50 of 2000 ids name another piece, over 2% of lines differ
#   unigram, 1 and 4 threads: over 50 of 2000 ids name another piece, over 2% of lines differ
#   unigram, 1 and 16 threads: over 50 of 2000 ids name another piece, over 2% of lines differ
#   bpe, 1 and 16 threads: the same ids
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    sentencepiece==0.2.3 numpy==2.4.6
cat >"$folder/threads.py" <<'PYTHON'
import ast
import functools
import io
import operator
import pathlib

import numpy
import sentencepiece

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
text = []
for file in sorted(pathlib.Path(numpy.__file__).parent.rglob("*.py")):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, DOCUMENTED):
            lines = (ast.get_docstring(node) or "").splitlines()
            text += [line.strip() for line in lines if line.strip()]


def train(kind, threads):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=2000,
        model_type=kind,
        num_threads=threads,
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [trained.id_to_piece(i) for i in range(len(trained))]
    return pieces, trained.encode(text)


first = functools.cache(train)


def compare(name, a, b):
    of_ids, of_lines = (sum(map(operator.ne, *of)) for of in zip(a, b))
    if not of_ids and not of_lines:
        what = "the same ids"
    elif of_ids > 50 and of_lines > 0.02 * len(text):
        what = "over 50 of 2000 ids name another piece, over 2% of lines differ"
    else:
        what = f"{of_ids} ids name another piece, {of_lines} lines differ"
    print(f"{name}: {what}", flush=True)


for threads in (1, 16):
    name = f"unigram, {threads} thread{'s' if threads > 1 else ''} again"
    compare(name, first("unigram", threads), train("unigram", threads))
for kind, others in {"unigram": (2, 4, 16), "bpe": (16,)}.items():
    for threads in others:
        compare(f"{kind}, 1 and {threads} threads", first(kind, 1), first(kind, threads))
PYTHON
"$folder/venv/bin/python" "$folder/threads.py" | tee "$folder/output"
diff "$folder/output" <(sed -n '/^# Prints/,/^set /s/^#   //p' "$0")
