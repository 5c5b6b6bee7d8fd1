#!/usr/bin/env bash
# t5 0.9.4: masked spans beyond the 100th are marked with ordinary tokens of the text.
#
# t5.data.preprocessors.span_corruption replaces each masked span of the inputs by a
# sentinel, which the targets repeat. T5's vocabularies have 100 of them, extra_ids=100,
# in seqio "The number of extra IDs to reserve". Of inputs of 2,048 tokens 114 spans are
# masked, of 4,096 tokens 227, and no one counts: with no error the sentinels go on down
# through the ordinary ids, here of the bytes that text beyond ASCII is made of. A mask is
# then not to be told from text. span_corruption does not say how many spans there may be;
# the step that makes sentinels appropriates "the last tokens in the vocabulary", and does
# not say that it may pass the extra ids. gbt_t5x's own span corruption
# (tasks/span_corruption.py) refuses such inputs.
#
# Command: findings/t5_sentinels_run_out.sh
# Prints, and fails if it changes:
#   sentinels: ids 358 to 259
#   inputs of 1024 tokens: 57 spans, marked 358 to 302, ordinary bytes 0
#   inputs of 2048 tokens: 114 spans, marked 358 to 245, ordinary bytes 14, 0xff to 0xf2
#   inputs of 4096 tokens: 227 spans, marked 358 to 132, ordinary bytes 127, 0xff to 0x81
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
cat >"$folder/sentinels.py" <<'PYTHON'
import seqio
from t5.data import preprocessors
import tensorflow as tf

vocabulary = seqio.ByteVocabulary(extra_ids=100)
features = {k: seqio.Feature(vocabulary) for k in ("inputs", "targets")}
(a,) = vocabulary.encode("a")
byte_0 = a - ord("a")
lowest = vocabulary.vocab_size - vocabulary.extra_ids
print(f"sentinels: ids {vocabulary.vocab_size - 1} to {lowest}")
for length in (1024, 2048, 4096):
    text = tf.data.Dataset.from_tensors({"targets": tf.fill([8192], a)})
    lengths = {"inputs": length, "targets": length}
    with seqio.map_seed_manager(0):
        dataset = preprocessors.span_corruption(text, lengths, features)
    inputs, targets = (
        next(dataset.as_numpy_iterator())[k].tolist() for k in ("inputs", "targets")
    )
    marks = [token for token in inputs if token != a]
    assert marks == [token for token in targets if token != a]
    ordinary = [token for token in marks if token < lowest]
    ends = [hex(token - byte_0) for token in (ordinary[:1] + ordinary[-1:])]
    which = f", {' to '.join(ends)}" if ends else ""
    print(
        f"inputs of {length} tokens: {len(marks)} spans, "
        f"marked {marks[0]} to {marks[-1]}, ordinary bytes {len(ordinary)}{which}"
    )
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/sentinels.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
sentinels: ids 358 to 259
inputs of 1024 tokens: 57 spans, marked 358 to 302, ordinary bytes 0
inputs of 2048 tokens: 114 spans, marked 358 to 245, ordinary bytes 14, 0xff to 0xf2
inputs of 4096 tokens: 227 spans, marked 358 to 132, ordinary bytes 127, 0xff to 0x81
EXPECTED
