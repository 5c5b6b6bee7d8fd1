"""Runs a model's decoding or scoring over a dataset."""

from collections.abc import Callable, Mapping
import inspect
from typing import Any

import jax
import numpy as np
from t5x import partitioning, progress as progress_lib
import tensorflow as tf


def get_infer_fn(
    infer_step: Callable,
    batch_size: int,
    train_state_axes: Any,
    partitioner: partitioning.PjitPartitioner,
) -> Callable:
    """Compiles an inference step. Its arguments are parameters, not optimizer state.

    Args:
        infer_step: a model's `predict_batch`, `predict_batch_with_aux` or `score_batch`.
        batch_size: rows per step. The last batch is filled up with its own rows.
        train_state_axes: PartitionSpecs of the train state.
        partitioner: compiles the step.

    Returns:
        A function of an enumerated dataset of single examples, a train state, a key
        (optional; split for every batch) and a `progress.Decoding` (optional). It
        returns (index, output) pairs of lists and numbers. Where the step returns a
        dictionary too, a pair: those, and the dictionary of lists over examples.

    Raises:
        ValueError: the batch does not divide over the devices.
    """
    partitioner.get_data_layout(batch_size)
    takes_rng = "rng" in inspect.signature(infer_step).parameters

    def step(params, batch, rng):
        return infer_step(params, batch, rng) if takes_rng else infer_step(params, batch)

    partitioned_step = partitioner.partition(
        step,
        in_axis_resources=(
            train_state_axes.params,
            partitioner.data_partition_spec,
            None,
        ),
        out_axis_resources=None,
    )

    def infer_fn(
        ds: tf.data.Dataset,
        train_state: Any,
        rng: jax.Array | None = None,
        progress: progress_lib.Decoding | None = None,
    ):
        shown = progress or progress_lib.Decoding(len(ds))
        all_indices: list[np.ndarray] = []
        outputs: list[Any] = []

        def collect(result: Any, rows: int) -> None:
            outputs.append(jax.tree.map(lambda x: x[:rows], jax.device_get(result)))
            shown.update(rows)

        pending: tuple[Any, int] | None = None
        for indices, batch in ds.batch(batch_size).as_numpy_iterator():
            rows = len(indices)  # which np.resize repeats
            batch = {
                k: np.resize(x, (batch_size, *x.shape[1:])) for k, x in batch.items()
            }
            step_rng = None
            if rng is not None:
                step_rng, rng = jax.random.split(rng)
            result = partitioned_step(train_state.params, batch, step_rng)
            if pending:
                collect(*pending)  # the device is busy with the next batch meanwhile
            pending = result, rows
            all_indices.extend(indices)
        if pending:
            collect(*pending)
        if not progress:
            shown.close()

        output = jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)
        aux = None
        if isinstance(output, tuple) and isinstance(output[-1], Mapping):
            output, aux = output
        pairs = [(int(i), x) for i, x in zip(all_indices, output.tolist(), strict=True)]
        if aux is None:
            return pairs
        return pairs, jax.tree.map(lambda x: x.tolist(), aux)

    return infer_fn
