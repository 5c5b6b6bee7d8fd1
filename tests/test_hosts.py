"""Two processes, as on two hosts, train what one process with two devices trains."""

import concurrent.futures
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from gbt_t5x.studies import runs
import gin_runs
import processes
import text_runs

pytestmark = pytest.mark.skipif(
    text_runs.EMBEDDED, reason="the embedded t5x runs in one process"
)
# A row for each example, in order: both ways the same rows make a batch.
ROWS = ("DatasetConfig.pack = False", "DatasetConfig.shuffle = False")
GUIDED = "gin/quickstart_guided.gin"
HELD_OUT = (GUIDED, *(f"guidance/utils.{row}" for row in ROWS))
NEXT_BATCH = (
    GUIDED,
    "guided_trainer.GuidedTrainer.guidance_dataset_cfg = None",
    "DISCOUNT = 0.5",
    "GROUPS = (('encoder', 'encoder/.*'), ('rest', '.*'))",
)
SETTINGS = (
    *text_runs.BINDINGS,
    f"MIXTURE_OR_TASK_NAME = {text_runs.TASK!r}",
    "MIXTURE_OR_TASK_MODULE = 'text_runs'",
    "BATCH_SIZE = 4",
    "TRAIN_STEPS = 4",
    "EVAL_PERIOD = 2",
    "CHECKPOINT_PERIOD = 2",
    "STATS_PERIOD = 1",
    "DROPOUT_RATE = 0.0",
    *(f"{kind}/utils.{row}" for kind in ("train", "train_eval") for row in ROWS),
)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def train(folder, number, gin_file, *bindings):
    """Trains four steps in a number of processes, which have two devices together."""
    bindings = (*SETTINGS, *bindings, f"MODEL_DIR = '{folder}'")
    command = [sys.executable, "-m", "t5x.train", f"--gin_file={gin_file}"]
    command += [f"--gin_bindings={binding}" for binding in bindings]
    env = os.environ | {"PYTHONPATH": os.fspath(gin_runs.ROOT / "tests")}
    if number == 1:
        env |= processes.devices(2)
        commands = [command]
    else:
        together = [
            "--multiprocess_gpu",
            f"--coordinator_address=127.0.0.1:{free_port()}",
            f"--process_count={number}",
        ]
        commands = [[*command, *together, f"--process_index={i}"] for i in range(number)]
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        run = lambda c: subprocess.run(
            c, cwd=gin_runs.ROOT, env=env, capture_output=True, text=True, timeout=500
        )
        for done in pool.map(run, commands):
            assert done.returncode == 0, done.stderr[-4000:]
    return pathlib.Path(folder)


@pytest.fixture(
    scope="module", params=[HELD_OUT, NEXT_BATCH], ids=["held_out", "next_batch"]
)
def trained(request, tmp_path_factory):
    """The configuration, and the folder of four steps by two processes."""
    folder = tmp_path_factory.mktemp("hosts") / "two"
    return request.param, train(folder, 2, *request.param)


def test_two_processes_train_what_two_devices_of_one_do(trained, tmp_path):
    config, two = trained
    one = train(tmp_path / "one", 1, *config)
    tags = "loss|guidance/loss|hyperparams/.*|hypergradient/.*"
    found, expected = (runs.read_curves(x / "train", tags) for x in (two, one))
    assert found.keys() == expected.keys()
    assert any(tag.startswith("hyperparams/alpha") for tag in found)
    for tag, curve in expected.items():
        assert list(found[tag]) == [1, 2, 3, 4]
        np.testing.assert_allclose(
            [*found[tag].values()], [*curve.values()], rtol=1e-3, atol=1e-6, err_msg=tag
        )
    after, alone = text_runs.arrays(two, 4), text_runs.arrays(one, 4)
    assert after.keys() == alone.keys()
    for name, array in alone.items():
        if name.startswith(("target/", "state/hyperparams")):
            np.testing.assert_allclose(after[name], array, atol=1e-4, err_msg=name)


def test_two_processes_go_on_exactly_from_their_checkpoint(trained, tmp_path):
    config, whole = trained
    resumed = tmp_path / "resumed"
    shutil.copytree(whole / "checkpoint_2", resumed / "checkpoint_2")
    train(resumed, 2, *config)
    expected, found = text_runs.arrays(whole, 4), text_runs.arrays(resumed, 4)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    moved = text_runs.arrays(whole, 2)["state/hyperparams/alpha"]
    assert np.all(moved != expected["state/hyperparams/alpha"])


def test_both_processes_save_where_they_are_in_the_data(trained):
    _, folder = trained
    saved = folder / "checkpoint_4" / "dataset"
    names = sorted(path.name for path in saved.glob("process_*"))
    assert names == ["process_0-of-2", "process_1-of-2"]
    first, second = (sorted((saved / name).rglob("*")) for name in names)
    # T5X numbers the files by the shard of the data that a process reads.
    own = [[re.sub(r"-\d+-of-", "-N-of-", x.name) for x in of] for of in (first, second)]
    assert own[0] == own[1] != []
