"""Settings that a run would ignore are errors."""

import re

import gin
import pytest

from gbt_t5x import gin_checks
import gin_runs

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

    def parse(*lines):
        gin_file = tmp_path / "user.gin"
        includes = [f"include {x!r}" if x.endswith(".gin") else x for x in lines]
        gin_file.write_text("\n".join([*includes, *TASK]) + "\n")
        with gin_runs.arguments(str(gin_file)):
            pass

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


@pytest.mark.parametrize("value", ["1", "7", "%EVAL_STEPS", "@gin_utils.sum_fn()"])
def test_counts_are_taken_from_where_gin_has_them(value):
    more = ("gin_utils.sum_fn.var1 = 1", "gin_utils.sum_fn.var2 = 2")
    gin_runs.bindings_of(GUIDED, f"GUIDANCE_BATCHES = {value}", *more)


def test_a_macro_of_the_command_line_that_nothing_refers_to_is_an_error(monkeypatch):
    """Even one that other gin files know."""
    monkeypatch.setattr(gin_checks, "_of_command_line", lambda: {"GUIDANCE_SPLIT"})
    with pytest.raises(ValueError, match="nothing refers to these macros: GUIDANCE_SPLI"):
        gin_runs.bindings_of(BASELINE, "GUIDANCE_SPLIT = 'validation'")


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
