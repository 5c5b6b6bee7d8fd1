#!/usr/bin/env bash
# t5 0.9.4 with TensorFlow 2.21.0: rank_classification_formatter cuts texts at a backslash.
#
# t5.data.preprocessors.rank_classification_formatter fills formats as "{choice1}" "with the
# feature values". It does so by tf.strings.regex_replace, with the value as its `rewrite`, in
# which a backslash is special: what TensorFlow cannot read as one, and all that follows in
# the value, is left out, with no error. A choice $\frac{3}{4}$ becomes $, and so do all
# choices that begin so. Of questions whose four choices are such, a model that gives the
# right answer the highest score has an accuracy of 25, and in mode "train" it learns $.
# \0 and \1 become the format's placeholder, and two backslashes one. So are texts of LaTeX,
# code and escaped line breaks cut, of the inputs too. seqio's own formatter,
# preprocess_tensorflow_examples, joins strings and keeps them; so does
# t5.data.preprocessors.rank_classification with functions that give the texts.
#
# Command: findings/t5_rank_backslash.sh
# Prints, and fails if it changes:
#   formatted by t5 as {text}
#     plain text -> plain text
#     $\frac{3}{4}$ -> $
#     one line\nanother -> one line
#     C:\temp\data -> C:
#     a \\ b -> a \ b
#     \0 -> {text}
#     (a)\1 -> {text}
#   formatted by seqio as {text}: all as they were
#   accuracy of a model that is right, choices of LaTeX
#     rank_classification_formatter: 25
#     rank_classification: 100
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
cat >"$folder/formats.py" <<'PYTHON'
import seqio
from t5.data import preprocessors
from t5.evaluation import metrics
import tensorflow as tf

TEXTS = [
    "plain text",
    r"$\frac{3}{4}$",
    r"one line\nanother",
    r"C:\temp\data",
    r"a \\ b",
    r"\0",
    r"(a)\1",
]
dataset = tf.data.Dataset.from_tensor_slices({"text": TEXTS, "label": [0] * len(TEXTS)})
by_t5 = preprocessors.rank_classification_formatter(
    dataset, inputs_formats="text", targets_formats=["{text}", "other"], mode="train"
)
print("formatted by t5 as {text}")
for text, x in zip(TEXTS, by_t5.as_numpy_iterator(), strict=True):
    print(f"  {text} -> {x['targets'].decode()}")
by_seqio = seqio.preprocessors.preprocess_tensorflow_examples(
    dataset, inputs_format="text", targets_format="{text}"
)
kept = [x["targets"].decode() for x in by_seqio.as_numpy_iterator()]
print("formatted by seqio as {text}:", "all as they were" if kept == TEXTS else kept)

QUESTIONS, CHOICES = 40, "abcd"


def choice(question, which):
    return rf"$\frac{{{question + 1}}}{{{which + 2}}}$"


questions = tf.data.Dataset.from_tensor_slices(
    {
        "question": [f"{n + 1} / {n % 4 + 2} is" for n in range(QUESTIONS)],
        "label": [n % 4 for n in range(QUESTIONS)],
        **{
            name: [choice(n, which) for n in range(QUESTIONS)]
            for which, name in enumerate(CHOICES)
        },
    }
)


def accuracy(examples):
    """Of a model that gives the text of the right choice the highest score."""
    targets, scores = [], []
    for x in examples.as_numpy_iterator():
        question = int(x["idx"][0])
        right = choice(question, question % 4)
        targets.append((tuple(x["idx"].tolist()), bool(x["is_correct"]), 1.0, 1))
        scores.append(0.0 if x["targets"].decode() == right else -1.0)
    return metrics.rank_classification(targets, scores)["accuracy"]


print("accuracy of a model that is right, choices of LaTeX")
formatted = preprocessors.rank_classification_formatter(
    questions,
    inputs_formats="{question}",
    targets_formats=[f"{{{name}}}" for name in CHOICES],
)
print(f"  rank_classification_formatter: {accuracy(formatted):.0f}")
given = preprocessors.rank_classification(
    questions,
    inputs_fn=lambda x: [x["question"]] * len(CHOICES),
    targets_fn=lambda x: [x[name] for name in CHOICES],
    is_correct_fn=lambda x: tf.one_hot(x["label"], len(CHOICES)),
)
print(f"  rank_classification: {accuracy(given):.0f}")
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/formats.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
formatted by t5 as {text}
  plain text -> plain text
  $\frac{3}{4}$ -> $
  one line\nanother -> one line
  C:\temp\data -> C:
  a \\ b -> a \ b
  \0 -> {text}
  (a)\1 -> {text}
formatted by seqio as {text}: all as they were
accuracy of a model that is right, choices of LaTeX
  rank_classification_formatter: 25
  rank_classification: 100
EXPECTED
