#!/usr/bin/env bash
# t5 0.9.4: ROUGE of the same outputs is another number in every evaluation.
#
# t5.evaluation.metrics.rouge documents "rouge score across all targets and predictions".
# What it gives is not their mean: rouge_score's BootstrapAggregator draws the examples
# anew 1,000 times, from NumPy's global generator, and gives the median of the means,
# though its "Mid is always the mean". Of the same 200 outputs ROUGE-2 is 34.61 to 34.92
# in 20 evaluations; checkpoints no better than each other are then ranked. Two
# evaluations in a row differ, and the generator has moved on: what a training script
# draws from np.random depends on how often it has evaluated. The mean of RougeScorer's
# scores does neither.
#
# Command: findings/t5_rouge_random.sh
# Prints, and fails if it changes:
#   means of 200 outputs: rouge1 62.03, rouge2 34.76
#   t5, twice in a row: rouge1 61.95 and 61.94, rouge2 34.87 and 34.71
#   t5, 20 seeds of NumPy: rouge1 61.92 to 62.12, rouge2 34.61 to 34.92
#   np.random.rand() after seed 0: 0.5488, with an evaluation between 0.8395
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
cat >"$folder/rouge.py" <<'PYTHON'
import random

import numpy as np
from rouge_score import rouge_scorer
from t5.evaluation import metrics

KEYS = ("rouge1", "rouge2")
rng = random.Random(0)
words = [f"word{i}" for i in range(40)]
targets = [rng.choices(words, k=20) for _ in range(200)]
outputs = []
for target in targets:
    quality = rng.random()
    outputs.append([x if rng.random() < quality else rng.choice(words) for x in target])
targets, outputs = ([" ".join(x) for x in texts] for texts in (targets, outputs))


def evaluate():
    return metrics.rouge(targets, outputs, score_keys=KEYS)


scorer = rouge_scorer.RougeScorer(KEYS)
scores = [scorer.score(target, output) for target, output in zip(targets, outputs)]
means = {k: 100 * np.mean([x[k].fmeasure for x in scores]) for k in KEYS}
print("means of 200 outputs: " + ", ".join(f"{k} {means[k]:.2f}" for k in KEYS))
np.random.seed(0)
first, second = evaluate(), evaluate()
both = [f"{k} {first[k]:.2f} and {second[k]:.2f}" for k in KEYS]
print(f"t5, twice in a row: {', '.join(both)}")
many = []
for seed in range(20):
    np.random.seed(seed)
    many.append(evaluate())
values = {k: [x[k] for x in many] for k in KEYS}
ranges = [f"{k} {min(v):.2f} to {max(v):.2f}" for k, v in values.items()]
print(f"t5, 20 seeds of NumPy: {', '.join(ranges)}")
np.random.seed(0)
alone = np.random.rand()
np.random.seed(0)
evaluate()
between = np.random.rand()
print(
    f"np.random.rand() after seed 0: {alone:.4f}, "
    f"with an evaluation between {between:.4f}"
)
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/rouge.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
means of 200 outputs: rouge1 62.03, rouge2 34.76
t5, twice in a row: rouge1 61.95 and 61.94, rouge2 34.87 and 34.71
t5, 20 seeds of NumPy: rouge1 61.92 to 62.12, rouge2 34.61 to 34.92
np.random.rand() after seed 0: 0.5488, with an evaluation between 0.8395
EXPECTED
