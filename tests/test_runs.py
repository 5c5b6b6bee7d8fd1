"""Whole runs: stopped and resumed, and on other devices."""

import functools
import os
import pathlib
import re
import shutil

import numpy as np
import pytest

from gbt_t5x.studies import runs
import gin_runs
import processes
import text_runs

T5 = ("gin/quickstart_guided.gin",)  # Adafactor
NMT = ("gin/offline_translation_guided.gin", "DIRECTION = 'fi_en'")  # LAMB
TINY = (*T5, gin_runs.TINY_NETWORK)
PERIOD = (*TINY, "GUIDANCE_PERIOD = 2", "GUIDANCE_BATCHES = 2", "GUIDANCE_BATCH_SIZE = 2")
NEXT_BATCH = (  # gin/guidance/next_batch.gin
    *TINY,
    "guided_trainer.GuidedTrainer.guidance_dataset_cfg = None",
    "DISCOUNT = 0.5",
    "GROUPS = (('encoder', 'encoder/.*'), ('rest', '.*'))",
)
SIX_STEPS = (
    "TRAIN_STEPS = 6",
    "CHECKPOINT_PERIOD = 3",
    "EVAL_PERIOD = 3",
    "DROPOUT_RATE = 0.1",  # so that the dropout key matters too
    "train_script.train.infer_eval_dataset_cfg = None",  # which is tried elsewhere
)
CURVES = (
    "loss",
    "guidance/loss",
    "hyperparams/alpha",
    "hyperparams/beta1",
    "hypergradient/alpha",
    "hypergradient/beta1",
    "learning_rate/effective",
)


def train_in_new_process(
    model_dir: pathlib.Path, gin_file: str, *bindings: str, **env: str
) -> None:
    bindings = (*gin_runs.TINY, f"MODEL_DIR = {os.fspath(model_dir)!r}", *bindings)
    flags = [f"--gin_bindings={b.replace('train_script.', '', 1)}" for b in bindings]
    done = processes.run("t5x.train", f"--gin_file={gin_file}", *flags, **env)
    assert done.returncode == 0, done.stderr[-4000:]


def curves(model_dir: pathlib.Path) -> dict[str, dict[int, float]]:
    found = runs.read_curves(model_dir / "train", f"({'|'.join(CURVES)})(/.*)?")
    assert {name for name in CURVES if any(tag.startswith(name) for tag in found)} >= (
        set(CURVES) - {"guidance/loss"}
    )
    return {name: dict(curve) for name, curve in found.items()}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, offline_vocabularies):
    """Trains a configuration without a stop, once: its folder."""

    @functools.cache
    def train(*config: str) -> pathlib.Path:
        folder = tmp_path_factory.mktemp("whole") / "run"
        gin_runs.train(config[0], folder, *config[1:], *SIX_STEPS)
        return folder

    return train


@pytest.mark.parametrize(
    "config",
    [T5, NMT, PERIOD, NEXT_BATCH],
    ids=["adafactor", "lamb", "period", "next_batch"],
)
def test_a_killed_run_goes_on_exactly_in_a_new_process(config, tmp_path, whole_run):
    whole, killed = whole_run(*config), tmp_path / "killed"
    shutil.copytree(whole / "checkpoint_3", killed / "checkpoint_3")
    train_in_new_process(killed, *config, *SIX_STEPS)

    expected, resumed = curves(whole), curves(killed)
    assert list(expected["loss"]) == [1, 2, 3, 4, 5, 6]
    assert list(resumed["loss"]) == [4, 5, 6]
    assert expected.keys() == resumed.keys()
    for name, curve in resumed.items():
        np.testing.assert_equal(curve, {step: expected[name][step] for step in curve})
    assert len(set(expected["loss"].values())) == 6, "every batch is another one"
    expected, resumed = text_runs.arrays(whole, 6), text_runs.arrays(killed, 6)
    assert expected.keys() == resumed.keys()
    groups = (2,) if config == NEXT_BATCH else ()
    assert expected["state/hyperparams/beta1"].shape == groups
    assert expected["state/meta_state/nu/alpha"].shape == groups
    if config == NEXT_BATCH:
        path = "alpha/encoder/scale/values"
        assert np.any(expected[f"state/sensitivity/params/{path}"])
    if config == NMT:
        assert "state/param_states/0/mu_decay" in expected
    for name, array in expected.items():
        np.testing.assert_array_equal(array, resumed[name], err_msg=name)


@pytest.mark.parametrize(
    "config", [T5, NMT, NEXT_BATCH], ids=["adafactor", "lamb", "next_batch"]
)
def test_four_devices_equal_one(config, tmp_path, whole_run):
    """A mesh of 2 x 2: batches split over two devices, parameters over two."""
    one, four = whole_run(*config), tmp_path / "four"
    train_in_new_process(
        four,
        *config,
        *SIX_STEPS,
        "partitioning.PjitPartitioner.num_partitions = None",
        "partitioning.PjitPartitioner.model_parallel_submesh = (1, 2)",
        **processes.devices(4),
    )
    expected, sharded = curves(one), curves(four)
    assert expected.keys() == sharded.keys() and len(expected) >= len(CURVES) - 1
    for name in expected:
        # Sums over devices round otherwise; hypergradients are differences of sums.
        rel = 1e-3 if name.startswith("hypergradient") else 1e-5
        assert sharded[name] == pytest.approx(expected[name], rel=rel), name
    if config == NEXT_BATCH:
        expected, sharded = text_runs.arrays(one, 6), text_runs.arrays(four, 6)
        kept = [name for name in expected if re.match("state/sensitivity/.*values", name)]
        assert kept and any(expected[name].any() for name in kept)
        numbers = [
            np.concatenate([arrays[name].astype(int).ravel() for name in kept])
            for arrays in (expected, sharded)
        ]
        apart = np.abs(np.subtract(*numbers))
        # In int8: what is near a whole multiple may be rounded to the next.
        assert apart.max() <= 1 and np.mean(apart) < 0.01
    rates = runs.read_curves(four / "train", "timing/seqs_per_second(_per_core)?")
    total, per_device = (rates[name][1] for name in sorted(rates))
    assert total == pytest.approx(4 * per_device)
