"""Fine-tuning from gin: what a run takes over from a checkpoint, and what it does not."""

import ast
import os
import pathlib
import re
import shutil
from typing import Any

from flax import serialization, traverse_util
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore

import gin_runs
import text_runs

TASK = "offline_kind"
STEPS = 2  # of pre-training, as in gin_runs.TINY
FINETUNE = "gin/t5_small_finetune_baseline.gin"
KEEP = "RESET = None"
KEPT = "target/.*|.*/(v|v_row|v_col)|state/step"  # in any case
FRESH = {"state/hyperparams/alpha": 0.0, "state/hyperparams/beta1": np.log(0.9 / 0.1)}


def flat(tree: Any) -> dict[str, np.ndarray]:
    arrays = traverse_util.flatten_dict(tree, sep="/")
    return {name: np.asarray(array) for name, array in arrays.items()}


def read(checkpoint: pathlib.Path) -> dict[str, np.ndarray]:
    return flat(ocp.PyTreeCheckpointer().restore(checkpoint / "state"))


def names(arrays: dict[str, np.ndarray], pattern: str) -> set[str]:
    return {name for name in arrays if re.fullmatch(pattern, name)}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """kind -> the checkpoint that pre-training of that kind ended with."""
    folder = tmp_path_factory.mktemp("pretrained")
    kinds = ("baseline", "guided", "recipe")  # which learns for each array by itself
    for kind in kinds:
        gin_runs.train(f"gin/quickstart_{kind}.gin", folder / kind)
    return {kind: folder / kind / f"checkpoint_{STEPS}" for kind in kinds}


def finetune(
    kind: str, checkpoint: pathlib.Path, model_dir: Any, *bindings: str, steps: int = 0
) -> dict[str, np.ndarray]:
    """Fine-tunes for some steps. Returns the arrays of the train state."""
    step, state = gin_runs.train(
        f"gin/quickstart_finetune_{kind}.gin",
        model_dir,
        f"MIXTURE_OR_TASK_NAME = {TASK!r}",
        f"INITIAL_CHECKPOINT_PATH = {os.fspath(checkpoint)!r}",
        f"TRAIN_STEPS = {STEPS + steps}",
        "EVALUATOR_NUM_EXAMPLES = 4",
        "TASK_FEATURE_LENGTHS = {'inputs': 128, 'targets': 32}",
        *bindings,
    )
    assert step == STEPS + steps
    return flat(state.state_dict())


def assert_equal(arrays, expected, keys):
    assert keys
    for key in keys:
        np.testing.assert_array_equal(arrays[key], expected[key], err_msg=key)


@pytest.mark.parametrize("source", ["baseline", "guided", "recipe"])
@pytest.mark.parametrize("kind", ["baseline", "guided", "recipe"])
def test_parameters_are_kept_and_hyperparams_reset(kind, source, pretrained, tmp_path):
    saved = read(pretrained[source])
    state = finetune(kind, pretrained[source], tmp_path)
    assert_equal(state, saved, names(saved, KEPT))
    assert not any(state[key].any() for key in names(state, ".*/m"))
    learned = names(state, ".*hyperparams.*")
    of_recipe = {"state/hyperparams/alpha"} if kind == "recipe" else set()
    assert learned == (FRESH.keys() if kind == "guided" else of_recipe)
    for key in learned:
        np.testing.assert_allclose(state[key], FRESH[key], rtol=1e-6)
        was_learned = source == "guided" or (source == "recipe" and "alpha" in key)
        assert not was_learned or np.any(saved[key] != state[key]), "nothing was learned"
    anew = names(state, ".*(meta_state|sensitivity).*")
    assert not any(state[key].any() for key in anew)
    kept = names(saved, ".*sensitivity.*values")
    assert any(saved[key].any() for key in kept) == (source == "recipe")


def test_momentum_of_optax_starts_anew_too():
    ((pattern, replaced),) = ast.literal_eval(gin_runs.bindings_of(FINETUNE)["RESET"])
    assert replaced is None
    anew = ("decoder/w/m", "0/mu/decoder/w", "0/mu_decay", "1/trace/w", "4/ema/w")
    kept = ("decoder/w/v_row", "0/nu/decoder/w", "0/nu_decay", "0/count", "4/v/w")
    for path in (*anew, *kept):
        found = re.fullmatch(pattern, f"state/param_states/{path}")
        assert bool(found) == (path in anew), path


def test_guided_run_keeps_what_a_guided_run_learned(pretrained, tmp_path):
    saved = read(pretrained["guided"])
    state = finetune("guided", pretrained["guided"], tmp_path, KEEP)
    assert len(names(saved, ".*meta_state.*")) >= 4
    assert state.keys() == saved.keys()
    assert_equal(state, saved, saved.keys())


def test_nothing_is_kept_that_was_not_learned(pretrained, tmp_path):
    lacks = "(?s)hyperparams|shape|lacks"
    if text_runs.EMBEDDED:
        lacks = r"lacks \d+ arrays|/m has shape \(1,\) in the checkpoint"
    with pytest.raises(ValueError, match=lacks):
        finetune("guided", pretrained["baseline"], tmp_path, KEEP)


def test_frozen_hyperparams_are_those_of_the_guided_run(pretrained, tmp_path):
    """The run trains with them, fixed."""
    gin_file = tmp_path / "frozen.gin"
    gin_file.write_text(
        "include 'gin/quickstart_finetune_baseline.gin'\n"
        "include 'gin/guidance/frozen.gin'\n"
    )
    bindings = (
        f"MIXTURE_OR_TASK_NAME = {TASK!r}",
        f"INITIAL_CHECKPOINT_PATH = {os.fspath(pretrained['guided'])!r}",
        "EVALUATOR_NUM_EXAMPLES = 4",
        "TASK_FEATURE_LENGTHS = {'inputs': 128, 'targets': 32}",
        f"TRAIN_STEPS = {STEPS + 2}",
    )
    saved = read(pretrained["guided"])
    _, state = gin_runs.train(str(gin_file), tmp_path / "run", *bindings)
    state = flat(state.state_dict())
    assert state["state/step"] == STEPS + 2
    assert_equal(state, saved, names(saved, ".*hyperparams.*"))
    embedding = "target/token_embedder/embedding"
    assert (state[embedding] != saved[embedding]).any()


@pytest.mark.parametrize("kind", ["baseline", "guided"])
def test_finetuning_resumes_exactly(kind, pretrained, tmp_path):
    """A stopped run goes on from its own checkpoint, not from the initial one."""
    arguments = (kind, pretrained["baseline"])
    period = ("CHECKPOINT_PERIOD = 2", "EVAL_PERIOD = 2")
    whole = finetune(*arguments, tmp_path / "whole", *period, steps=4)
    name = f"checkpoint_{STEPS + 2}"
    shutil.copytree(tmp_path / "whole" / name, tmp_path / "killed" / name)
    resumed = finetune(*arguments, tmp_path / "killed", *period, steps=4)
    assert whole.keys() == resumed.keys()
    assert_equal(resumed, whole, whole.keys())
    metrics, expected = (
        text_runs.read_json_lines(
            tmp_path / folder / f"inference_eval/{TASK}-metrics.jsonl"
        )
        for folder in ("killed", "whole")
    )
    assert [line["step"] for line in expected] == [STEPS + 2, STEPS + 4]
    assert metrics == expected[1:]


def write_legacy(folder: pathlib.Path, arrays: dict[str, np.ndarray], old: bool) -> None:
    """Writes T5X's first format: arrays of two axes in TensorStore, others inline.

    Args:
        folder: the checkpoint's, which is made.
        arrays: name -> array.
        old: where TensorStore before 0.1.14 has the path of an array.
    """
    leaves: dict[str, Any] = {}
    for name, array in arrays.items():
        leaves[name] = array
        if array.ndim < 2:
            continue
        path = name.replace("/", ".")
        store = tensorstore.open(
            {
                "driver": "zarr",
                "kvstore": {"driver": "file", "path": os.fspath(folder / path)},
                "metadata": {"chunks": [*array.shape], "compressor": {"id": "gzip"}},
            },
            dtype=array.dtype,
            shape=array.shape,
            create=True,
        ).result()
        store.write(array).result()
        spec = store.spec().to_json()
        leaf = {"driver": "zarr", "dtype": "float32", "metadata": spec["metadata"]}
        leaf |= {"path": path} if old else {}
        leaf["kvstore"] = {"driver": "gfile"} | ({} if old else {"path": path})
        leaf["metadata"] |= {"shape": [*array.shape]}
        leaves[name] = leaf
    tree = {"version": 3, "optimizer": traverse_util.unflatten_dict(leaves, sep="/")}
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", ["baseline", "guided"])
def test_public_checkpoints_are_read(kind, old, pretrained, tmp_path):
    """T5's are in T5X's first format."""
    saved = read(pretrained["baseline"])
    folder = tmp_path / f"checkpoint_{STEPS}"
    write_legacy(folder, saved, old)
    state = finetune(kind, folder, tmp_path / "run")
    assert_equal(state, saved, names(saved, KEPT))


def test_evaluation_scores_what_fine_tuning_scored(pretrained, tmp_path):
    finetune("baseline", pretrained["guided"], tmp_path / "run", steps=2)
    gin_runs.evaluate(
        "gin/quickstart_eval.gin",
        *(line for line in gin_runs.TINY if line.startswith("network")),
        f"MIXTURE_OR_TASK_NAME = {TASK!r}",
        f"CHECKPOINT_PATH = {os.fspath(tmp_path / 'run/checkpoint_4')!r}",
        f"EVAL_OUTPUT_DIR = {os.fspath(tmp_path / 'eval')!r}",
        "seqio.Evaluator.num_examples = 4",
    )
    lines = {
        where: text_runs.read_json_lines(
            tmp_path / where / f"inference_eval/{TASK}-metrics.jsonl"
        )
        for where in ("run", "eval")
    }
    assert lines["run"][-1] == lines["eval"][-1]


def test_a_missing_chunk_of_a_public_checkpoint_is_not_read_as_zeros(
    pretrained, tmp_path
):
    folder = tmp_path / f"checkpoint_{STEPS}"
    write_legacy(folder, read(pretrained["baseline"]), old=False)
    chunk = folder / "target.token_embedder.embedding" / "0.0"
    chunk.unlink()
    with pytest.raises(ValueError, match=re.escape(f'"{chunk}" is missing')):
        finetune("baseline", folder, tmp_path / "run")
    if not text_runs.EMBEDDED:  # T5X expects the fill value that it wrote itself
        return
    # Where .zarray gives a fill value, what equals it may be left out.
    zarray = chunk.parent / ".zarray"
    zarray.write_text(zarray.read_text().replace('"fill_value":null', '"fill_value":0'))
    state = finetune("baseline", folder, tmp_path / "run")
    assert not state["target/token_embedder/embedding"].any()


@text_runs.embedded_only
def test_a_damaged_public_checkpoint_is_named(pretrained, tmp_path):
    """By the embedded t5x, whatever gin file is used."""
    folder = tmp_path / f"checkpoint_{STEPS}"
    write_legacy(folder, read(pretrained["baseline"]), old=False)
    from t5x import legacy_checkpoints

    legacy = legacy_checkpoints.LegacyCheckpoint(os.fspath(folder))
    name = "target/token_embedder/embedding"
    legacy.read(tuple(name.split("/")))
    (folder / name.replace("/", ".") / "0.0").unlink()
    with pytest.raises(ValueError, match=f"{name}.*0.0.* is missing"):
        legacy.read(tuple(name.split("/")))
    for change in (lambda b: b[: len(b) // 2], lambda b: b""):
        (folder / "checkpoint").write_bytes(change((folder / "checkpoint").read_bytes()))
        with pytest.raises(ValueError, match=f"{folder}/checkpoint cannot be read"):
            legacy_checkpoints.LegacyCheckpoint(os.fspath(folder))


# What does not fit -> the run's kind, its settings, the checkpoint's, what to initialize.
MISFITS = {
    "lacks": (
        "guided",
        ("HYPERPARAMS = ('alpha',)", "BETA1 = None"),
        "baseline",
        "state/(hyperparams|meta_state)/.*",
    ),
    "holds": ("baseline", ("BETA1 = 0.9",), "guided", ""),
    "has shape": ("baseline", ("BETA1 = 0.9",), "baseline", ".*/m"),
}


@text_runs.embedded_only
@pytest.mark.parametrize(
    ("misfit", "resuming"), [("lacks", True), ("holds", True), ("has shape", False)]
)
def test_what_an_error_about_a_checkpoint_proposes_works(
    misfit, resuming, pretrained, tmp_path
):
    """The settings in the message, and `settings as the run that saved it`."""
    kind, bindings, source, to_initialize = MISFITS[misfit]
    gin_file = f"gin/quickstart_{kind}.gin"
    model_dir = tmp_path / "run"
    shutil.copytree(pretrained[source].parent, tmp_path / "source")
    if resuming:
        (tmp_path / "source").rename(model_dir)
    else:
        path = os.fspath(tmp_path / f"source/checkpoint_{STEPS}")
        bindings += (
            f"utils.RestoreCheckpointConfig.path = {path!r}",
            "utils.RestoreCheckpointConfig.mode = 'specific'",
        )
    with pytest.raises(ValueError, match=misfit) as error:
        gin_runs.train(gin_file, model_dir, *bindings)
    text = str(error.value)
    value = r"('[^']*'|True|False|\(\(.*\),\))"
    settings = re.findall(r"\.(\w+) = " + value, text)
    assert ("set MODEL_DIR to another folder" in text) == resuming
    assert ("path" in dict(settings)) == resuming
    bindings += tuple(
        f"utils.RestoreCheckpointConfig.{name} = "
        + setting.replace("REGULAR EXPRESSION OF NAMES", to_initialize)
        for name, setting in settings
    )
    step, _ = gin_runs.train(gin_file, tmp_path / "another", *bindings)
    assert step == STEPS
    if resuming:
        assert "config.gin beside it has its settings" in text
        step, _ = gin_runs.train(f"gin/quickstart_{source}.gin", model_dir)
        assert step == STEPS
