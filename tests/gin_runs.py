"""Runs gin files in the tests' own process, as `python -m t5x.train` does."""

from collections.abc import Iterator
import contextlib
import functools
import os
import pathlib
import sys
import types
from typing import Any

import gin
import t5x
from t5x import train as train_script

ROOT = pathlib.Path(__file__).parent.parent

# The quickstart, small enough to compile and train in seconds.
TINY = [
    "TRAIN_STEPS = 2",
    "BATCH_SIZE = 4",
    "TASK_FEATURE_LENGTHS = {'inputs': 32, 'targets': 16}",
    "EVAL_PERIOD = 2",
    "EVAL_STEPS = 1",
    "STATS_PERIOD = 1",
    "CHECKPOINT_PERIOD = 2",
    "network.T5Config.emb_dim = 16",
    "network.T5Config.num_heads = 2",
    "network.T5Config.head_dim = 8",
    "network.T5Config.mlp_dim = 32",
]


@functools.wraps(train_script.train)
def _collect(**kwargs: Any) -> dict[str, Any]:
    return kwargs


_MAIN = types.ModuleType("__main__")  # what gin files import as train_script
_MAIN.train = _collect


@contextlib.contextmanager
def arguments(gin_file: str, *bindings: str) -> Iterator[dict[str, Any]]:
    """What a gin file of the repository passes to t5x.train.train, instantiated."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = _MAIN
    try:
        gin.clear_config()
        for path in (ROOT, pathlib.Path(t5x.__file__).parent.parent):
            gin.add_config_file_search_path(os.fspath(path))
        bindings = ("MODEL_DIR = '/unused'", *bindings)
        gin.parse_config_files_and_bindings([gin_file], bindings)
        yield gin.get_configurable(_collect)()
    finally:
        gin.clear_config()
        sys.modules["__main__"] = main


def train(gin_file: str, model_dir: Any, *bindings: str) -> tuple[int, Any]:
    """Trains a tiny model. Returns the last step and the train state."""
    bindings = (*TINY, f"MODEL_DIR = {os.fspath(model_dir)!r}", *bindings)
    with arguments(gin_file, *bindings) as kwargs:
        return train_script.train(**kwargs)


def bindings_of(gin_file: str, *bindings: str) -> dict[str, str]:
    """name -> value of every binding and macro in a gin file and its includes."""
    with arguments(gin_file, *bindings):
        text = gin.config_str(max_line_length=10_000)
    lines = [line for line in text.splitlines() if " = " in line and line[0] != "#"]
    return dict(line.split(" = ", 1) for line in lines)
