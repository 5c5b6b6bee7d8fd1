"""Training steps of the embedded t5x beside those of PyTorch's T5, on the same batches.

Command: python scripts/compare_pytorch.py --pytorch PYTHON [--rounds N] [--model MODEL]

PYTHON is that of a virtual environment with `pip install torch transformers`. Both have
the quickstart's sizes, or the paper's (`benchmark.T5_60M`), its batches of 16 rows in
float32, and Adafactor; the embedded t5x also without YNNPACK, which jaxlib takes matrix
products from. Each has a process of its own, and they take turns.
"""

import argparse
from collections.abc import Sequence
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import logging
import benchmark
from benchmark import train  # noqa: F401  the gin files call __main__.train
import jax
import numpy as np
import tqdm

from gbt_t5x.studies import commands

GIN_FILE = "gin/quickstart_baseline.gin"
MODELS = {"small": [], "t5_60m": [*benchmark.T5_60M, *benchmark.ON_TWO_CORES]}
NO_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type="
BLOCK = benchmark.PERIOD
BATCHES = 2 * BLOCK


class Worker:
    """A process that trains a block of steps when it is told to."""

    def __init__(self, command: Sequence[str], flags: Sequence[str] = ()):
        own_flags = os.environ.get("XLA_FLAGS", "").split()
        self._command = command
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "XLA_FLAGS": " ".join([*own_flags, *flags])},
        )
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        self.num_params = int(self._read())

    def _read(self) -> str:
        line = self._output.readline()
        if not line:
            status = self._process.wait()
            sys.exit(f"{' '.join(self._command)} ended with status {status}")
        return line

    def run(self, first: int) -> float:
        """Seconds a step, of a block that begins with a batch."""
        self._input.write(f"{first} {first + BLOCK}\n")
        self._input.flush()
        return float(self._read()) / BLOCK

    def close(self) -> None:
        self._input.close()
        self._process.wait()


def serve(model: str) -> None:
    """The embedded t5x's worker; like pytorch_t5.py."""
    with benchmark.configuration(GIN_FILE, MODELS[model]) as kwargs:
        batches = benchmark.read_batches(kwargs, BATCHES)
        variables = benchmark.draw_variables(kwargs, batches[0])
    variant = benchmark.build(GIN_FILE, MODELS[model], batches, variables)
    params = jax.tree.leaves(variant.trainer.train_state.params)
    print(sum(x.size for x in params), flush=True)
    step = 1
    for line in sys.stdin:
        first, stop = map(int, line.split())
        seconds = benchmark.run_steps(variant.trainer, batches[first:stop], step)
        print(seconds, flush=True)
        step += stop - first


def write_batches(model: str, path: str) -> dict[str, Any]:
    """Writes what pytorch_t5.py reads.

    Returns:
        The fields of its configuration.
    """
    with benchmark.configuration(GIN_FILE, MODELS[model]) as kwargs:
        batches = benchmark.read_batches(kwargs, BATCHES)
        ours = kwargs["model"].module.config
    features = {
        "inputs": "encoder_input_tokens",
        "decoder_inputs": "decoder_input_tokens",
        "targets": "decoder_target_tokens",
    }
    arrays = {k: np.stack([b[x] for b in batches]) for k, x in features.items()}
    np.savez(path, allow_pickle=False, **arrays)
    return {
        "vocab_size": ours.vocab_size,
        "d_model": ours.emb_dim,
        "d_kv": ours.head_dim,
        "d_ff": ours.mlp_dim,
        "num_layers": ours.num_encoder_layers,
        "num_decoder_layers": ours.num_decoder_layers,
        "num_heads": ours.num_heads,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": ours.dropout_rate,
        "tie_word_embeddings": ours.logits_via_embedding,
    }


def compare(model: str, pytorch: str, rounds: int) -> dict[str, list[float]]:
    """Name of what is compared -> seconds a step in each round."""
    here = pathlib.Path(__file__)
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        config = write_batches(model, file.name)
        own = [sys.executable, os.fspath(here), "--serve", model]
        theirs = [pytorch, os.fspath(here.with_name("pytorch_t5.py")), file.name]
        workers = {
            "PyTorch": Worker([*theirs, json.dumps(config)]),
            "embedded t5x": Worker(own),
            "embedded t5x, no YNNPACK": Worker(own, [NO_YNNPACK]),
        }
    sizes = {name: worker.num_params for name, worker in workers.items()}
    if len(set(sizes.values())) > 1:
        sys.exit(f"{model}: the models differ in their parameters: {sizes}")
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for i in tqdm.trange(rounds + 1, desc=f"{model}: rounds", file=sys.stderr):
        for name in list(workers) if i % 2 else reversed(list(workers)):
            found = workers[name].run(i % 2 * BLOCK)
            if i:  # the first warms up
                seconds[name].append(found)
    for worker in workers.values():
        worker.close()
    return seconds


def table(model: str, seconds: dict[str, list[float]]) -> str:
    """Steps per second against PyTorch's in the same round, as aligned text."""
    lines = [f"{model:<26}{'speed':>7}{'min':>7}{'max':>7}{'s/step':>9}"]
    for name, own in seconds.items():
        speeds = [a / b for a, b in zip(seconds["PyTorch"], own, strict=True)]
        lines.append(
            f"{name:<26}{statistics.median(speeds):>7.2f}{min(speeds):>7.2f}"
            f"{max(speeds):>7.2f}{statistics.median(own):>9.4f}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pytorch", metavar="PYTHON", help="with torch and transformers")
    parser.add_argument("--rounds", type=commands.number(int), default=20)
    parser.add_argument("--model", choices=MODELS, action="append", help="default: all")
    parser.add_argument("--serve", choices=MODELS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)  # seqio warns that tasks are not cached
    if args.serve:
        serve(args.serve)
        return
    if not args.pytorch:
        parser.error("--pytorch is needed: the Python of an environment with PyTorch")
    for model in args.model or MODELS:
        print(table(model, compare(model, args.pytorch, args.rounds)), flush=True)


if __name__ == "__main__":
    commands.run(main)
