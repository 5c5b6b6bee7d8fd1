"""Decoding finds what enumeration finds, from one position a call.

The golden values are those that T5X printed: see test_t5x.
"""

import functools
import itertools

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from t5x import adafactor, decoding, models, utils
from t5x.examples.t5 import network

import text_runs

EOS, LENGTH, VOCAB_SIZE = 1, 6, 12
PROBS = np.array([0.4, 0.05, 0.3, 0.15, 0.1])


def make_model(decode_fn=decoding.beam_search, vocab_size=VOCAB_SIZE, **settings):
    vocabulary = seqio.PassThroughVocabulary(size=vocab_size, eos_id=EOS)
    config = network.T5Config(
        vocab_size=vocab_size,
        emb_dim=16,
        num_heads=2,
        head_dim=8,
        num_encoder_layers=1,
        num_decoder_layers=2,
        mlp_dim=16,
        dropout_rate=0.5,
    )
    return models.EncoderDecoderModel(
        network.Transformer(config),
        vocabulary,
        vocabulary,
        adafactor.Adafactor(),
        decode_fn,
        **settings,
    )


def make_params(model):
    """Parameters with which every input and every earlier token counts."""
    shapes = {name: (1, 4) for name in ("encoder_input_tokens", "decoder_input_tokens")}
    variables = jax.eval_shape(
        lambda rng: model.get_initial_variables(rng, shapes), jax.random.PRNGKey(0)
    )
    rng = np.random.default_rng(1)
    params: dict = {}
    for name, leaf in sorted(utils.flatten_dict_string_keys(variables["params"]).items()):
        fan_in = 1 if "embedding" in name else leaf.shape[0]
        drawn = rng.normal(0, 2 / np.sqrt(fan_in), leaf.shape)
        *path, last = name.split("/")
        node = functools.reduce(lambda tree, key: tree.setdefault(key, {}), path, params)
        node[last] = np.float32(np.ones_like(drawn) if last == "scale" else drawn)
    return params


def make_batch(lengths=(6, 3, 1), vocab_size=VOCAB_SIZE, targets_length=LENGTH):
    """Inputs of these lengths, padded, and room for targets."""
    shape = (len(lengths), max(lengths))
    inputs = np.random.default_rng(0).integers(2, vocab_size, shape, np.int32)
    inputs *= np.arange(max(lengths)) < np.array(lengths)[:, None]
    return {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": np.zeros((len(lengths), targets_length), np.int32),
    }


def predictor(model, **settings):
    """A compiled function to all decodes, and their scores."""

    @jax.jit
    def run(params, batch, decoder_params):
        decodes, aux = model.predict_batch_with_aux(
            params,
            batch,
            decoder_params=decoder_params,
            return_all_decodes=True,
            **settings,
        )
        return decodes, aux["scores"]

    return lambda params, batch, **decoder_params: jax.device_get(
        run(params, batch, decoder_params)
    )


@functools.cache
def _full_pass(module):
    @jax.jit
    def run(params, inputs, tokens):
        real = jnp.ones_like(tokens)  # 0 is a token like others here
        variables = {"params": params}
        return module.apply(variables, inputs, tokens, real, enable_dropout=False)

    return run


def full_pass(model, params, inputs, tokens):
    """Logits (rows, length, vocabulary) after the tokens, all positions at once."""
    return np.asarray(_full_pass(model.module)(params, inputs, tokens))


def until_eos(tokens):
    """1 up to the first EOS, 0 after it: (rows, length)."""
    return np.cumsum(np.cumsum(tokens == EOS, axis=-1), axis=-1) <= 1


def log_softmax(logits):
    shifted = np.float64(logits) - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def scores_of(model, params, inputs, targets, alpha):
    """Log probabilities (rows,) of targets / brevity penalty, without a cache."""
    rows = np.broadcast_to(inputs, (len(targets), *inputs.shape))
    shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    log_probs = log_softmax(full_pass(model, params, rows, shifted))
    chosen = np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
    counted = until_eos(targets)
    return np.sum(chosen * counted, axis=1) / ((5 + counted.sum(axis=1)) / 6) ** alpha


def decode_chain(decode_fn, table, inputs, on_call=lambda: None, **settings):
    """Decodes with a network that looks only at the current token."""
    logits = jnp.log(jnp.asarray(table) + 1e-9)

    def tokens_to_logits(state):
        on_call()
        return logits[state.cur_token[:, 0]], state.cache

    inputs = np.asarray(inputs, np.int32)
    cache = {"x": np.zeros((len(inputs), 1))}
    return jax.device_get(decode_fn(inputs, cache, tokens_to_logits, EOS, **settings))


def sample_first(num_decodes=4000, **settings):
    """Frequencies of the one token drawn from PROBS, and its log probabilities."""
    tokens, log_probs = decode_chain(
        decoding.temperature_sample,
        [PROBS] * 5,
        [[0]],
        decode_rng=jax.random.PRNGKey(0),
        num_decodes=num_decodes,
        **settings,
    )
    assert tokens.shape == (1, num_decodes, 1)
    return np.bincount(np.ravel(tokens), minlength=5) / num_decodes, log_probs[0]


def test_logits_with_the_cache_are_those_without():
    model, inputs = make_model(), make_batch()["encoder_input_tokens"]
    params, apply = make_params(model), model.module.apply
    tokens = np.random.default_rng(1).integers(2, VOCAB_SIZE, (3, LENGTH), np.int32)
    expected = full_pass(model, params, inputs, tokens)
    assert np.std(expected) > 1  # the tolerance is far below it

    decodes = {"enable_dropout": False, "decode": True, "mutable": ["cache"]}
    _, new = apply({"params": params}, inputs, tokens, tokens, **decodes)
    encoded = apply({"params": params}, inputs, enable_dropout=False, method="encode")

    @jax.jit
    def step(new, token):
        variables = {"params": params, **new}
        settings = decodes | {"max_decode_length": LENGTH, "method": "decode"}
        return apply(variables, encoded, inputs, token, token, **settings)

    for i in range(LENGTH):
        logits, new = step(new, tokens[:, i : i + 1])
        np.testing.assert_allclose(logits[:, 0], expected[:, i], atol=1e-4)
    with pytest.raises(ValueError, match="cache"):
        step(new, tokens[:, :2])


def test_greedy_sampling_takes_the_likeliest_token_of_a_full_pass():
    model, batch = make_model(decoding.temperature_sample), make_batch((6, 3, 1, 2, 5))
    params, predict = make_params(model), predictor(model, num_decodes=2)
    tokens = np.zeros((5, LENGTH + 1), np.int32)
    for i in range(LENGTH):
        logits = full_pass(model, params, batch["encoder_input_tokens"], tokens[:, :-1])
        tokens[:, i + 1] = np.argmax(logits[:, i], axis=-1)
    expected = tokens[:, 1:] * until_eos(tokens[:, 1:])
    assert len(np.unique(expected)) > 5  # not one token over and over
    for settings in ({}, {"temperature": 0.0}):
        decodes, scores = predict(params, batch, **settings)
        np.testing.assert_array_equal(decodes, np.stack([expected] * 2, axis=1))
        np.testing.assert_array_equal(scores, np.zeros((5, 2)))  # of a certain draw


@text_runs.embedded_only
@pytest.mark.parametrize("kind", [float, np.float32, np.array, jnp.array])
def test_a_temperature_is_one_number(kind):
    settings = {"temperature": kind(0.5), "topk": 0}
    inputs, logits = jnp.zeros((2, 3), jnp.int32), jnp.zeros((2, 2))
    sample = functools.partial(
        decoding.temperature_sample, inputs, {}, lambda state: (logits, state.cache), EOS
    )
    assert sample(**settings)[0].shape == (2, 1, 3)
    with pytest.raises(ValueError, match=r"temperature has shape \(2,\): must be one"):
        sample(**settings | {"temperature": np.array([0.5, 1.0])})


def test_beam_search_is_exhaustive_with_enough_beams():
    vocab_size, length = 4, 4
    model, batch = make_model(vocab_size=4), make_batch((5, 2), vocab_size, length)
    every = np.array(list(itertools.product(range(vocab_size), repeat=length)), np.int32)
    every = np.unique((every * until_eos(every))[np.any(every == EOS, axis=1)], axis=0)
    params = make_params(model)
    beams = (vocab_size - 1) ** (length - 1)  # no prefix is ever dropped
    predict = predictor(model, num_decodes=beams)
    lengths = set()
    for alpha in (0.0, 0.6, 3.0):
        decodes, scores = predict(params, batch, alpha=alpha)
        for i, inputs in enumerate(batch["encoder_input_tokens"]):
            expected = scores_of(model, params, inputs, every, alpha)
            best = np.argsort(expected)[-8:]
            np.testing.assert_array_equal(decodes[i, -8:], every[best])
            np.testing.assert_allclose(scores[i, -8:], expected[best], rtol=1e-4)
            lengths.add(until_eos(every[best[-1]]).sum())
    assert len(lengths) > 1  # the penalty decides


def test_scores_are_penalized_log_probabilities_in_increasing_order():
    model, batch = make_model(), make_batch((6, 3, 1, 2), targets_length=10)
    params = make_params(model)
    decodes, scores = predictor(model, num_decodes=4)(params, batch)
    assert decodes.shape == (4, 4, 10)
    found, ended = scores > decoding.NEG_INF, np.any(decodes == EOS, axis=-1)
    assert found.sum(axis=1).tolist() == [4, 4, 4, 1]  # the last ends one sequence only
    assert ended.sum(axis=1).tolist() == [4, 4, 0, 1]  # the third ends none
    assert not np.any(decodes[~found])
    for i, inputs in enumerate(batch["encoder_input_tokens"]):
        assert np.all(np.diff(scores[i][found[i]]) > 0)
        alpha = 0.6 if np.any(ended[i]) else 0.0
        expected = scores_of(model, params, inputs, decodes[i], alpha)
        np.testing.assert_allclose(scores[i][found[i]], expected[found[i]], rtol=1e-4)


def test_a_search_without_an_end_returns_its_live_beams():
    table = [[0.0, 0.0, 0.4, 0.3, 0.2, 0.1]] * 6
    tokens, scores = decode_chain(decoding.beam_search, table, [[0, 0, 0]], num_decodes=2)
    np.testing.assert_array_equal(tokens[0, 1], [2, 2, 2])
    np.testing.assert_array_equal(np.sort(tokens[0, 0]), [2, 2, 3])
    # Log probabilities, of which the penalty takes nothing.
    expected = [np.log(0.4**2 * 0.3), np.log(0.4**3)]
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


@pytest.mark.parametrize("decode_fn", [decoding.beam_search, decoding.temperature_sample])
def test_decoding_stops_when_all_has_ended(decode_fn):
    end = [0.0, 1.0, 0.0, 0.0]
    table = [[0.0, 0.0, 0.6, 0.4], end, end, end]
    calls: list[int] = []
    tokens, _ = decode_chain(
        decode_fn,
        table,
        np.zeros((2, 20)),
        on_call=lambda: jax.debug.callback(lambda: calls.append(1)),
        num_decodes=2,
    )
    jax.effects_barrier()
    np.testing.assert_array_equal(tokens[:, -1], [[2, EOS] + [0] * 18] * 2)
    assert len(calls) == 2


def test_settings_shorten_what_is_decoded():
    table = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.1, 0.9]]
    tokens, scores = decode_chain(
        decoding.beam_search, table, [[0] * 8], num_decodes=1, max_decode_len=3
    )
    # 2 2 EOS with log(0.9·0.1) / (8/6)^0.6; 2 EOS has log(0.1) / (7/6)^0.6, less.
    np.testing.assert_array_equal(tokens, [[[2, 2, EOS]]])
    np.testing.assert_allclose(scores, [[np.log(0.09) / (8 / 6) ** 0.6]], rtol=1e-5)
    prompts = [[0, 2, 2, 0, 0, 0, 0, 0], [0] * 8]
    tokens, _ = decode_chain(
        decoding.temperature_sample, table, prompts, max_decode_steps=3
    )
    np.testing.assert_array_equal(np.sum(tokens == 2, axis=-1), [[5], [3]])
    assert np.sum(tokens != 0) == 8


@pytest.mark.parametrize("decode_fn", [decoding.beam_search, decoding.temperature_sample])
def test_padding_and_the_rest_of_the_batch_change_nothing(decode_fn):
    model, batch = make_model(decode_fn), make_batch((6, 3, 1, 2))
    params, predict = make_params(model), predictor(model, num_decodes=2)
    decodes, scores = predict(params, batch)
    inputs = batch["encoder_input_tokens"]
    padded = batch | {"encoder_input_tokens": np.pad(inputs, ((0, 0), (0, 3)))}
    for i in range(4):
        alone = predict(params, {k: v[i : i + 1] for k, v in padded.items()})
        np.testing.assert_array_equal(alone[0][0], decodes[i])
        np.testing.assert_allclose(alone[1][0], scores[i], rtol=1e-4)
    assert np.any(decodes[0] != decodes[1])


@pytest.mark.parametrize("decode_fn", [decoding.beam_search, decoding.temperature_sample])
def test_prompts_begin_the_targets(decode_fn):
    model, batch = make_model(decode_fn), make_batch()
    params = make_params(model)
    free = np.asarray(model.predict_batch(params, batch))
    prompts = np.zeros((3, LENGTH), np.int32)
    prompts[0, 1:3] = 7, 9
    prompts[1, 1:5] = 4, 5, 6, EOS
    batch |= {"decoder_input_tokens": prompts}
    np.testing.assert_array_equal(model.predict_batch(params, batch), free)
    tokens, _ = model.predict_batch_with_aux(params, batch, prompt_with_targets=True)
    assert tokens[0, :2].tolist() == [7, 9]
    assert tokens[1, :3].tolist() == [4, 5, 6]
    np.testing.assert_array_equal(tokens[2], free[2])
    if decode_fn is decoding.temperature_sample:  # the likeliest given the prompt
        shifted = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
        logits = full_pass(model, params, batch["encoder_input_tokens"], shifted)
        assert tokens[0, 2] == np.argmax(logits[0, 2])
        assert tokens[1, 3] == np.argmax(logits[1, 3])


def test_the_probability_of_a_prompt_does_not_count():
    table = np.full((5, 5), 0.01)  # of the next token, given the current
    table[3, [EOS, 2, 4]] = 0.5, 0.3, 0.18
    table[[2, 4], EOS] = 0.96
    tokens, scores = decode_chain(
        decoding.beam_search, table, [[0, 3, 0, 0]], num_decodes=3, alpha=0.6
    )
    assert tokens[0].tolist() == [[3, 4, EOS, 0], [3, 2, EOS, 0], [3, EOS, 0, 0]]
    expected = [
        np.log(probability) / ((5 + length) / 6) ** 0.6
        for probability, length in ((0.18 * 0.96, 3), (0.3 * 0.96, 3), (0.5, 2))
    ]
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_the_best_decode_alone_is_the_default():
    model, batch = make_model(), make_batch()
    params = make_params(model)
    all_decodes, all_scores = predictor(model, num_decodes=4)(params, batch)
    best, aux = model.predict_batch_with_aux(params, batch, num_decodes=4)
    np.testing.assert_array_equal(best, all_decodes[:, -1])
    np.testing.assert_allclose(aux["scores"], all_scores[:, -1], rtol=1e-5)
    assert np.any(model.predict_batch(params, batch) != best)  # of one beam

    settings = models.DecoderParams(return_all_decodes=True, num_decodes=4)
    model = make_model(default_decoder_params=settings)
    np.testing.assert_array_equal(model.predict_batch(params, batch), all_decodes)


def test_gin_sets_the_beams():
    gin.clear_config()
    gin.parse_config(
        "from __gin__ import dynamic_registration\n"
        "from t5x import decoding\n"
        "from t5x import models\n"
        "models.EncoderDecoderModel.predict_batch_with_aux.num_decodes = 4\n"
        "models.EncoderDecoderModel.predict_batch_with_aux.return_all_decodes = True\n"
        "models.EncoderDecoderModel.decode_fn = @decoding.beam_search\n"
        "decoding.beam_search.max_decode_len = 5\n"
    )
    try:
        cls = gin.get_configurable(models.EncoderDecoderModel)
        model = make_model()
        model = cls(
            model.module,
            model.input_vocabulary,
            model.output_vocabulary,
            model.optimizer_def,
        )
        decodes, aux = model.predict_batch_with_aux(make_params(model), make_batch())
    finally:
        gin.clear_config()
    assert decodes.shape == (3, 4, 5)
    assert aux["scores"].shape == (3, 4)


def test_score_batch_sums_weighted_log_probabilities():
    model = make_model(z_loss=0.1, label_smoothing=0.1)  # neither is part of a score
    params, batch = make_params(model), make_batch()
    rng = np.random.default_rng(0)
    targets = rng.integers(2, VOCAB_SIZE, (3, LENGTH), np.int32)
    weights = rng.integers(0, 2, (3, LENGTH)).astype(np.float32)
    shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    batch |= {
        "decoder_input_tokens": shifted,
        "decoder_target_tokens": targets,
        "decoder_loss_weights": weights,
    }
    inputs = batch["encoder_input_tokens"]
    log_probs = log_softmax(full_pass(model, params, inputs, shifted))
    chosen = np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
    scores = jax.jit(model.score_batch)(params, batch)
    np.testing.assert_allclose(scores, np.sum(chosen * weights, axis=1), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax(temperature):
    frequencies, log_probs = sample_first(temperature=temperature, topk=0)
    expected = PROBS ** (1 / temperature) / np.sum(PROBS ** (1 / temperature))
    # Four standard deviations of 4000 draws, less than between temperatures.
    deviation = np.sqrt(expected * (1 - expected) / 4000)
    assert np.all(np.abs(frequencies - expected) < 4 * deviation)
    assert np.all(np.diff(log_probs) >= 0)
    assert np.max(log_probs) == pytest.approx(np.log(np.max(expected)), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "support"),
    [
        ({"topk": 3}, [0, 2, 3]),
        ({"topk": 9}, [0, 1, 2, 3, 4]),
        ({"topk": 0, "topp": 0.6}, [0, 2]),
        ({"topk": 0, "topp": 0.9}, [0, 2, 3, 4]),
        ({"topk": 0, "topp": 1.0}, [0, 1, 2, 3, 4]),
        ({"topk": 0, "temperature": 0.0}, [0]),
        ({"topk": 0, "temperature": 0.0, "rescale_log_probs": False}, [0]),
        ({"topk": 3, "rescale_log_probs": False}, [0, 2, 3]),
    ],
)
def test_topk_and_topp_restrict_the_draw(settings, support):
    frequencies, log_probs = sample_first(**settings)
    np.testing.assert_array_equal(np.flatnonzero(frequencies), support)
    expected = PROBS[support] / np.sum(PROBS[support])
    np.testing.assert_allclose(frequencies[support], expected, atol=0.035)
    is_raw = settings.get("rescale_log_probs") is False
    probs = np.sort(PROBS[support] if is_raw else expected)
    drawn = np.unique(log_probs.round(4))
    np.testing.assert_allclose(drawn, np.log(probs), atol=1e-3)


def test_samples_differ_by_key_alone():
    decode_fn = functools.partial(decoding.temperature_sample, topk=0)
    model, batch = make_model(decode_fn), make_batch()
    params = make_params(model)
    run = jax.jit(functools.partial(model.predict_batch, params, batch))
    keys = [jax.random.PRNGKey(seed) for seed in (0, 1, 0)]
    first, second, again = (np.asarray(run(key)) for key in keys)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != second)
    with pytest.raises(ValueError, match="decode_rng"):
        model.predict_batch_with_aux(
            params, batch, keys[0], decoder_params={"decode_rng": keys[1]}
        )


@pytest.mark.parametrize("settings", [{"topk": 2, "topp": 0.5}, {"max_decode_steps": 5}])
def test_sampling_rejects_contradictions(settings):
    sample = decoding.temperature_sample
    with pytest.raises(ValueError, match=r"topp|steps"):
        decode_chain(sample, [PROBS] * 5, [[0] * 4], **settings)


GOLDEN = {
    "beam_search": (
        [
            [[0] * 10, [10, 0, 0, 0, 0, 0, 0, 0, 0, 2], [10, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
            [
                [2, 8, 8, 1, 0, 0, 0, 0, 0, 0],
                [2, 8, 1, 0, 0, 0, 0, 0, 0, 0],
                [2, 8, 11, 2, 1, 0, 0, 0, 0, 0],
            ],
        ],
        [[-8.3326168, -8.303627, -6.7325792], [-3.3259268, -3.2998989, -2.8609655]],
    ),
    "temperature_sample": (
        [
            [
                [6, 10, 0, 11, 0, 7, 9, 0, 11, 0],
                [0, 0, 6, 7, 0, 7, 7, 11, 0, 11],
                [2, 9, 0, 10, 2, 8, 0, 2, 4, 6],
            ],
            [
                [5, 5, 2, 6, 6, 1, 0, 0, 0, 0],
                [5, 2, 8, 1, 0, 0, 0, 0, 0, 0],
                [2, 8, 1, 0, 0, 0, 0, 0, 0, 0],
            ],
        ],
        [[-14.056762, -13.65943, -13.066994], [-7.1427822, -3.6041327, -3.4361401]],
    ),
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("beam_search", {}), ("temperature_sample", {"topk": 4})],
)
def test_tokens_are_those_of_t5x(name, settings):
    model = make_model(functools.partial(getattr(decoding, name), **settings))
    batch = make_batch((4, 6), targets_length=10)
    decodes, scores = predictor(model, num_decodes=3)(make_params(model), batch)
    tokens, expected = GOLDEN[name]
    np.testing.assert_array_equal(decodes, tokens)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
