#!/usr/bin/env bash
# t5 0.9.4: predictions that equal their targets score 0, 50 or 67, not 100.
#
# On a small held-out set, or a slice of one, metrics of SuperGLUE, SQuAD, TriviaQA and WMT
# are not 100 for a model that is right throughout. Where an answer of SQuAD or TriviaQA is
# nothing but an article or punctuation, "A" of "vitamin A", em is 100 and f1 0, so that F1
# is below exact match; coqa_f1 has 100. An empty output has em 100 there too. Where no
# sentence has four tokens BLEU is 0. Where no target is of a class, its F1 is taken as 0: of
# CB without one of three classes the mean is 67, of MultiRC without a positive the F1 is 0.
# Of these two scikit-learn warns.
#
# Command: findings/t5_perfect_predictions.sh
# Prints, and fails if it changes:
#   CB, no target of class 2: mean_3class_f1 67 (UndefinedMetricWarning)
#   MultiRC, no positive: f1 0 (UndefinedMetricWarning)
#   SQuAD, 'A': em 100 f1 0
#   SQuAD, 'Paris' and 'A': em 100 f1 50
#   SQuAD, 'A', empty output: em 100 f1 0
#   TriviaQA, '+': em 100 f1 0
#   CoQA, 'A': f1 100
#   WMT, 'Open the file': bleu 0
#   WMT, 'Open the text file': bleu 100
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
cat >"$folder/perfect.py" <<'PYTHON'
import warnings

from t5.evaluation import metrics


def show(what, metric, targets, predictions=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = metric(targets, targets if predictions is None else predictions)
    values = (f"{name} {value:.0f}" for name, value in sorted(found.items()))
    print(f"{what}:", *values, *sorted({f"({w.category.__name__})" for w in caught}))


def answers(*texts):
    return [[text] for text in texts]


paragraphs = [{"group": (0, 0), "value": 0}, {"group": (0, 1), "value": 0}]
show("CB, no target of class 2", metrics.mean_multiclass_f1(3), [0, 1, 1])
show("MultiRC, no positive", metrics.multirc_f1_over_all_answers, paragraphs)
show("SQuAD, 'A'", metrics.squad, answers("A"), ["A"])
show("SQuAD, 'Paris' and 'A'", metrics.squad, answers("Paris", "A"), ["Paris", "A"])
show("SQuAD, 'A', empty output", metrics.squad, answers("A"), [""])
show("TriviaQA, '+'", metrics.trivia_qa, answers("+"), ["+"])
show("CoQA, 'A'", metrics.coqa_f1, answers("A"), ["A"])
show("WMT, 'Open the file'", metrics.bleu, ["Open the file"])
show("WMT, 'Open the text file'", metrics.bleu, ["Open the text file"])
PYTHON
seen=$(JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" \
    "$folder/perfect.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
CB, no target of class 2: mean_3class_f1 67 (UndefinedMetricWarning)
MultiRC, no positive: f1 0 (UndefinedMetricWarning)
SQuAD, 'A': em 100 f1 0
SQuAD, 'Paris' and 'A': em 100 f1 50
SQuAD, 'A', empty output: em 100 f1 0
TriviaQA, '+': em 100 f1 0
CoQA, 'A': f1 100
WMT, 'Open the file': bleu 0
WMT, 'Open the text file': bleu 100
EXPECTED
