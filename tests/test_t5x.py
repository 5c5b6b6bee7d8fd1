"""Whatever t5x is installed computes what T5X computes.

T5X printed the expected values. Where the embedded t5x has others, it has a bug.
"""

import jax
import numpy as np
import pytest
from t5x import adafactor, metrics as metrics_lib, models, trainer as t5x_trainer, utils
from t5x.examples.t5 import network

import text_runs
import tiny

LAYER = {
    "pre_mlp_layer_norm/scale": (16,),
    "mlp/wi_0/kernel": (16, 32),
    "mlp/wi_1/kernel": (16, 32),
    "mlp/wo/kernel": (32, 16),
}


def _attention(name):
    kernels = ("query", "key", "value", "out")
    return {f"{name}/{kernel}/kernel": (16, 16) for kernel in kernels}


ENCODER_LAYER = (
    LAYER | {"pre_attention_layer_norm/scale": (16,)} | _attention("attention")
)
DECODER_LAYER = (
    LAYER
    | {"pre_self_attention_layer_norm/scale": (16,)}
    | {"pre_cross_attention_layer_norm/scale": (16,)}
    | _attention("self_attention")
    | _attention("encoder_decoder_attention")
)
PARAMETERS = {
    "token_embedder/embedding": (64, 16),
    "encoder/relpos_bias/rel_embedding": (2, 32),
    "encoder/encoder_norm/scale": (16,),
    "decoder/relpos_bias/rel_embedding": (2, 32),
    "decoder/decoder_norm/scale": (16,),
    **{f"encoder/layers_0/{name}": shape for name, shape in ENCODER_LAYER.items()},
    **{f"decoder/layers_0/{name}": shape for name, shape in DECODER_LAYER.items()},
}

LOSSES = [590.0942993, 631.7440796, 617.9382935]
ACCURACIES = [0.0234375, 0.0078125, 0.0078125]
GUIDED = {  # after three guided steps
    "loss": 620.4739380,
    "z_loss": 0.3014521599,
    "guidance/loss": 603.3221436,
    "hyperparams/alpha": 1.020167947,
    "hyperparams/beta1": 0.4950172603,
}


def test_parameters_have_the_names_and_shapes_of_t5x():
    model = tiny.make_model(adafactor.Adafactor(), network_cls=network.Transformer)
    shapes = {name: (8, 16) for name in ("encoder_input_tokens", "decoder_input_tokens")}
    variables = jax.eval_shape(
        lambda rng: model.get_initial_variables(rng, shapes), jax.random.PRNGKey(0)
    )
    params = utils.flatten_dict_string_keys(variables["params"])
    assert {name: x.shape for name, x in params.items()} == PARAMETERS


def test_losses_with_dropout_are_those_of_t5x():
    """Initial values, dropout streams, the network, the loss and Adafactor together."""
    stock = adafactor.Adafactor(min_dim_size_to_factor=8)
    with tiny.make_t5_trainer(stock, t5x_trainer.Trainer, dropout_rate=0.1) as trainer:
        _, summaries = tiny.train(trainer, 3)
    assert [s["loss"] for s in summaries] == pytest.approx(LOSSES, rel=1e-5)
    assert [s["accuracy"] for s in summaries] == pytest.approx(ACCURACIES, rel=1e-5)


def test_guided_steps_are_those_of_t5x():
    with tiny.make_t5_trainer(tiny.guided(), dropout_rate=0.1) as trainer:
        _, summaries = tiny.train(trainer, 3)
    last = {name: summaries[-1][name] for name in GUIDED}
    assert last == pytest.approx(GUIDED, rel=1e-5)


@pytest.mark.parametrize(
    ("factors", "rates"),
    [
        ("constant * rsqrt_decay", [0.05, 0.05, 0.025]),
        ("constant * linear_warmup", [0.005, 0.5, 0.5]),
        ("constant * rsqrt_normalized_decay", [0.5, 0.5, 0.25]),
        ("constant * decay_every", [0.5, 0.25, 0.03125]),
        ("constant * cosine_decay", [0.5, 0.5, 0.25]),
    ],
)
def test_learning_rate_schedules(factors, rates):
    schedule = utils.create_learning_rate_scheduler(
        factors,
        base_learning_rate=0.5,
        warmup_steps=100,
        steps_per_decay=100,
        steps_per_cycle=600,
    )
    assert [float(schedule(step)) for step in (1, 100, 400)] == pytest.approx(rates)


def test_metrics_merge_and_compute():
    per_step = metrics_lib.AveragePerStep
    merged = per_step(total=np.float32(3.0)).merge(per_step(total=np.float32(5.0)))
    assert float(merged.replace_steps(2).compute()) == 4.0
    rate = metrics_lib.TimeRate(numerator=np.float32(6.0)).replace_duration(3.0)
    assert float(rate.compute()) == 2.0
    speed = metrics_lib.StepsPerTime.from_model_output(steps=6).replace_duration(2.0)
    assert float(speed.compute()) == 3.0


def test_the_loss_of_a_batch_of_numpy():
    model = tiny.make_model(adafactor.Adafactor())
    with tiny.make_trainer(adafactor.Adafactor(), t5x_trainer.Trainer) as trainer:
        batch = jax.device_get(next(tiny.batches(trainer)))
        params = trainer.train_state.params
    (loss, _), _ = jax.value_and_grad(model.loss_fn, has_aux=True)(params, batch, None)
    jitted, _ = jax.jit(model.loss_fn)(params, batch, None)
    assert float(loss) == pytest.approx(float(jitted), rel=1e-5)


@text_runs.embedded_only
def test_metrics_of_many_steps_do_not_overflow():
    ids = np.ones((8, 512), np.int32)
    metrics = models.compute_base_metrics(
        np.eye(8, dtype=np.float32)[ids],
        ids,
        mask=ids,
        loss=np.float32(2.0**12),
        z_loss=np.float32(0.0),
        segment_ids={"encoder": ids},
    )
    per_token = ("accuracy", "loss_per_nonpadding_target_token")
    fractions = ("loss_weights", "encoder", "overall")
    for name in (*per_token, *(f"non_padding_fraction/{of}" for of in fractions)):
        metric = metrics[name]
        for _ in range(20):  # 2^20 steps of 2^12 tokens
            metric = metric.merge(metric)
        assert metric.compute() == metrics[name].compute() == 1.0, name


def test_packed_metrics_count_examples_and_padding():
    logits = np.zeros((2, 4, 8), np.float32)
    targets = np.array([[1, 2, 3, 0], [1, 0, 0, 0]])
    metrics = models.compute_base_metrics(
        logits,
        targets,
        mask=(targets > 0).astype(np.float32),
        loss=np.float32(8.0),
        z_loss=np.float32(1.0),
        segment_ids={"decoder": np.array([[1, 1, 2, 0], [1, 0, 0, 0]])},
    )
    values = {
        name: float(metrics[name].compute())
        for name in (
            "loss_per_nonpadding_target_token",
            "loss_per_all_target_tokens",
            "cross_ent_loss",
            "effective_batch_size/decoder",
            "non_padding_fraction/decoder",
            "non_padding_fraction/overall",
        )
    }
    assert values == {
        "loss_per_nonpadding_target_token": 2.0,
        "loss_per_all_target_tokens": 1.0,
        "cross_ent_loss": 7.0,
        "effective_batch_size/decoder": 3.0,
        "non_padding_fraction/decoder": 0.5,
        "non_padding_fraction/overall": 0.5,
    }
