"""Prints what the paper's pre-training takes of the memory of each device, as JSON.

Variant of scripts/benchmark.py -> bytes, of the compiled step. Nothing is run.
"""

import json
import sys

import benchmark
from benchmark import train  # noqa: F401  the gin files call __main__.train
import jax
import numpy as np

ROWS, INPUTS, TARGETS = 256, 512, 114
# On CPUs, num_partitions = 1 of T5X splits parameters instead of batches.
SPLIT_BATCHES = [
    "partitioning.PjitPartitioner.num_partitions = None",
    "partitioning.PjitPartitioner.model_parallel_submesh = (1, 1)",
]


def peak_bytes(gin_file: str, bindings: list[str]) -> int:
    """Arguments, outputs that are not in their place, and temporaries."""
    with benchmark.configuration(gin_file, bindings) as kwargs:
        widths = {
            f"{side}_{kind}": width
            for side, width in (("encoder", INPUTS), ("decoder", TARGETS))
            for kind in ("input_tokens", "segment_ids", "positions")
        }
        widths |= dict.fromkeys(
            ("decoder_target_tokens", "decoder_loss_weights"), TARGETS
        )
        batch = {
            name: jax.ShapeDtypeStruct((ROWS, width), np.int32)
            for name, width in widths.items()
        }
        shapes = {name: x.shape for name, x in batch.items()}
        trainer = benchmark.make_trainer(kwargs, shapes, abstract=True)
        inputs = trainer._inputs(batch, 0) if hasattr(trainer, "_inputs") else batch
        memory = (
            kwargs["partitioner"]
            .compile(trainer._partitioned_train_step, trainer.train_state, inputs)
            .memory_analysis()
        )
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )


def main(names: list[str]) -> None:
    settings = [*benchmark.T5_60M, *benchmark.AS_IN_THE_PAPER, *SPLIT_BATCHES]
    found = {}
    for name in names:
        gin_file, own = benchmark.VARIANTS[name]
        found[name] = peak_bytes(gin_file, [*own, *settings])
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
