"""Settings that a run would ignore are errors."""

import re

import gin
import pytest

from gbt_t5x import gin_checks, trainer
import gin_runs
import processes

BASELINE, GUIDED = "gin/quickstart_baseline.gin", "gin/quickstart_guided.gin"
MODEL, RUN = "gin/models/quickstart.gin", "gin/runs/pretrain.gin"
GUIDANCE, FROZEN = "gin/guidance/adafactor.gin", "gin/guidance/frozen.gin"
FINETUNE = "gin/t5_small_finetune_baseline.gin"
TRANSLATE = "gin/offline_translation_baseline.gin"
LINEAR = "gin/runs/linear.gin"
NEXT_BATCH = "gin/guidance/next_batch.gin"
REPLAY, SCHEDULE = "gin/guidance/replay.gin", "SCHEDULE = 'schedule.csv'"
RATE = "META_LEARNING_RATE = 1e-2"
TASK = (
    "MIXTURE_OR_TASK_NAME = 'a_task'",
    "TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 8}",
    "TRAIN_STEPS = 10",
)


@pytest.fixture
def user_file(tmp_path):
    """Parses and finalizes a gin file of the user's that includes others."""

    def parse(*lines, ask=lambda: None):
        gin_file = tmp_path / "user.gin"
        includes = [f"include {x!r}" if x.endswith(".gin") else x for x in lines]
        gin_file.write_text("\n".join([*includes, *TASK]) + "\n")
        with gin_runs.arguments(str(gin_file)):
            return ask()

    return parse


@pytest.mark.parametrize(
    ("misspelt", "near"),
    [
        ("META_LEARNINGRATE", "META_LEARNING_RATE"),
        ("EVAL_PERIODS", "EVAL_PERIOD"),
        ("BATCHSIZE", "BATCH_SIZE"),
    ],
)
def test_a_misspelt_macro_is_an_error_that_offers_the_near_name(misspelt, near):
    with pytest.raises(ValueError, match=f"{misspelt}, near {near}"):
        gin_runs.bindings_of(GUIDED, f"{misspelt} = 1")


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "'2'", "None", "True"])
@pytest.mark.parametrize("name", gin_checks._COUNTS)
def test_a_count_that_is_none_is_an_error_when_gin_is_read(name, value):
    # The embedded t5x checks the batch size of all data.
    with pytest.raises(ValueError, match=f"({name}|batch_size)={value}: must be"):
        gin_runs.bindings_of(GUIDED, f"{name} = {value}")


@pytest.mark.parametrize("gin_file", [FINETUNE, TRANSLATE])
def test_examples_to_evaluate_are_a_count_or_none(gin_file):
    name = "EVALUATOR_NUM_EXAMPLES"
    for value in ("None", "4"):
        gin_runs.bindings_of(gin_file, f"{name} = {value}")
    for value in ("0", "-1", "'4'", "1.5"):
        with pytest.raises(ValueError, match=f"{name}={value}: must be at least 1"):
            gin_runs.bindings_of(gin_file, f"{name} = {value}")


@pytest.mark.parametrize(
    "macros",
    [
        {"GUIDANCE_PERIOD": "GUIDANCE_PERIOD"},
        {"GUIDANCE_BATCHES": "MAX_SKIPPED", "MAX_SKIPPED": "GUIDANCE_BATCHES"},
        {"BATCH_SIZE": "GUIDANCE_BATCH_SIZE", "GUIDANCE_BATCH_SIZE": "BATCH_SIZE"},
    ],
)
def test_a_macro_that_stands_for_itself_is_an_error(macros):
    bindings = [f"{name} = %{value}" for name, value in macros.items()]
    message = f"the macro %({'|'.join(macros)}) stands for itself: set it to a value"
    with pytest.raises(ValueError, match=message):
        gin_runs.bindings_of(GUIDED, *bindings)


def test_a_period_that_is_longer_than_the_run_is_an_error():
    gin_runs.bindings_of(GUIDED, "GUIDANCE_PERIOD = 10", "TRAIN_STEPS = 10")
    gin_runs.bindings_of(GUIDED, "GUIDANCE_PERIOD = 10")
    with pytest.raises(ValueError, match="PERIOD=11: none of TRAIN_STEPS=10 would learn"):
        gin_runs.bindings_of(GUIDED, "GUIDANCE_PERIOD = 11", "TRAIN_STEPS = 10")


@pytest.mark.parametrize("value", ["1", "7", "%EVAL_STEPS", "@gin_utils.sum_fn()"])
def test_counts_are_taken_from_where_gin_has_them(value):
    more = ("gin_utils.sum_fn.var1 = 1", "gin_utils.sum_fn.var2 = 2")
    gin_runs.bindings_of(GUIDED, f"GUIDANCE_BATCHES = {value}", *more)


def test_a_macro_of_a_real_command_line_that_nothing_refers_to(tmp_path):
    done = processes.run(
        "t5x.train",
        f"--gin_file={BASELINE}",
        f"--gin.MODEL_DIR={str(tmp_path)!r}",
        "--gin.GUIDANCE_SPLIT='validation'",
    )
    assert done.returncode == 1
    assert "nothing refers to these macros: GUIDANCE_SPLIT" in done.stderr


def test_a_macro_of_the_command_line_that_nothing_refers_to_is_an_error(monkeypatch):
    """Even one that other gin files know."""
    monkeypatch.setattr(gin_checks, "_of_command_line", lambda: {"GUIDANCE_SPLIT"})
    with pytest.raises(ValueError, match="nothing refers to these macros: GUIDANCE_SPLI"):
        gin_runs.bindings_of(BASELINE, "GUIDANCE_SPLIT = 'validation'")


@pytest.mark.parametrize(
    ("gin_file", "macro"),
    [
        ("gin/quickstart_recipe.gin", "GUIDANCE_SPLIT"),
        ("gin/quickstart_recipe.gin", "GUIDANCE_BATCH_SIZE"),
        ("gin/t5_small_finetune_frozen.gin", "GUIDANCE_PERIOD"),
    ],
)
def test_a_macro_of_what_the_run_does_not_use_is_an_error(gin_file, macro, monkeypatch):
    binding = f"{macro} = {repr('validation') if 'SPLIT' in macro else 7}"
    gin_runs.bindings_of(gin_file, binding)
    monkeypatch.setattr(gin_checks, "_of_command_line", lambda: {macro})
    with pytest.raises(ValueError, match=f"nothing refers to these macros: {macro}"):
        gin_runs.bindings_of(gin_file, binding)


def test_a_macro_that_gin_files_have_as_a_word_alone_is_an_error():
    with pytest.raises(ValueError, match="nothing refers to these macros: BLEU"):
        gin_runs.bindings_of(BASELINE, "BLEU = 3")


@pytest.mark.parametrize("number", [None, 2])
def test_microbatches_are_those_of_t5xs_trainer(number, user_file):
    for line in (
        f"NUM_MICROBATCHES = {number}",  # before guidance
        f"trainer.Trainer.num_microbatches = {number}",
    ):
        imported = ("from __gin__ import dynamic_registration", "from t5x import trainer")
        lines = [*imported, MODEL, RUN, line, GUIDANCE, RATE]
        assert user_file(*lines, ask=trainer.microbatches) == number


@pytest.mark.parametrize("first", ["t5x_trainer.Trainer.num_microbatches = 4", ""])
def test_t5xs_trainer_may_have_another_name(first, user_file):
    """Gin keeps the first that it meets."""
    imported = "from t5x import trainer as t5x_trainer"
    lines = ["from __gin__ import dynamic_registration", imported, first, MODEL, RUN]
    lines += ["t5x_trainer.Trainer.num_microbatches = 2", GUIDANCE, RATE]
    assert user_file(*lines, ask=trainer.microbatches) == 2


@pytest.mark.parametrize("guided", [GUIDANCE, NEXT_BATCH])
def test_weight_metrics_are_those_of_t5xs_trainer(guided, user_file):
    imported = ("from __gin__ import dynamic_registration", "from t5x import trainer")
    lines = [*imported, MODEL, RUN, *dict.fromkeys((GUIDANCE, guided)), RATE]

    def asked():
        name = "GuidedTrainer.weight_metrics_computer"
        return gin.query_parameter(name).scoped_configurable_fn()

    assert user_file(*lines, ask=asked) is None
    lines.append("trainer.Trainer.weight_metrics_computer = @trainer.BaseAction")
    assert isinstance(user_file(*lines, ask=asked), type)


@pytest.mark.parametrize(
    "own", ["optimizers.GuidedOptimizer", "replay.ReplayedOptimizer"]
)
def test_a_model_of_another_class_that_is_not_guided_is_an_error(own, user_file):
    """As T5X's DecoderOnlyModel, whose gin files bind its optimizer."""
    name = "models.BaseTransformerModel.optimizer_def"
    imported = [
        "from __gin__ import dynamic_registration",
        *("from t5x import models", "from gbt_t5x import optimizers"),
        "from gbt_t5x import replay",
    ]
    files = [REPLAY, SCHEDULE] if own.startswith("replay") else [GUIDANCE, RATE]
    lines = [*imported, MODEL, RUN, f"{name} = %OPTIMIZER", *files]
    with pytest.raises(ValueError, match=f"set {name} = @{own}"):
        user_file(*lines)
    lines.append(f"{name} = @{own}()")
    if own.startswith("replay"):
        with pytest.raises(ValueError, match="SCHEDULE='schedule.csv' cannot be read"):
            user_file(*lines)
    else:
        user_file(*lines)


def test_microbatches_that_nothing_refers_to_are_an_error(user_file):
    imported = ("from __gin__ import dynamic_registration", "from t5x import trainer")
    own = "trainer.Trainer.num_microbatches = 2"
    with pytest.raises(ValueError, match="set trainer.Trainer.num_microbatches, which"):
        user_file(*imported, MODEL, RUN, own, GUIDANCE, RATE, "NUM_MICROBATCHES = 4")


@pytest.mark.parametrize("scope", ["", "own/"])
def test_settings_of_a_function_of_optax_are_those_of_optax_optimizer(scope, user_file):
    lines = [
        *("from __gin__ import dynamic_registration", "import optax"),
        *("from gbt_t5x import optax_optimizer", MODEL, RUN),
        "OPTIMIZER = @optax_optimizer.OptaxOptimizer()",
        f"optax_optimizer.OptaxOptimizer.transformation = @{scope}optax.adamw",
    ]
    user_file(*lines, "optax_optimizer.OptaxOptimizer.b1 = 0.5")
    message = "optax.adamw has b1 in gin, .* does not take: set OptaxOptimizer.b1"
    with pytest.raises(ValueError, match=message):
        user_file(*lines, f"{scope}optax.adamw.b1 = 0.5")


def test_a_binding_may_take_the_place_of_a_macro():
    bindings = gin_runs.bindings_of(GUIDED, "utils.SaveCheckpointConfig.period = 100")
    assert bindings["CHECKPOINT_PERIOD"] == "500"


def test_a_meta_learning_rate_without_guidance_is_an_error():
    with pytest.raises(ValueError, match="META_LEARNING_RATE is set, and the run is not"):
        gin_runs.bindings_of(BASELINE, RATE)


def test_a_schedule_that_is_not_replayed_is_an_error(user_file):
    with pytest.raises(ValueError, match="SCHEDULE is set, and the run does not replay"):
        gin_runs.bindings_of(BASELINE, SCHEDULE)
    for lines in ((REPLAY, MODEL, RUN), (RUN, REPLAY, MODEL)):
        with pytest.raises(ValueError, match="ReplayedOptimizer not used: "):
            user_file(*lines, SCHEDULE)


def test_a_replay_after_guidance_is_an_error(user_file):
    with pytest.raises(ValueError, match="trains without guidance, and guidance is conf"):
        user_file(MODEL, RUN, GUIDANCE, RATE, REPLAY, SCHEDULE)
    with pytest.raises(ValueError, match="META_LEARNING_RATE is set, and the run is not"):
        user_file(MODEL, RUN, REPLAY, SCHEDULE, RATE)


def test_other_configurations_of_gin_are_left_alone():
    gin.clear_config()
    try:
        gin.parse_config_files_and_bindings([], ["A_MACRO = 1"])
    finally:
        gin.clear_config()


@pytest.mark.parametrize(
    "lines",
    [
        (GUIDANCE, MODEL, RUN, RATE),
        (GUIDANCE, RUN, MODEL, RATE),
        (MODEL, GUIDANCE, RUN, RATE),
        (RUN, GUIDANCE, MODEL, RATE),
        (FROZEN, MODEL, RUN),
        (RUN, FROZEN, MODEL),
        (MODEL, RUN, FROZEN, RATE),  # which would learn nothing
        (MODEL, RUN, FROZEN, "META_LEARNING_RATE = {'alpha': 0.0, 'beta1': 1e-2}"),
        (MODEL, RUN, NEXT_BATCH),
    ],
)
def test_guidance_that_is_not_used_is_an_error(user_file, lines):
    with pytest.raises(ValueError, match="after the model and run files"):
        user_file(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        (MODEL, RUN, GUIDANCE, NEXT_BATCH, RATE),
        (MODEL, RUN, GUIDANCE, RATE),
        (RUN, MODEL, GUIDANCE, RATE),
        (MODEL, RUN, FROZEN),
        (MODEL, RUN, FROZEN, "META_LEARNING_RATE = {'alpha': 0.0, 'beta1': 0.0}"),
    ],
)
def test_guidance_after_the_model_and_run_files_is_used(user_file, lines):
    user_file(*lines)


def test_the_next_batch_before_held_out_guidance_is_an_error(user_file):
    with pytest.raises(ValueError, match="next_batch.gin' last"):
        user_file(MODEL, RUN, NEXT_BATCH, GUIDANCE, RATE)


IMPORTS = (
    "from __gin__ import dynamic_registration\nimport optax\nfrom t5x import trainer"
)
OWN = "trainer.Trainer.learning_rate_fn = @optax.constant_schedule()"
MACRO = "LEARNING_RATE_FN = @optax.constant_schedule()"


def test_a_schedule_that_guidance_would_not_use_is_an_error(user_file):
    with pytest.raises(ValueError, match=f"does not use: set {re.escape(MACRO)} after"):
        user_file(IMPORTS, MODEL, RUN, GUIDANCE, RATE, OWN)
    user_file(IMPORTS, MODEL, RUN, GUIDANCE, RATE, OWN, MACRO)
    user_file(IMPORTS, MODEL, RUN, OWN)
    user_file(MODEL, RUN, GUIDANCE, RATE, LINEAR, "LEARNING_RATE = 0.1")
    with pytest.raises(
        ValueError, match=r"LEARNING_RATE_FN = @optax.linear_schedule\(\)"
    ):
        user_file(MODEL, RUN, LINEAR, GUIDANCE, RATE, "LEARNING_RATE = 0.1")


def test_a_guided_run_needs_no_schedule_of_t5xs_own_trainer():
    schedule = "utils.create_learning_rate_scheduler"
    gin.clear_config()
    try:
        gin.parse_config(
            "from __gin__ import dynamic_registration\n"
            "from gbt_t5x import trainer as guided_trainer\n"
            "from t5x import utils\n"
            f"guided_trainer.GuidedTrainer.learning_rate_fn = @{schedule}()\n"
        )
        gin_checks._check_learning_rate(gin.config._CONFIG)
    finally:
        gin.clear_config()
