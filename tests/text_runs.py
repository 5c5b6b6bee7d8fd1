"""A task of short texts, and a T5 trained on it for two steps, to decode with."""

import contextlib
import importlib.metadata
import json
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import seqio
from t5x import partitioning, train as train_script, utils
import tensorflow as tf

import gin_runs

TASK = "tiny_texts"
SPLITS = {"train": 16, "guidance": 16, "validation": 6, "test": 11}
LENGTHS = {"inputs": 16, "targets": 8}
GIN_FILE = "gin/quickstart_baseline.gin"
BINDINGS = (*gin_runs.TINY, f"TASK_FEATURE_LENGTHS = {LENGTHS!r}")
LONGER = tuple(
    f"{name} = 60"
    for name in ("TRAIN_STEPS", "EVAL_PERIOD", "CHECKPOINT_PERIOD", "STATS_PERIOD")
)  # till it predicts text
EMBEDDED = "embedded" in importlib.metadata.version("t5x")
embedded_only = pytest.mark.skipif(
    not EMBEDDED, reason="T5X has messages and checks of its own"
)


def text_of(split: str, index: int) -> tuple[str, str]:
    """Inputs and targets. One input is longer than the inputs' length."""
    word = f"{split}-{index:02}"
    return (f"echo {word}" * (2 if index == 1 else 1), word[-4:])


def _examples(
    split: str, shuffle_files: bool, seed: int | None = None
) -> tf.data.Dataset:
    del shuffle_files, seed
    pairs = [text_of(split, i) for i in range(SPLITS[split])]
    inputs, targets = zip(*pairs, strict=True)
    return tf.data.Dataset.from_tensor_slices(
        {"inputs": list(inputs), "targets": list(targets)}
    )


def describe(targets: Any, predictions: Any) -> dict[str, float]:
    """A metric that every different text changes."""
    codes = [sum(map(ord, text)) for text in predictions]
    return {"codes": float(np.mean(codes)), "targets": float(len(targets))}


def mean_score(targets: Any, scores: Any) -> dict[str, float]:
    del targets
    return {"mean_score": float(np.mean(scores))}


if TASK not in seqio.TaskRegistry.names():
    vocabulary = seqio.ByteVocabulary(extra_ids=100)
    seqio.TaskRegistry.add(
        TASK,
        source=seqio.FunctionDataSource(_examples, splits=list(SPLITS)),
        preprocessors=[
            seqio.preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={name: seqio.Feature(vocabulary) for name in LENGTHS},
        metric_fns=[describe, mean_score],
    )


def dataset_cfg(split: str, **changes: Any) -> utils.DatasetConfig:
    """A configuration of the task, in batches of 4."""
    settings: dict[str, Any] = {
        "mixture_or_task_name": TASK,
        "task_feature_lengths": LENGTHS,
        "split": split,
        "batch_size": 4,
        "shuffle": False,
        "seed": 0,
    }
    return utils.DatasetConfig(**settings | changes)


def gin_arguments(
    model_dir: Any, *bindings: str, gin_file: str = GIN_FILE
) -> contextlib.AbstractContextManager[dict[str, Any]]:
    """What the quickstart's gin file passes to `train`, for the task."""
    bindings = (f"MODEL_DIR = {str(model_dir)!r}", *BINDINGS, *bindings)
    bindings = (*bindings, f"MIXTURE_OR_TASK_NAME = {TASK!r}")
    return gin_runs.arguments(gin_file, *bindings)


def train(
    model_dir: Any, *bindings: str, gin_file: str = GIN_FILE, **arguments: Any
) -> tuple[int, Any]:
    """Trains two steps by the quickstart's gin file; `arguments` override gin's."""
    with gin_arguments(model_dir, *bindings, gin_file=gin_file) as kwargs:
        for name in ("train_dataset_cfg", "train_eval_dataset_cfg"):
            split, pack = kwargs[name].split, kwargs[name].pack
            kwargs[name] = dataset_cfg(split, pack=pack)
        return train_script.train(**kwargs | arguments)


def make_model(*bindings: str) -> Any:
    with gin_runs.arguments(GIN_FILE, *BINDINGS, *bindings) as kwargs:
        return kwargs["model"]


def common(checkpoint: Any, output_dir: Any) -> dict[str, Any]:
    """What evaluate and infer both take."""
    return {
        "model": make_model(),
        "dataset_cfg": dataset_cfg("test"),
        "restore_checkpoint_cfg": utils.RestoreCheckpointConfig(
            path=str(checkpoint), mode="specific", dtype="float32"
        ),
        "partitioner": partitioning.PjitPartitioner(num_partitions=1),
        "output_dir": str(output_dir),
    }


class Evaluator(seqio.Evaluator):
    """With the loggers that T5X's gin files bind."""

    def __init__(self, **kwargs: Any):
        loggers = (seqio.TensorBoardLogger, seqio.JSONLogger)
        super().__init__(**{"logger_cls": loggers} | kwargs)


def read_json_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def parameters(checkpoint: pathlib.Path) -> Any:
    return ocp.PyTreeCheckpointer().restore(checkpoint / "state")["target"]


def arrays(model_dir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Name -> array of a checkpoint, whose devices this process may not have."""
    checkpointer = ocp.PyTreeCheckpointer()
    folder = model_dir / f"checkpoint_{step}" / "state"
    args = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
        checkpointer.metadata(folder).item_metadata.tree,
    )
    restored = checkpointer.restore(folder, restore_args=args)
    return {"/".join(k): v for k, v in ocp.tree.to_flat_dict(restored).items()}
