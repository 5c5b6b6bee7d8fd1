#!/usr/bin/env bash
# seqio 0.0.20: packing makes a float feature int32, and moves it against its tokens.
#
# seqio.trim_and_pack_dataset documents that "Each example in the output dataset represents
# several examples in the input dataset" and that 0 is padding; it asks for no type. It casts
# every feature to int32 and then cuts it to as many entries as are not 0 by then. Of two
# examples with a weight for each token, none of them 0, the weights 0.5, 2.5 and 0.75 become
# one 0, and those of the second example, 4.5 and 1.0, stand as 4 and 1 at tokens of the
# first; so do their segment ids. seqio.trim_and_pad_dataset, the same without packing, keeps
# them all. A feature converter with token weights then trains on other tokens when it packs.
#
# Command: findings/seqio_packed_weights.sh
# Prints, and fails if it changes:
#   padded, tokens [5, 6, 7, 0], weights float32 [0.5, 2.5, 0.75, 0.0]
#   padded, tokens [8, 9, 0, 0], weights float32 [4.5, 1.0, 0.0, 0.0]
#   packed, tokens [5, 6, 7, 8, 9, 0], weights int32 [0, 4, 1, 0, 0, 0]
#   segments of tokens [1, 1, 1, 2, 2, 0], of weights [0, 2, 2, 0, 0, 0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -qq --disable-pip-version-check "$@"; }
pip tensorflow-cpu==2.21.0 tensorflow-datasets==4.9.10 jax==0.10.2 jaxlib==0.10.2 \
    clu==0.0.12 sentencepiece==0.2.3 protobuf==7.36.2 editdistance==0.8.1 pyglove==0.4.5
# Its needs by name: tensorflow-text brings a second TensorFlow.
pip --no-deps seqio==0.0.20 tensorflow-text==2.21.1
cat >"$folder/pack.py" <<'PYTHON'
import seqio
import tensorflow as tf

EXAMPLES = [
    {"targets": [5, 6, 7], "weights": [0.5, 2.5, 0.75]},
    {"targets": [8, 9], "weights": [4.5, 1.0]},
]
dataset = tf.data.Dataset.from_generator(
    lambda: iter(EXAMPLES),
    output_signature={
        "targets": tf.TensorSpec([None], tf.int32),
        "weights": tf.TensorSpec([None], tf.float32),
    },
)


def show(what, x):
    tokens, weights = x["targets"], x["weights"]
    print(
        f"{what}, tokens {tokens.tolist()}, weights {weights.dtype} {weights.tolist()}"
    )


padded = seqio.trim_and_pad_dataset(dataset, {"targets": 4, "weights": 4})
for x in padded.as_numpy_iterator():
    show("padded", x)
packed = seqio.trim_and_pack_dataset(dataset, {"targets": 6, "weights": 6})
for x in packed.as_numpy_iterator():
    show("packed", x)
    segments = [x[f"{name}_segment_ids"].tolist() for name in ("targets", "weights")]
    print(f"segments of tokens {segments[0]}, of weights {segments[1]}")
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/pack.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
padded, tokens [5, 6, 7, 0], weights float32 [0.5, 2.5, 0.75, 0.0]
padded, tokens [8, 9, 0, 0], weights float32 [4.5, 1.0, 0.0, 0.0]
packed, tokens [5, 6, 7, 8, 9, 0], weights int32 [0, 4, 1, 0, 0, 0]
segments of tokens [1, 1, 1, 2, 2, 0], of weights [0, 2, 2, 0, 0, 0]
EXPECTED
