"""Runs gin files in the tests' own process, as `python -m t5x.train` and others do."""

from collections.abc import Callable, Iterator
import contextlib
import functools
import os
import pathlib
import sys
import types
from typing import Any

import gin
import t5x
from t5x import eval as eval_script, infer as infer_script, train as train_script

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
    "network.T5Config.num_encoder_layers = 1",
    "network.T5Config.num_decoder_layers = 1",
]
# In place of T5's, where the network is no part of the test.
TINY_NETWORK = "include 'tests/tiny_network.gin'"


def _collector(fn: Callable) -> Callable[..., dict[str, Any]]:
    @functools.wraps(fn, updated=())  # without the checks of the embedded t5x
    def collect(**kwargs: Any) -> dict[str, Any]:
        return kwargs

    return collect


_MAIN = types.ModuleType("__main__")  # what gin files import as train_script
_MAIN.train = _collector(train_script.train)
_MAIN.evaluate = _collector(eval_script.evaluate)
_MAIN.infer = _collector(infer_script.infer)


def _entry_point(gin_file: str) -> tuple[Callable, tuple[str, ...]]:
    """What a gin file binds the arguments of, and the paths that it requires."""
    if gin_file.endswith("_eval.gin"):
        return _MAIN.evaluate, ("CHECKPOINT_PATH", "EVAL_OUTPUT_DIR")
    if gin_file.endswith("_infer.gin"):
        return _MAIN.infer, ("CHECKPOINT_PATH", "INFER_OUTPUT_DIR")
    return _MAIN.train, ("MODEL_DIR",)


@contextlib.contextmanager
def arguments(gin_file: str, *bindings: str) -> Iterator[dict[str, Any]]:
    """What a gin file of the repository passes to t5x, instantiated."""
    collect, paths = _entry_point(gin_file)
    # With "://", so that no folder is made and locked.
    unused = {"MODEL_DIR": "unused://"}
    required = [f"{path} = {unused.get(path, '/dev/null/unused')!r}" for path in paths]
    if "translation" in gin_file or "wmt19" in gin_file:
        required.append("DIRECTION = 'de_en'")
    if "_finetune_" in os.path.basename(gin_file):
        required.append("INITIAL_CHECKPOINT_PATH = '/dev/null/unused'")
    if "_finetune_" in os.path.basename(gin_file) or gin_file.endswith(
        ("quickstart_eval.gin", "small_eval.gin")
    ):
        required.append("MIXTURE_OR_TASK_NAME = 'guided_squad'")
    main = sys.modules["__main__"]
    sys.modules["__main__"] = _MAIN
    try:
        gin.clear_config()
        for path in (ROOT, pathlib.Path(t5x.__file__).parent.parent):
            gin.add_config_file_search_path(os.fspath(path))
        gin.parse_config_files_and_bindings([gin_file], [*required, *bindings])
        yield gin.get_configurable(collect)()
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


def evaluate(gin_file: str, *bindings: str) -> Any:
    """Evaluates as `python -m t5x.eval` does."""
    with arguments(gin_file, *bindings) as kwargs:
        return eval_script.evaluate(**kwargs)


def infer(gin_file: str, *bindings: str) -> Any:
    """Infers as `python -m t5x.infer` does."""
    with arguments(gin_file, *bindings) as kwargs:
        return infer_script.infer(**kwargs)
