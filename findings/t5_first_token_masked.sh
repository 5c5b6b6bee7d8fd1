#!/usr/bin/env bash
# t5 0.9.4: where the first token is masked, the sentinels of the targets mark other spans.
#
# t5.data.preprocessors.denoise replaces masked spans of the inputs by sentinels, and in the
# targets the spans between them, "to be able to align the dropped spans in the inputs with
# the markers in the targets": what follows <0> in the targets stood where the inputs have
# <0>. That is so if the first token is not masked. If it is, the targets begin with the first
# span, before any sentinel, and after <0> they have the second span, and so on to the end:
# each sentinel stands for another span, with no error. random_spans_noise_mask, the mask of
# span corruption, "Spans alternate between non-noise and noise, beginning with non-noise",
# never masks the first token. With random_roll, "to get a more uniform distribution of
# masked positions", it does in over 10% of the examples, and so do iid_noise_mask and
# regular_noise_mask in theirs. random_roll also makes inputs and targets of one token more
# than random_spans_helper plans. With the first token left alone the sentinels are right.
#
# Command: findings/t5_first_token_masked.sh
# Prints, and fails if it changes: what two masks make, "restored" the inputs with each
# sentinel replaced by what follows it in the targets; of how many of 1000 examples that is
# the text, and the longest inputs and targets with EOS.
#   masked: these truths, self evident
#     inputs: We hold <0> to be <1>
#     targets: <0> these truths <1> self evident
#     restored: We hold these truths to be self evident
#   masked: We hold, to be
#     inputs: <0> these truths <1> self evident
#     targets: We hold <0> to be <1>
#     restored: to be these truths self evident
#   planned: inputs 512, targets 114
#   random_spans_noise_mask: 1000 of 1000 restored, inputs 512, targets 114
#   random_spans_noise_mask, random_roll: fewer than 900 of 1000 restored, inputs 513, targets 115
#   iid_noise_mask: fewer than 900 of 1000 restored
#   regular_noise_mask: fewer than 900 of 1000 restored
#   iid_noise_mask, the first token left alone: 1000 of 1000 restored
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
cat >"$folder/masked.py" <<'PYTHON'
import functools

import seqio
from t5.data import preprocessors
import tensorflow as tf

EXAMPLES = 1000
WORDS = "We hold these truths to be self evident".split()
vocabulary = seqio.PassThroughVocabulary(10_000)
features = {k: seqio.Feature(vocabulary, add_eos=False) for k in ("inputs", "targets")}
first_sentinel = vocabulary.vocab_size - 1
inputs_of = preprocessors.noise_span_to_unique_sentinel
targets_of = preprocessors.nonnoise_span_to_unique_sentinel


def is_sentinel(token):
    return token > first_sentinel // 2  # more than any example has


def restored(inputs, targets):
    """The inputs, each sentinel replaced by what follows it in the targets."""
    spans, sentinel = {}, None
    for token in targets:
        if is_sentinel(token):
            sentinel = token
        else:
            spans.setdefault(sentinel, []).append(token)
    found = []
    for token in inputs:
        found += spans.get(token, []) if is_sentinel(token) else [token]
    return found


def spell(tokens):
    return " ".join(
        f"<{first_sentinel - token}>" if is_sentinel(token) else WORDS[token]
        for token in tokens
    )


for what, mask in {
    "these truths, self evident": [0, 0, 1, 1, 0, 0, 1, 1],
    "We hold, to be": [1, 1, 0, 0, 1, 1, 0, 0],
}.items():
    tokens, mask = tf.range(len(WORDS)), tf.cast(mask, tf.bool)
    inputs, targets = (
        of(tokens, mask, vocabulary, seeds=None).numpy().tolist()
        for of in (inputs_of, targets_of)
    )
    print(f"masked: {what}")
    print("  inputs:", spell(inputs))
    print("  targets:", spell(targets))
    print("  restored:", spell(restored(inputs, targets)))

length, targets_length = preprocessors.random_spans_helper(
    inputs_length=512,
    noise_density=0.15,
    mean_noise_span_length=3.0,
    extra_tokens_per_span_inputs=1,
    extra_tokens_per_span_targets=1,
)
print(f"planned: inputs 512, targets {targets_length}")


def first_left_alone(num_tokens, noise_density, seeds):
    mask = preprocessors.iid_noise_mask(num_tokens, noise_density, seeds)
    return tf.concat([[False], mask[1:]], axis=0)


random_spans = preprocessors.random_spans_noise_mask
for name, mask_fn, has_plan in (
    ("random_spans_noise_mask", random_spans, True),
    (
        "random_spans_noise_mask, random_roll",
        functools.partial(random_spans, random_roll=True),
        True,
    ),
    ("iid_noise_mask", preprocessors.iid_noise_mask, False),
    ("regular_noise_mask", preprocessors.regular_noise_mask, False),
    ("iid_noise_mask, the first token left alone", first_left_alone, False),
):
    text = tf.data.Dataset.range(EXAMPLES)
    text = text.map(lambda _: {"targets": tf.range(1, length + 1)})
    with seqio.map_seed_manager(0):
        dataset = preprocessors.denoise(
            text,
            features,
            noise_density=0.15,
            noise_mask_fn=mask_fn,
            inputs_fn=inputs_of,
            targets_fn=targets_of,
        )
    made = [
        (x["inputs"].tolist(), x["targets"].tolist())
        for x in dataset.as_numpy_iterator()
    ]
    right = sum(restored(*x) == list(range(1, length + 1)) for x in made)
    count = "fewer than 900" if right < 900 else right
    lengths = ""
    if has_plan:
        longest = (max(map(len, x)) + 1 for x in zip(*made))
        lengths = ", inputs {}, targets {}".format(*longest)
    print(f"{name}: {count} of {EXAMPLES} restored{lengths}")
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/masked.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
masked: these truths, self evident
  inputs: We hold <0> to be <1>
  targets: <0> these truths <1> self evident
  restored: We hold these truths to be self evident
masked: We hold, to be
  inputs: <0> these truths <1> self evident
  targets: We hold <0> to be <1>
  restored: to be these truths self evident
planned: inputs 512, targets 114
random_spans_noise_mask: 1000 of 1000 restored, inputs 512, targets 114
random_spans_noise_mask, random_roll: fewer than 900 of 1000 restored, inputs 513, targets 115
iid_noise_mask: fewer than 900 of 1000 restored
regular_noise_mask: fewer than 900 of 1000 restored
iid_noise_mask, the first token left alone: 1000 of 1000 restored
EXPECTED
