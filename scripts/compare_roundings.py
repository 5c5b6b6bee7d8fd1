"""How far the hypergradients of rounded sensitivities are from those of float32.

Command: python scripts/compare_roundings.py GIN_FILE STEPS [GIN_BINDING ...]

Trains by the next batch with sensitivities in float32. At each step they are rounded too,
and the hypergradient of these is compared: the median over the steps of its relative
error, and the 90th percentile. Nothing is learned from the rounded ones.
"""

import argparse
from collections.abc import Sequence
import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import logging
import benchmark
from benchmark import train  # noqa: F401  the gin files call __main__.train
import jax
import numpy as np
import tqdm

from gbt_t5x import rounding
from gbt_t5x.studies import commands

NEXT_BATCH = ["include 'gin/guidance/next_batch.gin'", "SENSITIVITY_DTYPE = 'float32'"]
DTYPES = [dtype for dtype in rounding.DTYPES if dtype != "float32"]


def measure(gin_file: str, steps: int, bindings: Sequence[str]) -> dict[str, np.ndarray]:
    """Trains.

    Returns:
        'DTYPE NAME' -> ((steps - 1) * groups,) relative errors of a hyper-parameter's ĝ.

    Raises:
        ValueError: the run keeps none that could be rounded.
    """
    errors: dict[str, list[float]] = {}

    def record(dtype: str, exact: dict[str, Any], rounded: dict[str, Any]) -> None:
        for name in exact:
            value, other = np.ravel(exact[name]), np.ravel(rounded[name])
            known = value != 0  # it is 0 before the first update
            if known.any():
                error = abs(other[known] / value[known] - 1)
                errors.setdefault(f"{dtype} {name}", []).extend(error)

    with benchmark.configuration(gin_file, [*NEXT_BATCH, *bindings]) as kwargs:
        optimizer = kwargs["model"].optimizer_def
        hypergradient = optimizer.hypergradient

        def compared(params: Any, state: Any, grads: Any) -> dict[str, Any]:
            if "params" not in state.sensitivity:
                raise ValueError(
                    f"{gin_file} keeps no sensitivities: they follow from the optimizer"
                )
            exact = hypergradient(params, state, grads)
            for dtype in DTYPES:
                kept = rounding.quantize(state.sensitivity["params"], dtype, state.step)
                rounded = state.sensitivity | {"params": rounding.dequantize(kept)}
                jax.debug.callback(
                    lambda *found, dtype=dtype: record(dtype, *found),
                    exact,
                    hypergradient(params, state.replace(sensitivity=rounded), grads),
                )
            return exact

        optimizer.hypergradient = compared
        batches = benchmark.read_batches(kwargs, steps)
        variables = benchmark.draw_variables(kwargs, batches[0])
        trainer = benchmark.make_trainer(kwargs, batches[0], variables)
        for step in tqdm.trange(steps, file=sys.stderr):
            trainer.train(iter(batches[step : step + 1]), 1, start_step=step).result()
        jax.effects_barrier()
    return {name: np.array(values) for name, values in errors.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gin_file")
    parser.add_argument("steps", type=commands.number(int))
    parser.add_argument("bindings", nargs="*")
    args = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)  # seqio warns that tasks are not cached
    print("relative error of ĝ   median   90 %")
    errors = measure(args.gin_file, args.steps, args.bindings)
    for name, values in sorted(errors.items()):
        low, high = np.percentile(values, [50, 90])
        print(f"{name:<20}{low:>9.2%}{high:>8.2%}")


if __name__ == "__main__":
    commands.run(main)
