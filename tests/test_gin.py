"""Every gin file parses, instantiates and says only what is used."""

import pathlib
import re

import gin
import jax
import numpy as np
import pytest
import t5.data as t5_data

from gbt_t5x import optimizers, replay, trainer
import gin_runs

ENTRY_FILES = sorted(
    path.relative_to(gin_runs.ROOT).as_posix()
    for path in (gin_runs.ROOT / "gin").glob("*.gin")
)
PAIRS = [
    ("gin/quickstart_baseline.gin", "gin/quickstart_guided.gin"),
    ("gin/t5_small_baseline.gin", "gin/t5_small_guided.gin"),
    ("gin/offline_translation_baseline.gin", "gin/offline_translation_guided.gin"),
    ("gin/wmt19_baseline.gin", "gin/wmt19_guided.gin"),
    ("gin/quickstart_finetune_baseline.gin", "gin/quickstart_finetune_guided.gin"),
    ("gin/t5_small_finetune_baseline.gin", "gin/t5_small_finetune_guided.gin"),
]
FROZEN = "gin/t5_small_finetune_frozen.gin"
RECIPES = [guided.replace("_guided", "_recipe") for _, guided in PAIRS]
TRAIN_FILES = sorted([*sum(PAIRS, ()), *RECIPES, FROZEN])
TRANSLATION_FILES = [
    f"gin/{corpus}_{what}.gin"
    for corpus in ("offline_translation", "wmt19")
    for what in ("eval", "infer")
]
INFERENCE_FILES = [*TRANSLATION_FILES, "gin/quickstart_eval.gin", "gin/t5_small_eval.gin"]
INPUT_SHAPES = {"encoder_input_tokens": (1, 8), "decoder_input_tokens": (1, 8)}


def test_entry_files_are_known():
    assert sorted([*TRAIN_FILES, *INFERENCE_FILES]) == ENTRY_FILES


def test_the_package_has_every_file():
    """By links, of which gin reads gbt_t5x/gin/NAME.gin in any folder."""

    def files(folder):
        found = (folder / part for part in ("", "guidance", "models", "rivals", "runs"))
        return {
            f.relative_to(folder): f.read_text() for d in found for f in d.glob("*.gin")
        }

    ours = files(gin_runs.ROOT / "gin")
    assert len(ours) == len(list((gin_runs.ROOT / "gin").rglob("*.gin")))
    assert files(gin_runs.ROOT / "gbt_t5x/gin") == ours


@pytest.mark.parametrize("gin_file", ENTRY_FILES)
def test_every_macro_is_used(gin_file):
    bindings = gin_runs.bindings_of(gin_file)
    macros = {name for name in bindings if re.fullmatch("[A-Z0-9_]+", name)}
    used = set(re.findall("%([A-Z0-9_]+)", " ".join(bindings.values())))
    assert macros, "the configuration was read wrongly"
    assert macros - used == set()


def test_an_unused_macro_is_found():
    with pytest.raises(ValueError, match="MISSPELT_MACRO"):
        gin_runs.bindings_of(ENTRY_FILES[0], "MISSPELT_MACRO = 1")


def instantiate(gin_file, *bindings):
    with gin_runs.arguments(gin_file, *bindings) as kwargs:
        return kwargs


def count_parameters(model):
    variables = jax.eval_shape(
        lambda rng: model.get_initial_variables(rng, INPUT_SHAPES), jax.random.PRNGKey(0)
    )
    return sum(np.prod(x.shape) for x in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("gin_file", TRAIN_FILES)
def test_training_file_instantiates(gin_file):
    kwargs = instantiate(gin_file)
    assert count_parameters(kwargs["model"]) > 0
    assert kwargs["train_dataset_cfg"].split == "train"
    assert kwargs["train_eval_dataset_cfg"].split == "validation"
    assert kwargs["checkpoint_cfg"].save.save_dataset
    assert kwargs["train_dataset_cfg"].seed == kwargs["random_seed"] == 0


@pytest.mark.parametrize("gin_file", TRAIN_FILES)
def test_the_seed_is_that_of_the_data_and_of_the_run(gin_file):
    kwargs = instantiate(gin_file, "RANDOM_SEED = 7")
    assert kwargs["train_dataset_cfg"].seed == kwargs["random_seed"] == 7


@pytest.mark.parametrize("gin_file", INFERENCE_FILES)
def test_evaluation_and_inference_verify_the_checkpoint(gin_file, tmp_path):
    checkpoint = tmp_path / "checkpoint_3"
    (checkpoint / "state").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{checkpoint} is damaged: state/_METADATA"):
        instantiate(gin_file, f"CHECKPOINT_PATH = {str(checkpoint)!r}")


def instantiate_both(gin_file, training_file):
    """What inference and training run, of the same model."""
    inference, training = instantiate(gin_file), instantiate(training_file)
    sizes = [count_parameters(kwargs["model"]) for kwargs in (inference, training)]
    assert sizes[0] == sizes[1]
    return inference, training


@pytest.mark.parametrize("model", ["quickstart", "t5_small"])
def test_evaluation_is_of_what_fine_tuning_validates(model):
    evaluation, training = instantiate_both(
        f"gin/{model}_eval.gin", f"gin/{model}_finetune_guided.gin"
    )
    cfg, validation = evaluation["dataset_cfg"], training["infer_eval_dataset_cfg"]
    assert cfg.split == validation.split == "validation"
    assert cfg.task_feature_lengths == validation.task_feature_lengths
    assert cfg.mixture_or_task_name == validation.mixture_or_task_name


def test_finetuning_is_that_of_the_paper():
    """Appendix C.4, with T5's learning rate."""
    with gin_runs.arguments("gin/t5_small_finetune_baseline.gin") as kwargs:
        schedule = gin.get_bindings("trainer.Trainer")["learning_rate_fn"]
    assert kwargs["train_dataset_cfg"].batch_size == 8
    assert kwargs["total_steps"] == 1_000_000 + 250_000
    assert {float(schedule(step)) for step in (1_000_000, 1_250_000)} == {
        np.float32(1e-3)
    }


@pytest.mark.parametrize("gin_file", TRANSLATION_FILES)
def test_translation_file_instantiates(gin_file):
    inference, training = instantiate_both(
        gin_file, gin_file.replace("_eval.", "_guided.").replace("_infer.", "_guided.")
    )
    assert inference["dataset_cfg"].split == "test"
    assert inference["model"]._default_decoder_params.num_decodes == 4
    task = inference["dataset_cfg"].mixture_or_task_name
    assert training["train_dataset_cfg"].mixture_or_task_name == task
    assert training["infer_eval_dataset_cfg"].mixture_or_task_name == task


@pytest.mark.parametrize(
    ("gin_file", "parameters"),
    [("gin/t5_small_guided.gin", 60_511_616), ("gin/wmt19_guided.gin", 121_668_096)],
)
def test_models_have_the_size_of_the_paper(gin_file, parameters):
    assert count_parameters(instantiate(gin_file)["model"]) == parameters


def test_wmt19_learns_as_in_the_paper():
    """Appendix C.2, and Table 1's η̂."""
    with gin_runs.arguments("gin/wmt19_guided.gin") as kwargs:
        optimizer_def = kwargs["model"].optimizer_def
        trainer_kwargs = gin.get_bindings("guided_trainer.GuidedTrainer")
        schedule = trainer_kwargs["learning_rate_fn"]
    lamb = optimizer_def.hyper_params
    assert (lamb.b1, lamb.b2, lamb.eps, lamb.weight_decay) == (0.9, 0.999, 1e-6, 0.0)
    before = optimizer_def.init_state({"kernel": np.ones((2, 3), np.float32)})
    down = {name: np.float32(1.0) for name in ("alpha", "beta1")}
    after, _ = optimizer_def.apply_hypergradient(before, down)
    for name in down:
        step = before.hyperparams[name] - after.hyperparams[name]
        assert float(step) == pytest.approx(3e-5, rel=1e-2)
    rates = [float(schedule(step)) for step in (1, 4000, 16000)]
    assert rates == pytest.approx(
        [0.4 / 4000 / 4000**0.5, 0.4 / 4000**0.5, 0.4 / 16000**0.5]
    )


@pytest.mark.parametrize(("baseline", "guided"), PAIRS)
def test_baseline_and_guided_differ_by_the_method_alone(baseline, guided):
    baseline, guided = gin_runs.bindings_of(baseline), gin_runs.bindings_of(guided)
    changed = {name for name in baseline if baseline[name] != guided.get(name)}
    # T5's Adafactor keeps no momentum unless it is learned.
    momentum = {"BETA1"} if baseline["BETA1"] == "None" else set()
    assert changed == momentum | {
        "models.EncoderDecoderModel.optimizer_def",
        "train_script.train.trainer_cls",
    }
    guidance = (
        "optimizers.GuidedOptimizer.",
        "guided_trainer.GuidedTrainer.",
        "guidance/",
        "run_folder.checkpoint_config.sensitivity_dtype",
    )
    macros = {
        "HYPERPARAMS",
        "BOUNDS",
        "GROUPS",
        "FIXED_MEAN",
        "LEARNING_RATE_FN",
        "DISCOUNT",
        "MAX_SKIPPED",
        "SENSITIVITY_DTYPE",
        "META_LEARNING_RATE",
        "META_OPTIMIZER",
        "GUIDANCE_TASK",
        "GUIDANCE_SPLIT",
        "GUIDANCE_BATCH_SIZE",
        "GUIDANCE_BATCHES",
        "GUIDANCE_PERIOD",
    }
    added = {n for n in set(guided) - set(baseline) if not n.startswith(guidance)}
    assert added == macros


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_learns_how_the_rate_is_divided(recipe):
    """From the next batch, an alpha for each array, with an η̂ from the steps."""
    with gin_runs.arguments(recipe) as kwargs:
        definition = kwargs["model"].optimizer_def
        trainer_kwargs = gin.get_bindings("guided_trainer.GuidedTrainer")
        steps = gin.query_parameter("%GUIDED_STEPS")
        if not isinstance(steps, int):
            steps = kwargs["total_steps"]
    assert trainer_kwargs["guidance_dataset_cfg"] is None
    params = {k: {"kernel": np.ones((2, 3), np.float32)} for k in "ab"}
    assert definition.group_names(params) == ["a.kernel", "b.kernel"]
    state = definition.init_state(params)
    up_and_down = {"alpha": np.array([-1.0, 1.0], np.float32)}
    state, _ = definition.apply_hypergradient(state, up_and_down)
    np.testing.assert_allclose(
        state.hyperparams["alpha"], 15 / steps * np.array([1, -1]), rtol=1e-4
    )
    if "finetune" not in recipe:
        rate = trainer_kwargs["learning_rate_fn"]
        rates = [rate(x) / rate(0) for x in (steps // 4, steps, steps + 9)]
        np.testing.assert_allclose(rates, [0.75, 0, 0], atol=1e-6)


def test_the_guidance_task_is_of_guidance_alone():
    bindings = gin_runs.bindings_of(
        "gin/quickstart_guided.gin", "GUIDANCE_TASK = 'other'"
    )
    used = {name for name, value in bindings.items() if value == "%GUIDANCE_TASK"}
    assert used == {"guidance/utils.DatasetConfig.mixture_or_task_name"}


STOCK = """
include 't5x/examples/t5/t5_1_1/small.gin'
include 't5x/configs/runs/pretrain.gin'
MIXTURE_OR_TASK_NAME = 'a_task'
TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 8}
TRAIN_STEPS = 10
DROPOUT_RATE = 0.0
"""


def test_guidance_follows_a_stock_t5x_configuration(tmp_path):
    """As README.md says: included after a gin file that knows nothing of this project."""
    gin_file = tmp_path / "guided.gin"
    guidance = "include 'gin/guidance/adafactor.gin'\nMETA_LEARNING_RATE = 1e-5\n"
    gin_file.write_text(STOCK + guidance)
    with gin_runs.arguments(str(gin_file)) as kwargs:
        optimizer_def = kwargs["model"].optimizer_def
        assert issubclass(kwargs["trainer_cls"], trainer.GuidedTrainer)
    assert isinstance(optimizer_def, optimizers.GuidedOptimizer)
    assert optimizer_def.hyper_params.beta1 == 0.9


def test_a_replay_follows_a_stock_t5x_configuration(tmp_path):
    gin_file, schedule = tmp_path / "replayed.gin", tmp_path / "schedule.csv"
    schedule.write_text("step,alpha\n1,1.0\n10,0.5\n")
    gin_file.write_text(STOCK + "include 'gin/guidance/replay.gin'\n")
    with gin_runs.arguments(str(gin_file), f"SCHEDULE = '{schedule}'") as kwargs:
        assert not issubclass(kwargs["trainer_cls"], trainer.GuidedTrainer)
        assert isinstance(kwargs["model"].optimizer_def, replay.ReplayedOptimizer)


@pytest.mark.parametrize("gin_file", PAIRS[0])
def test_quickstart_takes_two_steps(gin_file, tmp_path):
    step, state = gin_runs.train(gin_file, tmp_path)
    assert step == int(state.step) == 2
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state.params))


def test_t5s_own_tasks_have_the_vocabulary_that_the_documents_name():
    name = "seqio.SentencePieceVocabulary"
    path = "gs://t5-data/vocabs/cc_all.32000/sentencepiece.model"
    assert path in pathlib.Path("docs/t5.md").read_text()
    bindings = (f"{name}.extra_ids = 100", f"{name}.sentencepiece_model_file = '{path}'")
    with gin_runs.arguments("gin/t5_small_finetune_baseline.gin", *bindings):
        vocabulary = gin.query_parameter("%VOCABULARY").scoped_configurable_fn()
    assert vocabulary == t5_data.get_default_vocabulary()
