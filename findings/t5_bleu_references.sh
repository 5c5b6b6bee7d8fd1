#!/usr/bin/env bash
# t5 0.9.4: BLEU with two references an example is that of the first two outputs alone.
#
# t5.evaluation.metrics.bleu takes as targets a "list of list of strings if multiple
# references are present". Metrics get a list of targets, one of each example, and
# metrics.squad takes just that, a list of answers for each question. bleu hands it as it
# is to sacrebleu.corpus_bleu, which wants a list of all examples' first references, one
# of their second, and so on, and ends with the shortest. The first output is then
# compared with the first references of all examples, the second with the second ones, and
# the others with nothing, with no error: 0 where eight of ten outputs are right.
#
# Command: findings/t5_bleu_references.sh
# Prints, and fails if it changes:
#   10 examples of 2 references, the first 2 outputs right: BLEU of t5 58.37
#     of sacrebleu, references in its order: 20.50; exact match of t5's squad: 20
#   10 examples of 2 references, the other 8 outputs right: BLEU of t5 0.00
#     of sacrebleu, references in its order: 80.53; exact match of t5's squad: 80
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -qq --disable-pip-version-check "$@"; }
pip tensorflow-cpu==2.21.0 tensorflow-datasets==4.9.10 jax==0.10.2 jaxlib==0.10.2 \
    clu==0.0.12 sentencepiece==0.2.3 protobuf==7.36.2 editdistance==0.8.1 pyglove==0.4.5 \
    babel==2.18.0 gin-config==0.5.0 nltk==3.10.4 numpy==2.4.6 rouge-score==0.1.2 \
    sacrebleu==2.6.0 scikit-learn==1.9.1 scipy==1.17.1
# Their needs by name: tensorflow-text brings a second TensorFlow, t5 a second seqio.
pip --no-deps seqio==0.0.20 tensorflow-text==2.21.1 t5==0.9.4
cat >"$folder/references.py" <<'PYTHON'
import sacrebleu
from t5.evaluation import metrics

THINGS = ("cat", "dog", "cow", "pig", "hen", "ant", "bee", "fox", "owl", "rat")
targets = [
    [f"the {x} sat on the old {x} mat", f"on its old mat lay the {x} again"]
    for x in THINGS
]


def show(what, right):
    outputs = ["nobody knows what this may mean here"] * len(targets)
    for i in right:
        outputs[i] = targets[i][0]
    streams = [list(stream) for stream in zip(*targets)]
    score = sacrebleu.corpus_bleu(outputs, streams, tokenize="intl").score
    found = metrics.bleu(targets, outputs)["bleu"]
    matches = metrics.squad(targets, outputs)["em"]
    print(f"10 examples of 2 references, {what}: BLEU of t5 {found:.2f}")
    print(
        f"  of sacrebleu, references in its order: {score:.2f}; "
        f"exact match of t5's squad: {matches:.0f}"
    )


show("the first 2 outputs right", range(2))
show("the other 8 outputs right", range(2, 10))
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/references.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
10 examples of 2 references, the first 2 outputs right: BLEU of t5 58.37
  of sacrebleu, references in its order: 20.50; exact match of t5's squad: 20
10 examples of 2 references, the other 8 outputs right: BLEU of t5 0.00
  of sacrebleu, references in its order: 80.53; exact match of t5's squad: 80
EXPECTED
