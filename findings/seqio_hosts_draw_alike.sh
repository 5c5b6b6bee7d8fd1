#!/usr/bin/env bash
# seqio 0.0.20: with one seed all hosts draw alike, so that a batch of a mixture has few tasks.
#
# seqio.get_dataset takes a `seed`, "for shuffling tf.data", and `shard_info`, "number of
# shards and shard index information", of which each host has its own. T5X gives all hosts
# the same seed. The seed alone, not the index, decides which task of a mixture the next
# example is of, in which order examples leave the shuffle buffer, and the seeds of random
# preprocessors. So row i of all hosts is of the same task, and masked at the same places. Of
# 16 rows on one host a batch has all of 4 tasks, and 16 masks. Of 2 rows on each of 8 hosts
# no batch has more than 2 tasks, and all have 2 masks. Over many batches the rates are right,
# but the batches swing between the tasks, with no error. A seed of each host's own helps,
# where each reads files of its own, as here.
#
# Command: findings/seqio_hosts_draw_alike.sh
# Prints, and fails if it changes:
#   1 host: 4 tasks in over 40 of 50 batches, 16 masks in a batch of 16 rows
#   8 hosts: 4 tasks in 0 of 50 batches, 2 masks in a batch of 16 rows
#   8 hosts, a seed each: 4 tasks in over 40 of 50 batches, 16 masks in a batch of 16 rows
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
mkdir "$folder/text"
cat >"$folder/hosts.py" <<'PYTHON'
import functools
import pathlib
import sys

import numpy as np
import seqio
from t5.data import preprocessors
import tensorflow as tf

HOSTS, ROWS, BATCHES, TASKS = 8, 16, 50, 4
folder = pathlib.Path(sys.argv[1])
feature = seqio.Feature(seqio.PassThroughVocabulary(10_000), add_eos=False)


def add(name, *steps):
    """A task of as many files as there are hosts."""
    for i in range(HOSTS):
        (folder / f"{name}-{i}").write_text("a line\n" * 100)
    seqio.TaskRegistry.add(
        name,
        source=seqio.TextLineDataSource({"train": f"{folder}/{name}-*"}),
        preprocessors=list(steps),
        output_features={"inputs": feature, "targets": feature},
        shuffle_buffer_size=100,
    )


def numbered(dataset, number):
    def example(_):
        return {"inputs": tf.constant([1]), "targets": tf.constant([number])}

    return dataset.map(example)


def tokens(dataset):
    return dataset.map(lambda _: {"targets": tf.range(1, 129)})


names = [f"task{number}" for number in range(1, TASKS + 1)]
for number, name in enumerate(names, 1):
    add(name, functools.partial(numbered, number=number))
seqio.MixtureRegistry.add("mixture", names, default_rate=1)
span_corruption = functools.partial(
    preprocessors.denoise,
    noise_density=0.15,
    noise_mask_fn=preprocessors.random_spans_noise_mask,
    inputs_fn=preprocessors.noise_span_to_unique_sentinel,
    targets_fn=preprocessors.nonnoise_span_to_unique_sentinel,
)
add("spans", tokens, span_corruption)


def batches(name, inputs, targets, hosts, seed_of):
    """The batches of all hosts together."""
    of_hosts = []
    for index in range(hosts):
        dataset = seqio.get_dataset(
            name,
            {"inputs": inputs, "targets": targets},
            seqio.EncDecFeatureConverter(pack=False),
            shuffle=True,
            num_epochs=None,
            seed=seed_of(index),
            shard_info=seqio.ShardInfo(index=index, num_shards=hosts),
            batch_size=ROWS // hosts,
        )
        of_hosts.append(list(dataset.take(BATCHES).as_numpy_iterator()))
    return [
        {k: np.concatenate([batch[k] for batch in same_step]) for k in same_step[0]}
        for same_step in zip(*of_hosts)
    ]


for what, hosts, seed_of in (
    ("1 host", 1, lambda index: 0),
    (f"{HOSTS} hosts", HOSTS, lambda index: 0),
    (f"{HOSTS} hosts, a seed each", HOSTS, lambda index: 1000 * index),
):
    mixed = [
        len(set(batch["decoder_target_tokens"][:, 0].tolist()))
        for batch in batches("mixture", 1, 1, hosts, seed_of)
    ]
    all_tasks = mixed.count(TASKS)
    if hosts > 1 and not all_tasks:
        assert max(mixed) <= ROWS // hosts, mixed
    masks = {
        len({tuple(row) for row in batch["encoder_input_tokens"].tolist()})
        for batch in batches("spans", 128, 64, hosts, seed_of)
    }
    print(
        f"{what}: {TASKS} tasks in {'over 40' if all_tasks > 40 else all_tasks} of "
        f"{BATCHES} batches, {', '.join(map(str, sorted(masks)))} masks in a batch of "
        f"{ROWS} rows"
    )
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/hosts.py" "$folder/text" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
1 host: 4 tasks in over 40 of 50 batches, 16 masks in a batch of 16 rows
8 hosts: 4 tasks in 0 of 50 batches, 2 masks in a batch of 16 rows
8 hosts, a seed each: 4 tasks in over 40 of 50 batches, 16 masks in a batch of 16 rows
EXPECTED
