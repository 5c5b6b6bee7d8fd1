"""Every gin file parses, instantiates and says only what is used."""

import re

import jax
import numpy as np
import pytest

from gbt_t5x import optimizers, trainer
import gin_runs

ENTRY_FILES = sorted(
    path.relative_to(gin_runs.ROOT).as_posix()
    for path in (gin_runs.ROOT / "gin").glob("*.gin")
)
PAIRS = [
    ("gin/quickstart_baseline.gin", "gin/quickstart_guided.gin"),
    ("gin/t5_small_baseline.gin", "gin/t5_small_guided.gin"),
]
INPUT_SHAPES = {"encoder_input_tokens": (1, 8), "decoder_input_tokens": (1, 8)}


def test_entry_files_are_known():
    assert sorted(sum(PAIRS, ())) == ENTRY_FILES


@pytest.mark.parametrize("gin_file", ENTRY_FILES)
def test_every_macro_is_used(gin_file):
    bindings = gin_runs.bindings_of(gin_file)
    macros = {name for name in bindings if re.fullmatch("[A-Z0-9_]+", name)}
    used = set(re.findall("%([A-Z0-9_]+)", " ".join(bindings.values())))
    assert macros, "the configuration was read wrongly"
    assert macros - used == set()


def test_an_unused_macro_is_found():
    bindings = gin_runs.bindings_of(ENTRY_FILES[0], "MISSPELT_MACRO = 1")
    assert "MISSPELT_MACRO" in bindings
    assert "%MISSPELT_MACRO" not in " ".join(bindings.values())


@pytest.mark.parametrize("gin_file", ENTRY_FILES)
def test_instantiates(gin_file):
    with gin_runs.arguments(gin_file) as kwargs:
        model = kwargs["model"]
    variables = jax.eval_shape(
        lambda rng: model.get_initial_variables(rng, INPUT_SHAPES), jax.random.PRNGKey(0)
    )
    assert jax.tree.leaves(variables["params"])
    assert kwargs["train_dataset_cfg"].split == "train"
    assert kwargs["train_eval_dataset_cfg"].split == "validation"
    assert kwargs["checkpoint_cfg"].save.save_dataset


def test_t5_small_has_the_size_of_the_paper():
    with gin_runs.arguments("gin/t5_small_guided.gin") as kwargs:
        model = kwargs["model"]
    variables = jax.eval_shape(
        lambda rng: model.get_initial_variables(rng, INPUT_SHAPES), jax.random.PRNGKey(0)
    )
    sizes = [np.prod(x.shape) for x in jax.tree.leaves(variables["params"])]
    assert sum(sizes) == 60_511_616


@pytest.mark.parametrize(("baseline", "guided"), PAIRS)
def test_baseline_and_guided_differ_by_the_method_alone(baseline, guided):
    baseline, guided = gin_runs.bindings_of(baseline), gin_runs.bindings_of(guided)
    changed = {name for name in baseline if baseline[name] != guided.get(name)}
    assert changed == {
        "BETA1",
        "models.EncoderDecoderModel.optimizer_def",
        "train_script.train.trainer_cls",
    }
    guidance = (
        "optimizers.GuidedOptimizer.",
        "guided_trainer.GuidedTrainer.",
        "guidance/",
    )
    macros = {
        "HYPERPARAMS",
        "META_LEARNING_RATE",
        "GUIDANCE_SPLIT",
        "GUIDANCE_BATCH_SIZE",
    }
    added = {n for n in set(guided) - set(baseline) if not n.startswith(guidance)}
    assert added == macros


def test_guidance_follows_a_stock_t5x_configuration(tmp_path):
    """As README.md says: included after a gin file that knows nothing of this project."""
    gin_file = tmp_path / "guided.gin"
    gin_file.write_text(
        """
        include 't5x/examples/t5/t5_1_1/small.gin'
        include 't5x/configs/runs/pretrain.gin'
        MIXTURE_OR_TASK_NAME = 'a_task'
        TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 8}
        TRAIN_STEPS = 10
        DROPOUT_RATE = 0.0
        include 'gin/guidance/adafactor.gin'
        META_LEARNING_RATE = 1e-5
        """.replace("\n        ", "\n")
    )
    with gin_runs.arguments(str(gin_file)) as kwargs:
        optimizer_def = kwargs["model"].optimizer_def
        assert issubclass(kwargs["trainer_cls"], trainer.GuidedTrainer)
    assert isinstance(optimizer_def, optimizers.GuidedOptimizer)
    assert optimizer_def.hyper_params.beta1 == 0.9


@pytest.mark.parametrize("gin_file", PAIRS[0])
def test_quickstart_takes_two_steps(gin_file, tmp_path):
    step, state = gin_runs.train(gin_file, tmp_path)
    assert step == int(state.step) == 2
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state.params))
