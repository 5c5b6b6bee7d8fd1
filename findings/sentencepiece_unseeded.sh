#!/usr/bin/env bash
# sentencepiece 0.2.3: set_random_generator_seed seeds nothing, and vocabularies that are
# trained on a sample differ each time.
#
# input_sentence_size trains on so many lines of a larger corpus, drawn at random. Two
# processes with the same lines, flags, thread and seed make two vocabularies, and so without
# a seed: who lost the vocabulary of a checkpoint cannot make it again. Subword sampling,
# enable_sampling, differs too. In 0.2.1 all of it is the same in both processes. Of all lines
# the vocabulary is the same: gbt_t5x's scripts/train_vocabulary.py draws its sample itself.
#
# Command: findings/sentencepiece_unseeded.sh
# Prints, and fails if it changes:
#   two processes, the same                   0.2.1    0.2.3
#   vocabulary of a sample, seed 1            True     False
#   vocabulary of a sample, no seed           True     False
#   vocabulary of all lines                   True     True
#   subword sampling, seed 1                  True     False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 0.2.1 0.2.3; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -qq --disable-pip-version-check \
        sentencepiece==$version
done
cat >"$folder/sample.py" <<'PYTHON'
import io
import json
from pydoc_data import topics
import sys

import sentencepiece

LINES = [line for topic in topics.topics.values() for line in topic.splitlines() if line]


def train(**flags):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=model,
        vocab_size=500,
        num_threads=1,
        minloglevel=2,
        **flags,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


which = sys.argv[1]
if which != "unseeded":
    sentencepiece.set_random_generator_seed(1)
vocabulary = train(**({} if which in ("all", "subwords") else {"input_sentence_size": 2000}))
found = [vocabulary.id_to_piece(i) for i in range(500)]
if which == "subwords":
    found = vocabulary.encode(" ".join(LINES[:50]), enable_sampling=True, alpha=0.1)
print(json.dumps(found))
PYTHON
same() { # in two processes of a version
    run() { "$folder/$1/bin/python" "$folder/sample.py" "$2" 2>"$folder/log"; }
    one=$(run "$@") && other=$(run "$@") || { cat "$folder/log" && exit 1; }
    if [[ $one == "$other" ]]; then echo True; else echo False; fi
}
row() { printf '%-41s %-8s %s\n' "$@"; }
both() { row "$1" "$(same 0.2.1 "$2")" "$(same 0.2.3 "$2")"; }
seen=$(
    row "two processes, the same" 0.2.1 0.2.3
    both "vocabulary of a sample, seed 1" seeded
    both "vocabulary of a sample, no seed" unseeded
    both "vocabulary of all lines" all
    both "subword sampling, seed 1" subwords
)
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
two processes, the same                   0.2.1    0.2.3
vocabulary of a sample, seed 1            True     False
vocabulary of a sample, no seed           True     False
vocabulary of all lines                   True     True
subword sampling, seed 1                  True     False
EXPECTED
