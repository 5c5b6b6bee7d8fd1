"""Compiles steps of gin files, and runs nothing.

As a program it prints what the paper's pre-training takes of the memory of each device,
as JSON: variant of scripts/benchmark.py -> bytes.
"""

import json
import sys
from typing import Any

import benchmark
from benchmark import train  # noqa: F401  the gin files call __main__.train
import jax
import numpy as np

# On CPUs, num_partitions = 1 of T5X splits parameters instead of batches.
SPLIT_BATCHES = [
    "partitioning.PjitPartitioner.num_partitions = None",
    "partitioning.PjitPartitioner.model_parallel_submesh = (1, 1)",
]


def compile_step(
    gin_file: str, bindings: list[str], options: Any = None
) -> tuple[Any, Any]:
    """The compiled step of a gin file, and its trainer, which has no arrays.

    Args:
        gin_file: of a run.
        bindings: changes to it.
        options: of XLA, name -> value.
    """
    with benchmark.configuration(gin_file, bindings) as kwargs:
        cfg = kwargs["train_dataset_cfg"]
        lengths = cfg.task_feature_lengths
        widths = {
            f"{side}_{kind}": lengths[feature]
            for side, feature in (("encoder", "inputs"), ("decoder", "targets"))
            for kind in ("input_tokens", "segment_ids", "positions")
        }
        for kind in ("target_tokens", "loss_weights"):
            widths[f"decoder_{kind}"] = lengths["targets"]
        batch = {
            name: jax.ShapeDtypeStruct((cfg.batch_size, width), np.int32)
            for name, width in widths.items()
        }
        trainer = benchmark.make_trainer(kwargs, batch)
        inputs = trainer._inputs(batch, 0) if hasattr(trainer, "_inputs") else batch
        step = trainer._partitioned_train_step
        lowered = step.lower(trainer.train_state, inputs)
    return lowered.compile(options), trainer


def peak_bytes(compiled: Any) -> int:
    """Arguments, outputs that are not in their place, and temporaries."""
    memory = compiled.memory_analysis()
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
        compiled, _ = compile_step(gin_file, [*own, *settings])
        found[name] = peak_bytes(compiled)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
