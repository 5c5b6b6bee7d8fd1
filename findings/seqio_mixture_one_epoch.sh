#!/usr/bin/env bash
# seqio 0.0.20: one epoch of a mixture ends with its first exhausted task.
#
# seqio.Mixture.get_dataset documents num_epochs as "the number of times to iterate through
# the dataset, or `None` to repeat indefinitely". Of a mixture, num_epochs=1 reads a small
# task once and stops there: of a task of 1,000 examples mixed at equal rates with one of 4,
# fewer than 40 are given, with no error. The default sample_fn is
# tf.data.Dataset.sample_from_datasets with stop_on_empty_dataset=True; with False both tasks
# are given whole. A mixture of the large task alone gives all 1,000.
#
# Command: findings/seqio_mixture_one_epoch.sh
# Prints, and fails if it changes:
#   the large task alone, one epoch: 1000
#   mixed with 4 examples, one epoch, of the small task: 4
#   of the large task: fewer than 40
#   two epochs, of the small task: 8
#   of the large task: fewer than 40
#   stop_on_empty_dataset=False, one epoch, of the small task: 4
#   of the large task: 1000
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
cat >"$folder/epoch.py" <<'PYTHON'
import collections
import functools

import seqio
import tensorflow as tf


def task(name, count):
    def rows(split, shuffle_files, seed=None):
        tokens = tf.ones((count, 1), tf.int32)
        return tf.data.Dataset.from_tensor_slices({"targets": tokens * count})

    return seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(rows, splits=["train"]),
        preprocessors=[],
        output_features={"targets": seqio.Feature(seqio.PassThroughVocabulary(2000))},
    )


task("small", 4)
task("large", 1000)
both = seqio.MixtureRegistry.add("both", ["small", "large"], default_rate=1)
to_the_end = functools.partial(
    tf.data.Dataset.sample_from_datasets, stop_on_empty_dataset=False
)
whole = seqio.MixtureRegistry.add(
    "whole", ["small", "large"], default_rate=1, sample_fn=to_the_end
)
alone = seqio.MixtureRegistry.add("alone", ["large"], default_rate=1)


def given(mixture, epochs):
    examples = mixture.get_dataset(
        {"targets": 1}, "train", shuffle=False, seed=0, num_epochs=epochs
    )
    return collections.Counter(int(x["targets"][0]) for x in examples)


print("the large task alone, one epoch:", given(alone, 1)[1000])
for what, mixture, epochs in (
    ("mixed with 4 examples, one epoch", both, 1),
    ("two epochs", both, 2),
    ("stop_on_empty_dataset=False, one epoch", whole, 1),
):
    counts = given(mixture, epochs)
    print(f"{what}, of the small task: {counts[4]}")
    print(f"of the large task: {'fewer than 40' if counts[1000] < 40 else counts[1000]}")
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/epoch.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
the large task alone, one epoch: 1000
mixed with 4 examples, one epoch, of the small task: 4
of the large task: fewer than 40
two epochs, of the small task: 8
of the large task: fewer than 40
stop_on_empty_dataset=False, one epoch, of the small task: 4
of the large task: 1000
EXPECTED
