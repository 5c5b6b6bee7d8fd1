"""What a training step costs with each source of the guidance gradient.

Command: python scripts/benchmark.py [--quick] [--json FILE]

All variants are built from gin/quickstart_*.gin in one process, and take turns on the
same batches, so that the load of the machine meets all of them. Times are of blocks of
four steps, one period of the variant that guides every fourth, divided by the block of
the unguided trainer in the same round. The unguided trainer has the same Adafactor, with
momentum. FLOPs and bytes accessed are XLA's estimates of the compiled programs, averaged
over a block; the memory of temporaries and arguments is that of the larger program, and
"extra" what it takes beyond the unguided one's, in float32 arrays like the parameters.

Seconds to the first step are those of the imports, of TensorFlow's first batch, of a
model's training data and of drawing its parameters, which its variants share, and of a
variant's own guidance data, compilation and step.

Models: `small`, the quickstart's; `t5_60m`, the paper's T5, at a batch for two cores, on
an accelerator at the paper's, 256 rows of 512 tokens; and `t5_deep`, of 511 arrays, which
learns one hyper-parameter, and two of each array.
"""

# ruff: noqa: E402  the imports are timed
import time

_STARTED = time.perf_counter()

import argparse
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import logging
from flax import core
import gin
import jax
from t5x import train_state as train_state_lib, utils
import tqdm

PERIOD = 4
VARIANTS = {
    "unguided": ("gin/quickstart_baseline.gin", ["BETA1 = 0.9"]),
    "heldout": ("gin/quickstart_guided.gin", []),
    "heldout_quarter": (
        "gin/quickstart_guided.gin",
        ["GUIDANCE_BATCH_SIZE = {quarter}"],
    ),
    "heldout_quarter_every_4": (
        "gin/quickstart_guided.gin",
        ["GUIDANCE_BATCH_SIZE = {quarter}", f"GUIDANCE_PERIOD = {PERIOD}"],
    ),
    "next_batch": (
        "gin/quickstart_guided.gin",
        ["include 'gin/guidance/next_batch.gin'", "SENSITIVITY_DTYPE = 'float32'"],
    ),
    "next_batch_bfloat16": (
        "gin/quickstart_guided.gin",
        ["include 'gin/guidance/next_batch.gin'", "SENSITIVITY_DTYPE = 'bfloat16'"],
    ),
    "next_batch_int8": (
        "gin/quickstart_guided.gin",
        ["include 'gin/guidance/next_batch.gin'", "SENSITIVITY_DTYPE = 'int8'"],
    ),
}
ONE_HYPERPARAM = {
    "heldout_1_hyperparam": ("gin/quickstart_guided.gin", ["HYPERPARAMS = ('alpha',)"])
}
SIX_HYPERPARAMS = [
    "HYPERPARAMS = ('alpha', 'beta1', 'epsilon', 'weight_decay', 'decay_rate', "
    "'clipping_threshold')",
    "adafactor.Adafactor.epsilon1 = 1e-18",
    "adafactor.Adafactor.weight_decay_rate = 1e-6",
]
KINDS = ONE_HYPERPARAM | {
    "heldout_6_hyperparams": ("gin/quickstart_guided.gin", SIX_HYPERPARAMS),
    "next_batch_6_hyperparams": (
        "gin/quickstart_guided.gin",
        ["include 'gin/guidance/next_batch.gin'", *SIX_HYPERPARAMS],
    ),
}
GROUPS = {
    "unguided": VARIANTS["unguided"],
    **ONE_HYPERPARAM,
    "heldout_1022_hyperparams": (
        "gin/quickstart_guided.gin",
        [r"GROUPS = (('\\g<0>', '.*'),)"],
    ),
}
T5_60M = [  # gin/models/t5_small.gin, which reads its vocabulary from the network
    "network.T5Config.vocab_size = 32128",
    "network.T5Config.emb_dim = 512",
    "network.T5Config.num_heads = 6",
    "network.T5Config.head_dim = 64",
    "network.T5Config.num_encoder_layers = 8",
    "network.T5Config.num_decoder_layers = 8",
    "network.T5Config.mlp_dim = 1024",
]
T5_DEEP = [
    "network.T5Config.emb_dim = 128",
    "network.T5Config.num_heads = 4",
    "network.T5Config.num_encoder_layers = 22",
    "network.T5Config.num_decoder_layers = 22",
]
# The gin file's own lengths, 128 and 32 tokens. A core of the paper's has 16 rows.
ON_TWO_CORES = ["BATCH_SIZE = 16"]
AS_IN_THE_PAPER = [
    "BATCH_SIZE = 256",
    "TASK_FEATURE_LENGTHS = {'inputs': 512, 'targets': 114}",
    "network.T5Config.dtype = 'bfloat16'",
]


def train(**kwargs: Any) -> dict[str, Any]:
    """What the gin files pass to T5X's train; they call it train_script.train."""
    return kwargs


@dataclasses.dataclass
class Program:
    """A compiled step: FLOPs and bytes accessed by XLA's count, and its memory."""

    flops: float
    bytes_accessed: float
    temp_bytes: int
    argument_bytes: int
    seconds: float


@dataclasses.dataclass
class Variant:
    """A trainer, the programs of one period of steps, and its seconds a block."""

    trainer: Any
    programs: list[Program]
    compile_seconds: float
    first_step_seconds: float
    seconds: list[float] = dataclasses.field(default_factory=list)

    def mean(self, field: str) -> float:
        return statistics.fmean(getattr(p, field) for p in self.programs)

    def largest(self, field: str) -> int:
        return max(getattr(p, field) for p in self.programs)

    def extra_bytes(self, unguided: "Variant") -> float:
        """Memory beyond another variant's, in float32 arrays like all parameters."""
        params = jax.tree.leaves(self.trainer.train_state.params)
        extra = sum(
            self.largest(field) - unguided.largest(field)
            for field in ("argument_bytes", "temp_bytes")
        )
        return extra / sum(4 * x.size for x in params)


@contextlib.contextmanager
def configuration(gin_file: str, bindings: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What a gin file passes to train; gin's bindings stay until the end."""
    gin.clear_config()
    for path in (pathlib.Path(), pathlib.Path(utils.__file__).parent.parent):
        gin.add_config_file_search_path(os.fspath(path))
    bindings = ["MODEL_DIR = 'unused://'", *bindings]
    gin.parse_config_files_and_bindings([gin_file], bindings)
    try:
        yield gin.get_configurable(train)()
    finally:
        gin.clear_config()


def read_batches(kwargs: Mapping[str, Any], number: int) -> list[Any]:
    """The first training batches of a configuration, on the devices."""
    cfg, partitioner = kwargs["train_dataset_cfg"], kwargs["partitioner"]
    layout = partitioner.get_data_layout(cfg.batch_size)
    converter = kwargs["model"].FEATURE_CONVERTER_CLS
    dataset = utils.get_dataset(cfg, layout.shard_id, layout.num_shards, converter)
    data = utils.prepare_train_iter(
        dataset, partitioner=partitioner, checkpoint_cfg=None, data_layout=layout
    )
    return list(itertools.islice(data, number))


def _initializer(kwargs: Mapping[str, Any], batch: Mapping[str, Any]) -> Any:
    model = kwargs["model"]
    return utils.TrainStateInitializer(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes={k: x.shape for k, x in batch.items()},
        partitioner=kwargs["partitioner"],
    )


def draw_variables(kwargs: Mapping[str, Any], batch: Mapping[str, Any]) -> Any:
    """The parameters that a configuration starts from, and their axes."""
    state = _initializer(kwargs, batch).from_scratch(jax.random.PRNGKey(0))
    return core.freeze({"params": state.params, "params_axes": state.params_axes})


def make_trainer(
    kwargs: Mapping[str, Any], batch: Mapping[str, Any], variables: Any = None
) -> Any:
    """The trainer of a configuration.

    Args:
        kwargs: what the configuration passes to train.
        batch: feature -> array, or its shape.
        variables: of `draw_variables`, which are copied; None for a trainer that has
            shapes in place of arrays.
    """
    model, partitioner = kwargs["model"], kwargs["partitioner"]
    initializer = _initializer(kwargs, batch)
    train_state, axes = initializer.global_train_state_shape, initializer.train_state_axes
    if variables is not None:
        create = partitioner.partition(
            lambda params: train_state_lib.FlaxOptimTrainState.create(
                model.optimizer_def, variables.copy({"params": params})
            ),
            in_axis_resources=(axes.params,),
            out_axis_resources=axes,
        )
        train_state = create(variables["params"])
    return kwargs["trainer_cls"](
        model=model,
        train_state=train_state,
        partitioner=partitioner,
        eval_names=[],
        summary_dir=None,
        train_state_axes=axes,
        rng=jax.random.PRNGKey(0),
    )


def build(
    gin_file: str, bindings: Sequence[str], batches: Sequence[Any], variables: Any
) -> Variant:
    """A trainer that took its first step."""
    started = time.perf_counter()
    with configuration(gin_file, bindings) as kwargs:
        trainer = make_trainer(kwargs, batches[0], variables)
        programs: dict[bool, Program] = {}
        partitioner = kwargs["partitioner"]
        compile_step = partitioner.compile

        def record(function: Any, state: Any, inputs: Mapping[str, Any]) -> Any:
            started = time.perf_counter()
            compiled = compile_step(function, state, inputs)
            programs["guidance" in inputs] = _program(
                compiled, time.perf_counter() - started
            )
            return compiled

        partitioner.compile = record
        trainer.compile_train(batches[0])
        run_steps(trainer, batches[:1], 0)
    first_step_seconds = time.perf_counter() - started
    block = list(programs.values())
    if len(block) == 2:  # with a period
        block = [programs[False]] * (PERIOD - 1) + [programs[True]]
    compile_seconds = sum(p.seconds for p in programs.values())
    return Variant(trainer, block, compile_seconds, first_step_seconds)


def _program(compiled: Any, seconds: float) -> Program:
    costs, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return Program(
        flops=costs["flops"],
        bytes_accessed=costs["bytes accessed"],
        temp_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        seconds=seconds,
    )


def run_steps(trainer: Any, batches: Sequence[Any], step: int) -> float:
    """Seconds of as many steps as there are batches."""
    started = time.perf_counter()
    trainer.train(iter(batches), len(batches), start_step=step).result()
    jax.block_until_ready(trainer.train_state)
    return time.perf_counter() - started


def measure(
    model: str,
    named: Mapping[str, tuple[str, Sequence[str]]],
    bindings: Sequence[str],
    rounds: int,
) -> dict[str, Variant]:
    """Builds variants of a model, the unguided one first, and runs them in turns."""
    started = time.perf_counter()
    gin_file, own = next(iter(named.values()))
    with configuration(gin_file, [*own, *bindings]) as kwargs:
        batches = read_batches(kwargs, 2 * PERIOD)  # the same for all variants
        variables = jax.block_until_ready(draw_variables(kwargs, batches[0]))
    shared_seconds = time.perf_counter() - started
    quarter = len(batches[0]["decoder_target_tokens"]) // 4
    variants = {}
    for name, (gin_file, own) in named.items():
        print(f"{model}: building {name}", file=sys.stderr)
        own = [binding.format(quarter=quarter) for binding in own]
        variants[name] = build(gin_file, [*own, *bindings], batches, variables)
        variants[name].first_step_seconds += shared_seconds
    for i in tqdm.trange(rounds + 1, desc=f"{model}: rounds", file=sys.stderr):
        chosen = batches[:PERIOD] if i % 2 else batches[PERIOD:]
        names = list(variants)
        for name in names if i % 2 else reversed(names):
            seconds = run_steps(variants[name].trainer, chosen, i * PERIOD)
            if i:  # the first warms up
                variants[name].seconds.append(seconds)
    return variants


def rows_of(
    model: str, variants: Mapping[str, Variant], shared_seconds: float = 0.0
) -> list[dict[str, Any]]:
    """The measurements, as --json writes them.

    Args:
        model: its name.
        variants: those that were measured, and "unguided".
        shared_seconds: what the process did once, before the first variant.
    """
    base = variants["unguided"]
    rows = []
    for name, variant in variants.items():
        ratios = [a / b for a, b in zip(variant.seconds, base.seconds, strict=True)]
        rows.append(
            {
                "model": model,
                "variant": name,
                "time_ratio": {
                    "median": statistics.median(ratios),
                    "min": min(ratios),
                    "max": max(ratios),
                },
                "flops_ratio": variant.mean("flops") / base.mean("flops"),
                "bytes_ratio": variant.mean("bytes_accessed")
                / base.mean("bytes_accessed"),
                "temp_bytes": variant.largest("temp_bytes"),
                "argument_bytes": variant.largest("argument_bytes"),
                "extra_bytes": variant.extra_bytes(base),
                "compile_seconds": variant.compile_seconds,
                "first_step_seconds": shared_seconds + variant.first_step_seconds,
                "seconds_per_step": statistics.median(variant.seconds) / PERIOD,
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows, as aligned text."""
    lines = [
        f"{'model':<8}{'variant':<25}{'time ratio':>10}{'min':>7}{'max':>7}{'FLOPs':>7}"
        f"{'bytes':>7}{'temp MB':>9}{'args MB':>9}{'extra':>7}{'compile s':>11}"
        f"{'first s':>9}"
        f"{'s/step':>9}"
    ]
    for row in rows:
        times = row["time_ratio"]
        lines.append(
            f"{row['model']:<8}{row['variant']:<25}{times['median']:>10.3f}"
            f"{times['min']:>7.3f}{times['max']:>7.3f}{row['flops_ratio']:>7.3f}"
            f"{row['bytes_ratio']:>7.3f}{row['temp_bytes'] / 1e6:>9.1f}"
            f"{row['argument_bytes'] / 1e6:>9.1f}{row['extra_bytes']:>7.2f}"
            f"{row['compile_seconds']:>11.1f}"
            f"{row['first_step_seconds']:>9.1f}{row['seconds_per_step']:>9.4f}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small model alone")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)  # seqio warns that tasks are not cached

    with configuration(*VARIANTS["unguided"]) as kwargs:
        read_batches(kwargs, 1)
    shared_seconds = time.perf_counter() - _STARTED
    on_cpu = jax.default_backend() == "cpu"
    size = ON_TWO_CORES if on_cpu else AS_IN_THE_PAPER
    models = [
        ("small", VARIANTS, [], 40),
        ("t5_60m", VARIANTS | KINDS, [*T5_60M, *size], 10),
        ("t5_deep", GROUPS, T5_DEEP, 10),
    ]
    rows = []
    for model, named, bindings, rounds in models[: 1 if args.quick else None]:
        variants = measure(model, named, bindings, rounds)
        new_rows = rows_of(model, variants, shared_seconds)
        del variants  # free before the next model is built
        print(table(new_rows), flush=True)
        rows += new_rows
        if args.json:
            args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
