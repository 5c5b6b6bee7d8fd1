r"""Decodes or scores a dataset into JSON lines.

python -m t5x.infer --gin_file=FILE --gin.CHECKPOINT_PATH=\"/tmp/run/checkpoint_100\" \
    --gin.INFER_OUTPUT_DIR=\"/tmp/predictions\" --gin.NAME=VALUE
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import functools
import json
import os
import re
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import seqio
from t5x import (
    datasets,
    gin_utils,
    models,
    partitioning,
    progress as progress_lib,
    results as results_lib,
    utils,
)
from t5x.checks import Count, LocalFolder, Seed, Whole, checked
import tensorflow as tf

# Settings that say which lines are written, and where; and where the checkpoint is, whose
# whole path is compared.
_OF_NO_EFFECT = re.compile(
    r"(.*\.)?(INFER_OUTPUT_DIR|output_dir|shard_id|num_shards|merge_chunked_results"
    r"|CHECKPOINT_PATH|RestoreCheckpointConfig\.path)"
)
_SUFFIX = "_pretokenized"  # of the features that are written beside predictions


@checked
def infer(
    *,
    mode: Annotated[str, ("predict", "score", "predict_with_aux")],
    model: models.BaseTransformerModel,
    dataset_cfg: utils.DatasetConfig,
    restore_checkpoint_cfg: utils.RestoreCheckpointConfig,
    partitioner: partitioning.PjitPartitioner,
    output_dir: LocalFolder,
    checkpoint_period: Count,
    shard_id: Whole = 0,
    num_shards: Count = 1,
    merge_chunked_results: bool = True,
    fallback_init_rng: Seed | None = None,
    summarize_config_fn: Callable[[str, Any, int], None] = gin_utils.summarize_gin_config,
    output_vocab_feature_name: str = "targets",
    file_extension: str = "jsonl",
) -> None:
    """Writes one JSON line per example to output_dir/TASK-MODE.jsonl-SHARD-of-SHARDS.

    A line has `inputs`, the example's *_pretokenized features, and `prediction` (the
    text), `score` (the log likelihood of the targets), or `prediction` and `aux`. A run
    that was stopped goes on after its last finished chunk, and writes the same bytes.

    Args:
        mode: 'predict', 'score' or 'predict_with_aux'.
        model: decodes and scores.
        dataset_cfg: what to decode, in its own order; features are cut to
            task_feature_lengths.
        restore_checkpoint_cfg: the checkpoint; its optimizer state is left out.
        partitioner: lays arrays out on the devices.
        output_dir: for the results, config.gin and model-info.txt.
        checkpoint_period: batches per chunk.
        shard_id: which part of the data this run decodes.
        num_shards: number of parts.
        merge_chunked_results: join the chunks, in a tmp- folder till then.
        fallback_init_rng: seed for parameters that the checkpoint lacks, if
            RestoreCheckpointConfig.fallback_to_scratch.
        summarize_config_fn: called with output_dir, None and 0 by shard 0.
        output_vocab_feature_name: the feature whose vocabulary predictions are in.
        file_extension: of the results.

    Raises:
        ValueError: an unknown mode; no task_feature_lengths; a task lacks the split, or
            the feature that predictions are in; the vocabularies are not the model's;
            there is no such checkpoint, or its parameters are not the model's; output_dir
            has results of other settings, or another process writes them.
    """
    if dataset_cfg.task_feature_lengths is None:
        raise ValueError("set TASK_FEATURE_LENGTHS: inference cuts and pads to them")
    if not 0 <= shard_id < num_shards:
        raise ValueError(
            f"infer.shard_id={shard_id} must be from 0 to infer.num_shards - 1 = "
            f"{num_shards - 1}"
        )
    utils.verify_matching_vocabs(dataset_cfg, model)
    tasks = utils.get_tasks_with_split(dataset_cfg)
    _check_tasks(tasks, dataset_cfg, output_vocab_feature_name)
    path = utils.restore_path(restore_checkpoint_cfg)
    if not path:
        raise ValueError("set CHECKPOINT_PATH to a checkpoint_STEP folder")
    batch_size = dataset_cfg.batch_size
    dtype = restore_checkpoint_cfg.dtype
    settings = _bound_settings() | {
        "RestoreCheckpointConfig.path": os.path.abspath(path),
        "RestoreCheckpointConfig.dtype": dtype and jnp.dtype(dtype).name,
        "infer.mode": mode,
        "infer.checkpoint_period": checkpoint_period,
        "DatasetConfig.split": dataset_cfg.split,
        "DatasetConfig.batch_size": batch_size,
        "DatasetConfig.seed": dataset_cfg.seed,
        "TASK_FEATURE_LENGTHS": dict(dataset_cfg.task_feature_lengths),
    }
    shard_name = f"{shard_id:05}-of-{num_shards:05}"
    results = {
        task: results_lib.Results(
            output=os.path.join(
                output_dir, f"{task.name}-{mode}.{file_extension}-{shard_name}"
            ),
            chunk_dir=os.path.join(output_dir, f"tmp-{task.name}-{shard_name}"),
            settings=json.loads(json.dumps(settings)),
        )
        for task in tasks
    }
    for result in results.values():
        result.check()
    todo = {task: result for task, result in results.items() if not result.is_done()}
    if not todo:
        return
    with contextlib.ExitStack() as locks:
        for result in todo.values():
            locks.enter_context(result.locked())
        if shard_id == 0:
            summarize_config_fn(output_dir, None, 0)

        shard = seqio.ShardInfo(index=shard_id, num_shards=num_shards)
        examples = functools.partial(_examples, dataset_cfg, shard, model)
        spec = examples(tasks[0])[1].element_spec
        initializer = utils.TrainStateInitializer(
            None,
            model.get_initial_variables,
            {name: (batch_size, *s.shape) for name, s in spec.items()},
            partitioner,
        )
        if shard_id == 0:
            initializer.write_model_info(output_dir)
        steps: dict[str, Callable] = {
            "predict": model.predict_batch,
            "predict_with_aux": model.predict_batch_with_aux,
            "score": model.score_batch,
        }
        infer_fn = functools.partial(
            utils.get_infer_fn(
                steps[mode], batch_size, initializer.train_state_axes, partitioner
            ),
            train_state=initializer.restore_for_inference(
                path, restore_checkpoint_cfg, fallback_init_rng
            ),
        )
        for task, result in todo.items():
            vocabulary = task.output_features[output_vocab_feature_name].vocabulary
            number = _write_chunks(
                result,
                *examples(task),
                checkpoint_period * batch_size,
                infer_fn,
                functools.partial(_json_lines, mode, vocabulary),
            )
            result.finish(number, merge_chunked_results)


def _examples(
    cfg: utils.DatasetConfig,
    shard: seqio.ShardInfo,
    model: models.BaseTransformerModel,
    task: seqio.Task,
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """A task's single examples: what is written of them, and what the model reads."""
    ds = task.get_dataset(
        sequence_length=cfg.task_feature_lengths,
        split=cfg.split,
        shuffle=False,
        num_epochs=1,
        shard_info=shard,
        use_cached=cfg.use_cached,
        seed=cfg.seed,
    )
    # Beside their index: they may be none.
    written = ds.enumerate().map(
        lambda i, x: (i, {k: v for k, v in x.items() if k.endswith(_SUFFIX)})
    )
    converter = model.FEATURE_CONVERTER_CLS(pack=False)
    return written, converter(ds, cfg.task_feature_lengths)


def _check_tasks(
    tasks: Sequence[seqio.Task], cfg: utils.DatasetConfig, feature: str
) -> None:
    """Raises ValueError for a task without the split, or without the feature."""
    found = {task.name for task in tasks}
    for task in seqio.get_subtasks(datasets.get_task_or_mixture(cfg)):
        if task.name not in found:
            raise ValueError(
                f"task {task.name} has the splits {sorted(task.splits)}, not "
                f"{cfg.split!r}: set MIXTURE_OR_TASK_NAME or DatasetConfig.split"
            )
        if feature not in task.output_features:
            raise ValueError(
                f"infer.output_vocab_feature_name={feature!r}: task {task.name} has "
                f"{', '.join(task.output_features)}"
            )


def _bound_settings() -> dict[str, str]:
    """What gin has, but for what does not change a line of the results."""
    return {
        name: value
        for name, value in gin_utils.bindings().items()
        if not _OF_NO_EFFECT.fullmatch(name)
    }


def _write_chunks(
    results: results_lib.Results,
    written: tf.data.Dataset,
    model_inputs: tf.data.Dataset,
    chunk_size: int,
    infer_fn: Callable,
    to_lines: Callable[[Mapping[str, Any], Any], Iterator[str]],
) -> int:
    """Decodes every chunk of examples that has no file, and writes it.

    Returns:
        How many chunks there are.

    Raises:
        ValueError: there are no examples.
    """
    total = sum(1 for _ in written)
    if not total:
        raise ValueError(
            f"no examples for {results.output}: set infer.num_shards to fewer shards, or "
            "DatasetConfig.split to another split"
        )
    sizes = [min(chunk_size, total - i) for i in range(0, total, chunk_size)]
    todo = [not os.path.exists(results.chunk(i)) for i in range(len(sizes))]
    done = sum(size for size, is_todo in zip(sizes, todo, strict=True) if not is_todo)
    progress = progress_lib.Decoding(total, done)
    chunks = tf.data.Dataset.zip((written, model_inputs)).padded_batch(chunk_size)
    for i, ((_, examples), inputs) in enumerate(chunks):
        if not todo[i]:
            continue
        inferences = infer_fn(
            tf.data.Dataset.from_tensor_slices(inputs).enumerate(),
            rng=jax.random.fold_in(jax.random.PRNGKey(0), i),
            progress=progress,
        )
        examples = {name: array.numpy() for name, array in examples.items()}
        results_lib.write_atomically(results.chunk(i), to_lines(examples, inferences))
    progress.close()
    return len(sizes)


def _json_lines(
    mode: str, vocabulary: seqio.Vocabulary, examples: Mapping[str, Any], result: Any
) -> Iterator[str]:
    """A JSON object for every example of a chunk and its inference."""
    pairs, aux = result if isinstance(result, tuple) else (result, {})
    for i, (_, output) in enumerate(pairs):
        line: dict[str, Any] = {
            "inputs": {name: _to_json(array[i]) for name, array in examples.items()}
        }
        if mode == "score":
            line["score"] = output
        else:
            text = vocabulary.decode_tf(tf.constant(output)).numpy()
            line["prediction"] = _to_json(text)
        if aux:
            is_leaf = lambda x: isinstance(x, list)
            line["aux"] = jax.tree.map(lambda x, i=i: x[i], aux, is_leaf=is_leaf)
        yield json.dumps(line, cls=seqio.TensorAndNumpyEncoder)


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.number):
        return float(value)
    return value.tolist() if isinstance(value, np.ndarray) else value


if __name__ == "__main__":
    gin_utils.run_configurable(
        infer, shard_id="Part of the data that this process decodes; overrides gin."
    )
