"""Every setting is used, or an error names it before anything compiles."""

import contextlib
import dataclasses
import pathlib
import re
import string
import tempfile
import traceback

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import pytest
import t5x
from t5x import (
    adafactor,
    decoding,
    infer as infer_script,
    models,
    partitioning,
    train as train_script,
    trainer,
    utils,
)
from t5x.examples.t5 import network

import gbt_t5x
from gbt_t5x import data_checks, guidance, tasks, trainer as guided_trainer
import gin_runs
import text_runs
import tiny

GUIDED = "gin/quickstart_guided.gin"
BASELINE = "gin/quickstart_baseline.gin"

# What gin files and command lines may say where something else is meant.
TEXTS = st.text(string.ascii_letters, max_size=3)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.integers(),
    st.sampled_from([2**31, 2**32, 2**40, 10**400]),
    st.floats(-2, 2),
    st.floats(),
    TEXTS,
)
ANYTHING = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.tuples(SCALARS),
    st.dictionaries(st.sampled_from(["inputs", "targets", 1]), SCALARS, max_size=2),
)
examples = lambda number: hypothesis.settings(
    max_examples=number, derandomize=True, deadline=None, database=None
)


PACKAGES = [package.__path__[0] for package in (t5x, gbt_t5x, tasks)]


@contextlib.contextmanager
def runs_or_names_the_setting(*names):
    """Lets ValueErrors pass that this project raises, and that name one of these."""
    try:
        yield
    except ValueError as error:
        *_, frame = traceback.extract_tb(error.__traceback__)
        file = pathlib.Path(frame.filename)
        assert any(file.is_relative_to(package) for package in PACKAGES), error
        named = [re.search(rf"\b{n}\b", str(error), re.IGNORECASE) for n in names]
        assert any(named) or not names, error


def changed(*names, number=25):
    """A test of a function of settings, for arbitrary values of each of them."""

    def decorate(run):
        @text_runs.embedded_only
        @pytest.mark.parametrize("name", names)
        def test(name):
            given = hypothesis.given(ANYTHING)(lambda value: run({name: value}))
            examples(number)(given)()

        return test

    return decorate


@changed(
    "factors",
    "base_learning_rate",
    "warmup_steps",
    "decay_factor",
    "steps_per_decay",
    "steps_per_cycle",
    "step_offset",
    "min_learning_rate",
)
def test_schedules(settings):
    with runs_or_names_the_setting(*settings):
        schedule = utils.create_learning_rate_scheduler(**settings)
        jax.eval_shape(schedule, jnp.int32(1))


@text_runs.embedded_only
@pytest.mark.parametrize("name", ["base_learning_rate", "warmup_steps"])
def test_schedules_take_no_negative_numbers(name):
    with pytest.raises(ValueError, match=f"{name}=-1: must be"):
        utils.create_learning_rate_scheduler(**{name: -1})


@text_runs.embedded_only
@pytest.mark.parametrize("factors", ["linear_warmup", "rsqrt_decay"])
def test_a_warmup_of_no_steps_is_an_error_where_it_is_divided_by(factors):
    utils.create_learning_rate_scheduler("constant", warmup_steps=0)
    with pytest.raises(ValueError, match="warmup_steps=0: must be at least 1"):
        utils.create_learning_rate_scheduler(f"constant * {factors}", warmup_steps=0)


@changed(
    "learning_rate",
    "factored",
    "multiply_by_parameter_scale",
    "beta1",
    "decay_rate",
    "step_offset",
    "clipping_threshold",
    "weight_decay_rate",
    "min_dim_size_to_factor",
    "epsilon1",
    "epsilon2",
    "logical_factor_rules",
)
def test_adafactor(settings):
    params = {"w": jnp.ones((4, 3))}

    def update(params):
        optimizer = optimizer_def.create(params)
        return optimizer.apply_gradient(params, learning_rate=0.1).target

    with runs_or_names_the_setting(*settings):
        optimizer_def = adafactor.Adafactor(**settings)
        jax.eval_shape(update, params)


@text_runs.embedded_only  # T5X makes NaN of the parameters
def test_adafactor_counts_steps_from_its_offset_on():
    params = {"w": jnp.ones((4, 3))}

    def second_moment(offset, step):
        optimizer = adafactor.Adafactor(step_offset=offset).create(params)
        state = dataclasses.replace(optimizer.state, step=jnp.int32(step))
        optimizer = dataclasses.replace(optimizer, state=state)
        grads = jax.tree.map(lambda x: 2.0 * x, params)
        new = optimizer.apply_gradient(grads, learning_rate=0.1)
        return new.state.param_states["w"].v

    assert jnp.array_equal(second_moment(5, 0), second_moment(0, 0))
    assert jnp.array_equal(second_moment(5, 8), second_moment(0, 3))
    assert not jnp.array_equal(second_moment(0, 0), second_moment(0, 3))


SHAPES = {"encoder_input_tokens": (1, 2), "decoder_input_tokens": (1, 2)}


@changed(
    "vocab_size",
    "dtype",
    "emb_dim",
    "num_heads",
    "num_encoder_layers",
    "num_decoder_layers",
    "head_dim",
    "mlp_dim",
    "mlp_activations",
    "dropout_rate",
    "logits_via_embedding",
    "float32_attention_logits",
)
def test_network(settings):
    sizes = dict.fromkeys(
        ("vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim"), 4
    )
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    with runs_or_names_the_setting(*settings):
        config = network.T5Config(**sizes | layers | settings)
        if max(config.num_encoder_layers, config.num_decoder_layers) > 2:
            return  # they are of any number, and traced one by one
        model = tiny.make_model(adafactor.Adafactor())
        model.module = network.Transformer(config)
        rng = jax.random.PRNGKey(0)
        jax.eval_shape(lambda: model.get_initial_variables(rng, SHAPES))


MODEL_OF_TINY = tiny.make_model(adafactor.Adafactor())


@changed(
    "module",
    "input_vocabulary",
    "output_vocabulary",
    "optimizer_def",
    "decode_fn",
    "label_smoothing",
    "z_loss",
    "loss_normalizing_factor",
    "default_decoder_params",
)
def test_model(settings):
    stock = MODEL_OF_TINY
    arguments = {
        "module": stock.module,
        "input_vocabulary": stock.input_vocabulary,
        "output_vocabulary": stock.output_vocabulary,
        "optimizer_def": stock.optimizer_def,
    }
    batch = {name: jnp.ones((1, 2), jnp.int32) for name in SHAPES}
    batch["decoder_target_tokens"] = batch["decoder_input_tokens"]
    with runs_or_names_the_setting(*settings):
        model = models.EncoderDecoderModel(**arguments | settings)
        model._compute_logits = lambda *args: jnp.zeros((1, 2, 8))
        jax.eval_shape(lambda batch: model.loss_fn({}, batch, None)[0], batch)


@changed("num_decodes", "return_all_decodes")
def test_decoder_params(settings):
    with runs_or_names_the_setting(*settings):
        models.DecoderParams(**settings)


@changed("num_decodes", "alpha", "max_decode_len")
def test_beam_search(settings):
    decode(decoding.beam_search, settings)


@changed(
    "num_decodes",
    "temperature",
    "topk",
    "topp",
    "max_decode_steps",
    "rescale_log_probs",
)
def test_temperature_sample(settings):
    decode(decoding.temperature_sample, settings)


def decode(decode_fn, settings):
    if isinstance(settings.get("num_decodes"), int) and settings["num_decodes"] > 99:
        return  # of any number, as memory allows

    def to_logits(state):
        return jnp.zeros((state.cur_token.shape[0], 300)), state.cache

    with runs_or_names_the_setting(*settings):
        jax.eval_shape(
            lambda inputs: decode_fn(inputs, {}, to_logits, eos_id=1, **settings),
            jnp.zeros((1, 3), jnp.int32),
        )


@changed(
    "mixture_or_task_name",
    "task_feature_lengths",
    "split",
    "batch_size",
    "shuffle",
    "seed",
    "use_cached",
    "pack",
    "module",
    "use_memory_cache",
    "trim_output_features",
)
def test_dataset_config(settings):
    with runs_or_names_the_setting(*settings):
        tiny.dataset_cfg(**{"split": "train"} | settings)


@changed("dtype", "period", "keep", "save_dataset")
def test_saving(settings):
    with runs_or_names_the_setting(*settings):
        utils.SaveCheckpointConfig(**settings)


@changed(
    "path",
    "mode",
    "assignment_map",
    "strict",
    "fallback_to_scratch",
    "dtype",
    "restore_dataset",
)
def test_restoring(settings):
    with runs_or_names_the_setting(*settings):
        utils.restore_path(utils.RestoreCheckpointConfig(**{"path": []} | settings))


@changed("num_partitions", "model_parallel_submesh", "logical_axis_rules")
def test_partitioner(settings):
    if "logical_axis_rules" in settings:
        settings["num_partitions"] = 1
    with runs_or_names_the_setting(*settings):
        partitioning.PjitPartitioner(**settings).mesh  # noqa: B018


@pytest.fixture(scope="module")
def trainer_arguments():
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    initializer = utils.TrainStateInitializer(
        MODEL_OF_TINY.optimizer_def,
        MODEL_OF_TINY.get_initial_variables,
        SHAPES,
        partitioner,
    )
    return {
        "model": MODEL_OF_TINY,
        "train_state": initializer.global_train_state_shape,
        "partitioner": partitioner,
        "eval_names": [],
        "summary_dir": None,
        "train_state_axes": initializer.train_state_axes,
        "rng": jax.random.PRNGKey(0),
        "learning_rate_fn": lambda step: 0.1,
    }


@text_runs.embedded_only
@examples(60)
@hypothesis.given(number=ANYTHING)
def test_microbatches(number, trainer_arguments):
    with runs_or_names_the_setting("num_microbatches"):
        trainer.Trainer(**trainer_arguments, num_microbatches=number)


@text_runs.embedded_only
@pytest.mark.parametrize(
    "name",
    [
        "guidance_dataset_cfg",
        "train_dataset_cfg",
        "guidance_period",
        "guidance_batches",
        "max_skipped",
        "num_microbatches",
    ],
)
def test_guided_trainer(name, trainer_arguments):
    arguments = trainer_arguments | {
        "model": tiny.make_model(tiny.guided()),
        "guidance_dataset_cfg": tiny.dataset_cfg("guidance"),
        "train_dataset_cfg": tiny.dataset_cfg("train"),
        "num_microbatches": None,
    }

    @examples(25)
    @hypothesis.given(ANYTHING)
    def check(value):
        names = (name, "DISCOUNT") if name == "guidance_dataset_cfg" else (name,)
        with pytest.MonkeyPatch.context() as patch, runs_or_names_the_setting(*names):
            patch.setattr(guidance, "load_guidance_batches", lambda *args: [])
            guided_trainer.GuidedTrainer(**arguments | {name: value})

    check()


@text_runs.embedded_only
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GUIDANCE_BATCHES", 0),
        ("guidance/utils.DatasetConfig.batch_size", "4"),
        ("GUIDANCE_PERIOD", -1),
        ("MAX_SKIPPED", 0),
        ("trainer.Trainer.num_microbatches", -2),
        ("NUM_MICROBATCHES", 3),  # of 4 rows
        ("decoding.beam_search.alpha", "long"),
        ("utils.create_learning_rate_scheduler.base_learning_rate", -1.0),
        ("utils.create_learning_rate_scheduler.warmup_steps", 0),
    ],
)
def test_settings_of_what_is_called_late_are_checked_early(
    name, value, tmp_path, monkeypatch
):
    def compiled(*args):
        raise AssertionError("parameters are initialized")

    monkeypatch.setattr(utils.TrainStateInitializer, "from_scratch", compiled)
    schedule = "utils.create_learning_rate_scheduler.factors = 'constant * linear_warmup'"
    imports = "from t5x import decoding"
    with pytest.raises(ValueError, match=name.rpartition(".")[2]):
        gin_runs.train(GUIDED, tmp_path, schedule, imports, f"{name} = {value!r}")


class Checked(Exception):
    """Nothing was wrong with the settings, and the work would begin."""


@contextlib.contextmanager
def no_work():
    """Lets programs check their settings alone, in a folder of their own."""

    def begin(*args, **kwargs):
        raise Checked

    key_type = jax.config.jax_default_prng_impl
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.chdir(folder)
        patch.setattr(partitioning.PjitPartitioner, "get_data_layout", begin)
        patch.setattr(utils, "verify_matching_vocabs", begin)
        patch.setattr(data_checks, "tasks_with_split", begin)
        try:
            yield
        finally:
            jax.config.update("jax_default_prng_impl", key_type)


MACROS = {
    BASELINE: [
        "BATCH_SIZE",
        "CHECKPOINT_PERIOD",
        "DROPOUT_RATE",
        "EVAL_PERIOD",
        "EVAL_STEPS",
        "LABEL_SMOOTHING",
        "LOSS_NORMALIZING_FACTOR",
        "MIXTURE_OR_TASK_MODULE",
        "MIXTURE_OR_TASK_NAME",
        "MODEL_DIR",
        "OPTIMIZER",
        "RANDOM_SEED",
        "SHUFFLE_TRAIN_EXAMPLES",
        "STATS_PERIOD",
        "TASK_FEATURE_LENGTHS",
        "TRAIN_STEPS",
        "TRAIN_STEPS_RELATIVE",
        "USE_CACHED_TASKS",
        "USE_HARDWARE_RNG",
        "VOCABULARY",
        "Z_LOSS",
        "network.T5Config.emb_dim",
        "adafactor.Adafactor.decay_rate",
    ],
    "gin/offline_translation_baseline.gin": [
        "LEARNING_RATE",
        "NUM_BEAMS",
        "WARMUP_STEPS",
    ],
    "gin/t5_small_finetune_baseline.gin": ["RESET", "INITIAL_CHECKPOINT_PATH"],
}
IN_GIN = ANYTHING.filter(
    lambda value: "nan" not in repr(value) and "inf" not in repr(value)
)


@text_runs.embedded_only
@pytest.mark.parametrize("gin_file", MACROS)
def test_macros_of_training(gin_file):
    @examples(2 * len(MACROS[gin_file]))
    @hypothesis.given(st.sampled_from(MACROS[gin_file]), IN_GIN)
    def check(macro, value):
        with runs_or_names_the_setting(), contextlib.suppress(Checked), no_work():
            bindings = ("MODEL_DIR = 'run'", f"{macro} = {value!r}")
            with gin_runs.arguments(gin_file, *bindings) as kwargs:
                train_script.train(**kwargs)

    check()


@changed(
    "mode",
    "checkpoint_period",
    "shard_id",
    "num_shards",
    "merge_chunked_results",
    "fallback_init_rng",
    "output_vocab_feature_name",
    "file_extension",
    "output_dir",
)
def test_infer(settings):
    arguments = {
        "mode": "predict",
        "model": MODEL_OF_TINY,
        "dataset_cfg": tiny.dataset_cfg("validation"),
        "restore_checkpoint_cfg": utils.RestoreCheckpointConfig("/unused"),
        "partitioner": partitioning.PjitPartitioner(num_partitions=1),
        "output_dir": "unused",
        "checkpoint_period": 1,
    }
    with runs_or_names_the_setting(*settings), contextlib.suppress(Checked), no_work():
        infer_script.infer(**arguments | settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH_SIZE", 0),
        ("BATCH_SIZE", "8"),
        ("BATCH_SIZE", True),
        ("CHECKPOINT_PERIOD", -1),
        ("DROPOUT_RATE", 1),
        ("DROPOUT_RATE", "a"),
        ("EVAL_PERIOD", -5),
        ("EVAL_STEPS", 0),
        ("EVAL_STEPS", 1.5),
        ("LABEL_SMOOTHING", 1),
        ("LOSS_NORMALIZING_FACTOR", 0),
        ("LOSS_NORMALIZING_FACTOR", "MEAN"),
        ("MODEL_DIR", None),
        ("MODEL_DIR", ""),
        ("OPTIMIZER", 5),
        ("RANDOM_SEED", 2**40),
        ("STATS_PERIOD", -1),
        ("TASK_FEATURE_LENGTHS", {"inputs": 0}),
        ("TASK_FEATURE_LENGTHS", {"inputs": "8"}),
        ("TASK_FEATURE_LENGTHS", 8),
        ("TRAIN_STEPS", -1),
        ("TRAIN_STEPS", "x"),
        ("TRAIN_STEPS", 1.5),
        ("USE_CACHED_TASKS", "no"),
        ("Z_LOSS", -1),
        ("adafactor.Adafactor.decay_rate", -1),
        ("network.T5Config.dtype", "float16"),
        ("network.T5Config.dtype", "float33"),
        ("network.T5Config.emb_dim", 0),
        ("network.T5Config.mlp_activations", ("glu",)),
        ("network.T5Config.mlp_activations", ()),
        ("partitioning.PjitPartitioner.num_partitions", 0),
        ("partitioning.PjitPartitioner.num_partitions", 1.5),
        ("utils.SaveCheckpointConfig.keep", 0),
    ],
)
@text_runs.embedded_only
def test_a_wrong_value_is_an_error_that_shows_it(name, value):
    with pytest.raises(ValueError, match=re.escape(f"={value!r}")), no_work():
        bindings = ("MODEL_DIR = 'run'", f"{name} = {value!r}")
        with gin_runs.arguments(BASELINE, *bindings) as kwargs:
            train_script.train(**kwargs)
