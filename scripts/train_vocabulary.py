"""Trains the SentencePiece vocabulary of a translation task, where the task reads it.

Command: python scripts/train_vocabulary.py --task=wmt19_de_en

Both directions of a pair, and TFDS and TSV, share the vocabulary. It is of the training
split alone, after the filters, and has T5's ids: padding 0, end 1, unknown 2, then the
pieces. The same text and flags give the same file, byte by byte.

Cost: one pass over the training split without the filters, which see only the sample.
"""

import argparse
from collections.abc import Iterator, Sequence
import importlib
import io
import os

# TensorFlow only reads data here: no log lines about its kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
import sentencepiece
import seqio
import tensorflow as tf
import tqdm

from gbt_t5x import data_checks
from gbt_t5x.studies import commands
from gbt_t5x.tasks import translation

_MODULES = tuple(
    f"gbt_t5x.tasks.{name}" for name in ("catalogues", "offline_translation", "wmt19")
)
_BATCH = 1024  # examples read at a time
_Drawn = tuple[np.ndarray, dict[str, np.ndarray]]  # keys, and the examples that drew them
# SentencePiece divides its sums between them, and the last digits, which decide between
# pieces, depend on how. It is not the number of cores, then.
_THREADS = 8


def sample(dataset: tf.data.Dataset, size: int, seed: int) -> dict[str, np.ndarray]:
    """Draws examples without replacement, all with the same probability.

    Args:
        dataset: examples of scalars. Only the sample, and as many again, are in memory.
        size: how many are drawn; all, if there are fewer.
        seed: of the draw, which depends on nothing else but the order of the data set.

    Returns:
        feature -> (size,), in the order of the data set.
    """
    rng = np.random.default_rng(seed)
    parts: list[_Drawn] = []
    held, threshold = 0, 1.0
    with tqdm.tqdm(desc="read", unit=" pairs", unit_scale=True, mininterval=1) as bar:
        for batch in dataset.batch(_BATCH).as_numpy_iterator():
            drawn = rng.random(len(next(iter(batch.values()))))
            bar.update(len(drawn))
            new = drawn < threshold
            parts.append((drawn[new], {k: v[new] for k, v in batch.items()}))
            held += len(parts[-1][0])
            if held > 2 * size:
                parts = [_smallest(parts, size)]
                held, threshold = size, parts[0][0].max()
    return _smallest(parts, size)[1] if parts else {}


def _smallest(parts: Sequence[_Drawn], size: int) -> _Drawn:
    """The `size` smallest keys and their examples, in order."""
    keys = np.concatenate([keys for keys, _ in parts])
    chosen = np.sort(np.argsort(keys, kind="stable")[:size])
    examples = {
        name: np.concatenate([of[name] for _, of in parts])[chosen]
        for name in parts[0][1]
    }
    return keys[chosen], examples


def sentences(task: seqio.Task, pairs: dict[str, np.ndarray]) -> Iterator[str]:
    """Both sides of the pairs that pass the filters, the same in each direction."""
    dataset = translation.texts(task, tf.data.Dataset.from_tensor_slices(pairs))
    batches = dataset.batch(_BATCH).as_numpy_iterator()
    with tqdm.tqdm(desc="kept", unit=" pairs", unit_scale=True, mininterval=1) as bar:
        for batch in batches:
            bar.update(len(batch["inputs"]))
            for pair in zip(batch["inputs"], batch["targets"], strict=True):
                yield from (text.decode(errors="replace") for text in sorted(pair))


def train(lines: Iterator[str], size: int) -> bytes:
    """A SentencePiece model with `size` ids.

    Raises:
        ValueError: the text is too little for so many.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=model,
            vocab_size=size,
            model_type="unigram",
            character_coverage=0.99999,  # leaves out letters of other scripts
            split_digits=True,  # so that numbers which were never seen can be copied
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=_THREADS,
            minloglevel=1,
        )
    except RuntimeError as error:
        raise ValueError(
            f"SentencePiece made no vocabulary of {size} ids: {error}"
        ) from error
    return model.getvalue()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", required=True, metavar="NAME")
    parser.add_argument(
        "--size",
        type=commands.number(int),
        metavar="IDS",
        help="of the vocabulary; the task's by default",
    )
    parser.add_argument(
        "--sample",
        type=commands.number(int),
        default=1_000_000,
        metavar="PAIRS",
        help="drawn from the training split before the filters (default: 1000000)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args(argv)

    for module in _MODULES:
        importlib.import_module(module)
    names = translation.trained_tasks()
    if args.task not in names:
        raise SystemExit(
            f"train_vocabulary: --task={args.task} is none of {', '.join(names)}"
        )
    task = seqio.get_mixture_or_task(args.task)
    vocabulary = translation.vocabulary(args.task)
    path, size = vocabulary.sentencepiece_model_file, args.size or vocabulary.size
    if tf.io.gfile.exists(path) and not args.overwrite:
        raise SystemExit(
            f"train_vocabulary: {path} exists. Checkpoints of models that were trained "
            "with it need it; to replace it, add --overwrite"
        )
    try:
        with data_checks.reading([task], "train"):
            pairs = sample(
                task.source.get_dataset("train", shuffle=False), args.sample, args.seed
            )
            model = train(sentences(task, pairs), size)
    except (ValueError, tf.errors.OpError) as error:
        raise SystemExit(f"train_vocabulary: {error}") from error
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path + ".new", "wb") as file:
        file.write(model)
    tf.io.gfile.rename(path + ".new", path, overwrite=True)  # whole, or not there
    print(f"{path}: {size} ids")


if __name__ == "__main__":
    main()
