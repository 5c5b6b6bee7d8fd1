"""The comparison with PyTorch, whose workers are small programs made here."""

import sys

import benchmark
import compare_pytorch
import numpy as np
import pytest

import gin_runs

WORKER = """
import sys
print({num_params}, flush=True)
for line in sys.stdin:
    first, stop = map(int, line.split())
    print({seconds} * (stop - first), flush=True)
"""


def command(num_params=10, seconds=0.5):
    code = WORKER.format(num_params=num_params, seconds=seconds)
    return [sys.executable, "-c", code]


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Compares PyTorch with the embedded t5x, which are given commands."""

    def run(pytorch, embedded):
        make = compare_pytorch.Worker
        chosen = iter((pytorch, embedded, embedded))
        monkeypatch.setattr(
            compare_pytorch, "Worker", lambda _, flags=(): make(next(chosen), flags)
        )
        monkeypatch.setattr(compare_pytorch, "write_batches", lambda *_: {})
        return compare_pytorch.compare("small", sys.executable, 3)

    return run


def test_speed_is_of_the_same_rounds(compare):
    seconds = compare(command(seconds=0.5), command(seconds=0.25))
    assert {name: len(rounds) for name, rounds in seconds.items()} == {
        "PyTorch": 3,
        "embedded t5x": 3,
        "embedded t5x, no YNNPACK": 3,
    }
    rows = [
        line.split()[-4:] for line in compare_pytorch.table("m", seconds).splitlines()
    ]
    assert rows[1:] == [
        ["1.00", "1.00", "1.00", "0.5000"],
        ["2.00", "2.00", "2.00", "0.2500"],
        ["2.00", "2.00", "2.00", "0.2500"],
    ]


def test_models_of_other_sizes_do_not_compare(compare):
    with pytest.raises(SystemExit, match="small: the models differ in their parameters"):
        compare(command(num_params=10), command(num_params=11))


def test_a_worker_that_ends_is_named(compare):
    with pytest.raises(SystemExit, match="raise SystemExit.* ended with status 3"):
        compare([sys.executable, "-c", "raise SystemExit(3)"], command())


def test_flags_are_added_to_the_users(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--a=1")
    show = "import os; print(int(os.environ['XLA_FLAGS'] == '--a=1 --b='))"
    assert compare_pytorch.Worker([sys.executable, "-c", show], ["--b="]).num_params == 1


def test_pytorch_gets_the_same_model_and_batches(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", gin_runs._MAIN)
    monkeypatch.setattr(benchmark, "train", gin_runs._MAIN.train)
    path = str(tmp_path / "batches.npz")
    config = compare_pytorch.write_batches("small", path)
    assert config == {
        "vocab_size": 384,
        "d_model": 96,
        "d_kv": 32,
        "d_ff": 256,
        "num_layers": 1,
        "num_decoder_layers": 1,
        "num_heads": 3,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
        "tie_word_embeddings": True,
    }
    arrays = np.load(path)
    shapes = {name: x.shape for name, x in arrays.items()}
    assert shapes == {
        "inputs": (8, 16, 128),
        "decoder_inputs": (8, 16, 32),
        "targets": (8, 16, 32),
    }
    assert all((x > 0).any(axis=(1, 2)).all() for x in arrays.values())


def test_pytorch_has_to_be_named(capsys):
    with pytest.raises(SystemExit):
        compare_pytorch.main([])
    assert "--pytorch is needed" in capsys.readouterr().err
