#!/usr/bin/env bash
# seqio 0.0.20: packed behind an example without inputs, targets get the inputs of the next.
#
# seqio.EncDecFeatureConverter packs several examples into one. "Positive integers represent
# the sequence membership in the packed examples": targets of segment 2 are to attend to the
# inputs of segment 2. Inputs and targets are numbered each by itself, by where a sequence
# begins, so an example whose inputs are empty, as of a language modelling task, takes a
# number of the targets and none of the inputs. In its row it is trained to continue the
# inputs of the example after it, that one those of the next, and the last has none, with no
# error. With EOS at the end of the inputs, which are then never empty, each has its own.
#
# Command: findings/seqio_packed_empty_inputs.sh
# Prints, and fails if it changes: the inputs that have the segment of each example's targets.
#   packed, inputs without EOS
#     targets AB of inputs 'ab': segment 1, inputs 'ab'
#     targets CD of inputs '': segment 2, inputs 'ef'
#     targets EF of inputs 'ef': segment 3, inputs 'gh'
#     targets GH of inputs 'gh': segment 4, inputs ''
#   packed, inputs with EOS
#     targets AB of inputs 'ab': segment 1, inputs 'ab'
#     targets CD of inputs '': segment 2, inputs ''
#     targets EF of inputs 'ef': segment 3, inputs 'ef'
#     targets GH of inputs 'gh': segment 4, inputs 'gh'
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
cat >"$folder/empty.py" <<'PYTHON'
import seqio
import tensorflow as tf

INPUTS, TARGETS = ["ab", "", "ef", "gh"], ["AB", "CD", "EF", "GH"]
vocabulary = seqio.ByteVocabulary()


def rows(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices({"inputs": INPUTS, "targets": TARGETS})


def pack(with_eos):
    task = seqio.Task(
        "task",
        source=seqio.FunctionDataSource(rows, splits=["train"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={
            "inputs": seqio.Feature(vocabulary, add_eos=with_eos),
            "targets": seqio.Feature(vocabulary),
        },
    )
    packed = seqio.get_dataset(
        task, {"inputs": 16, "targets": 16}, seqio.EncDecFeatureConverter(pack=True)
    )
    (row,) = packed.as_numpy_iterator()
    return row


def of_segment(row, tokens, segments, number):
    return vocabulary.decode(row[tokens][row[segments] == number].tolist())


for what, with_eos in (("without", False), ("with", True)):
    print(f"packed, inputs {what} EOS")
    row = pack(with_eos)
    for number, (inputs, targets) in enumerate(zip(INPUTS, TARGETS), 1):
        found = of_segment(row, "decoder_target_tokens", "decoder_segment_ids", number)
        assert found == targets, (found, targets)
        seen = of_segment(row, "encoder_input_tokens", "encoder_segment_ids", number)
        print(
            f"  targets {targets} of inputs {inputs!r}: segment {number}, inputs {seen!r}"
        )
PYTHON
seen=$(TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu \
    "$folder/venv/bin/python" "$folder/empty.py" 2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
packed, inputs without EOS
  targets AB of inputs 'ab': segment 1, inputs 'ab'
  targets CD of inputs '': segment 2, inputs 'ef'
  targets EF of inputs 'ef': segment 3, inputs 'gh'
  targets GH of inputs 'gh': segment 4, inputs ''
packed, inputs with EOS
  targets AB of inputs 'ab': segment 1, inputs 'ab'
  targets CD of inputs '': segment 2, inputs ''
  targets EF of inputs 'ef': segment 3, inputs 'ef'
  targets GH of inputs 'gh': segment 4, inputs 'gh'
EXPECTED
