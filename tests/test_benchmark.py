"""The benchmark measures what it says, on a model small enough for a test."""

import json
import sys

import benchmark
import jax
import jax.numpy as jnp
import pytest

import gin_runs
import paper_memory
import processes

TINY = [line for line in gin_runs.TINY if "STEPS" not in line and "PERIOD" not in line]
KEYS = {
    "model",
    "variant",
    "time_ratio",
    "flops_ratio",
    "temp_bytes",
    "extra_bytes",
    "compile_seconds",
}


@pytest.fixture(scope="module", autouse=True)
def main():
    """gin knows one train_script.train in a process: that of the other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", gin_runs._MAIN)
        patch.setattr(benchmark, "train", gin_runs._MAIN.train)
        yield


@pytest.fixture(scope="module")
def variants(main):
    return benchmark.measure("small", benchmark.VARIANTS, TINY, rounds=2)


def test_every_variant_is_built_measured_and_printed(variants):
    rows = {row["variant"]: row for row in benchmark.rows_of("small", variants)}
    assert list(rows) == list(benchmark.VARIANTS)
    assert set(rows) == {
        "unguided",
        "heldout",
        "heldout_quarter",
        "heldout_quarter_every_4",
        "next_batch",
        "next_batch_bfloat16",
        "next_batch_int8",
    }
    for row in rows.values():
        assert row.keys() >= KEYS
        assert row["time_ratio"].keys() == {"median", "min", "max"}
        assert row["temp_bytes"] > 0
        assert 0 < row["compile_seconds"] < row["first_step_seconds"]
    assert rows["unguided"]["time_ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    flops = {name: row["flops_ratio"] for name, row in rows.items()}
    assert flops["unguided"] == 1
    assert 1 < flops["next_batch"] < flops["heldout_quarter_every_4"] < 1.2
    assert flops["heldout_quarter"] < 1.6 < flops["heldout"] < 2.2

    trainers = {name: variant.trainer for name, variant in variants.items()}
    assert trainers["heldout_quarter_every_4"]._period == benchmark.PERIOD
    assert not trainers["next_batch"]._guidance_batches
    [quarter] = trainers["heldout_quarter"]._guidance_batches
    assert {len(x) for x in quarter.values()} == {1}
    steps = {int(trainer.train_state.step) for trainer in trainers.values()}
    assert steps == {1 + 3 * benchmark.PERIOD}

    lines = benchmark.table(list(rows.values())).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 1 + len(rows)


def test_the_next_batch_needs_the_bytes_of_its_dtype(variants):
    arrays = {"next_batch": 1.0, "next_batch_bfloat16": 0.5, "next_batch_int8": 0.25}
    unguided = variants["unguided"]
    params = jax.tree.leaves(unguided.trainer.train_state.params)
    size = sum(4 * x.size for x in params)
    for name, kept in arrays.items():
        variant = variants[name]
        state = variant.largest("argument_bytes") - unguided.largest("argument_bytes")
        # The rest is the state of λ, and a scale of each array.
        assert kept * size <= state <= kept * size + 0.02 * size
        assert variant.extra_bytes(unguided) <= kept + 0.1


def test_hyperparams_of_every_array_cost_no_more_than_one():
    gin_file, of_every_array = benchmark.GROUPS["heldout_1022_hyperparams"]
    _, one = benchmark.GROUPS["heldout_1_hyperparam"]
    _, six = benchmark.KINDS["heldout_6_hyperparams"]
    flops = {}
    for own in (one, of_every_array, six, [*six, *of_every_array]):
        compiled, trainer = paper_memory.compile_step(gin_file, [*own, *TINY])
        state = trainer.train_state
        learned = jax.tree.leaves(state._optimizer.state.hyperparams)
        flops[sum(x.size for x in learned)] = compiled.cost_analysis()["flops"]
    arrays = len(jax.tree.leaves(state.params))
    assert list(flops) == [1, 2 * arrays, 6, 6 * arrays]
    # beta1 adds a product with the momentum.
    assert flops[2 * arrays] <= 1.002 * flops[1]
    assert flops[6 * arrays] <= 1.001 * flops[6]


def test_the_deep_model_learns_a_thousand_hyperparams():
    gin_file, own = benchmark.GROUPS["heldout_1022_hyperparams"]
    with benchmark.configuration(gin_file, [*own, *benchmark.T5_DEEP]) as kwargs:
        tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
        sides = ["encoder_input_tokens", "decoder_input_tokens"]
        trainer = benchmark.make_trainer(kwargs, dict.fromkeys(sides, tokens))
    learned = jax.tree.leaves(trainer.train_state._optimizer.state.hyperparams)
    assert sum(x.size for x in learned) == 1022


# A layer of each of the 60M T5's stacks: the embedding is most of it.
TWO_LAYERS = [
    *benchmark.T5_60M,
    *benchmark.ON_TWO_CORES,
    "network.T5Config.num_encoder_layers = 1",
    "network.T5Config.num_decoder_layers = 1",
]


def test_six_kinds_need_the_bytes_of_five_and_little_more():
    most = {"unguided": 0.0, "next_batch_int8": 0.27, "next_batch_6_hyperparams": 1.4}
    peak, arguments = {}, {}
    for name in most:
        gin_file, own = (benchmark.VARIANTS | benchmark.KINDS)[name]
        compiled, trainer = paper_memory.compile_step(gin_file, [*own, *TWO_LAYERS])
        peak[name] = paper_memory.peak_bytes(compiled)
        arguments[name] = compiled.memory_analysis().argument_size_in_bytes
    size = sum(4 * x.size for x in jax.tree.leaves(trainer.train_state.params))
    for name, arrays in most.items():
        assert peak[name] - peak["unguided"] <= arrays * size
    kept = arguments["next_batch_6_hyperparams"] - arguments["unguided"]
    assert 5 * 0.25 * size <= kept <= (5 * 0.25 + 0.02) * size


LAMB = """
from __gin__ import dynamic_registration
from gbt_t5x import adam
from gbt_t5x import optax_optimizer
include '{}'
OPTIMIZER = @optax_optimizer.OptaxOptimizer()
optax_optimizer.OptaxOptimizer.transformation = @adam.lamb
optax_optimizer.OptaxOptimizer.weight_decay = 0.01
"""


def test_lamb_needs_the_bytes_of_its_decays(tmp_path):
    """int8 in the state; float32 while the held-out batch's gradient is computed."""
    learned = {
        "unguided": None,
        "next_batch_int8": ("alpha", "beta1"),
        "heldout": ("alpha", "beta1", "weight_decay", "epsilon"),
    }
    peak, arguments = {}, {}
    for name, hyperparams in learned.items():
        gin_file, own = benchmark.VARIANTS[name]
        own = [*own, f"HYPERPARAMS = {hyperparams}"] if hyperparams else own
        file = tmp_path / f"{name}.gin"
        file.write_text(LAMB.format(gin_file) + "\n".join(own))
        # YNNPACK's fusions of XLA:CPU write scalars out as arrays.
        compiled, trainer = paper_memory.compile_step(
            str(file), TWO_LAYERS, {"xla_cpu_experimental_ynn_fusion_type": ""}
        )
        peak[name] = paper_memory.peak_bytes(compiled)
        arguments[name] = compiled.memory_analysis().argument_size_in_bytes
    size = sum(4 * x.size for x in jax.tree.leaves(trainer.train_state.params))
    for name, kept, most in (("next_batch_int8", 0.25, 0.27), ("heldout", 0.0, 1.0)):
        assert kept <= (arguments[name] - arguments["unguided"]) / size <= kept + 0.001
        assert peak[name] - peak["unguided"] <= most * size


def test_the_run_of_the_paper_fits_sixteen_devices():
    """60M parameters, 256 rows of 512 tokens: the memory of a TPUv3 core is 16 GB."""
    program = "tests/paper_memory.py"
    done = processes.run(program, "unguided", "heldout", **processes.devices(16))
    assert done.returncode == 0, done.stderr[-4000:]
    peak = json.loads(done.stdout.splitlines()[-1])
    assert 1e9 < peak["unguided"] < peak["heldout"] < 16e9
    # Z is 0.035, as an array of float32 like the parameters.
    assert peak["heldout"] <= 1.04 * peak["unguided"]
