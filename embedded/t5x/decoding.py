"""Beam search and sampling from a network that decodes one position a call.

Axis names in shapes: b batch, n decodes an example, l length, v vocabulary. Token 0 is
both the start of a sequence and padding. A cache is a tree of (b, ...) arrays and of
scalars, which all rows share.
"""

from collections.abc import Callable
from typing import Any

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
from t5x.checks import Amount, Count, Probability, Whole, checked

NEG_INF = -1.0e7  # a log probability that no sequence has
MIN_TEMPERATURE = 1e-4  # below it, the likeliest token is taken


@struct.dataclass
class DecodingState:
    """What the network sees of a search: `rows` are b * n, an example's side by side."""

    cur_index: jax.Array  # () in a beam search, (rows,) in sampling: position decoded
    sequences: jax.Array  # (rows, l), the start and the tokens so far
    cur_token: jax.Array  # (rows, 1), that at cur_index
    cache: Any


TokensToLogits = Callable[[DecodingState], tuple[jax.Array, Any]]


def _map_cache(function: Callable, cache: Any) -> Any:
    return jax.tree.map(lambda x: function(x) if jnp.ndim(x) else x, cache)


def _take(x: jax.Array, rows: jax.Array) -> jax.Array:
    """x[i, rows[i, j]] for (b, n, ...) and (b, m): (b, m, ...)."""
    return jax.vmap(lambda one, index: one[index])(x, rows)


def _flatten(x: jax.Array) -> jax.Array:
    """(b, n, ...) to (b * n, ...)."""
    return x.reshape(-1, *x.shape[2:])


def _mask_topk(logits: jax.Array, topk: int) -> jax.Array:
    """Leaves the `topk` largest, and what ties with the last of them."""
    least = lax.top_k(logits, min(topk, logits.shape[-1]))[0][..., -1:]
    return jnp.where(logits >= least, logits, NEG_INF)


def _mask_topp(logits: jax.Array, topp: float) -> jax.Array:
    """Leaves the fewest tokens whose probabilities add up to `topp`, ties included."""
    probs = jax.nn.softmax(logits)
    descending = -jnp.sort(-probs, axis=-1)
    short = jnp.sum(jnp.cumsum(descending, axis=-1) < topp, axis=-1, keepdims=True)
    last = jnp.minimum(short, probs.shape[-1] - 1)
    return jnp.where(
        probs >= jnp.take_along_axis(descending, last, axis=-1), logits, NEG_INF
    )


@struct.dataclass
class _Samples:
    index: jax.Array  # (), position decoded
    tokens: jax.Array  # (rows, l + 1)
    log_probs: jax.Array  # (rows,)
    ended: jax.Array  # (rows,)
    rng: jax.Array
    cache: Any


@checked
def temperature_sample(
    inputs: jax.Array | np.ndarray,
    cache: Any,
    tokens_to_logits: TokensToLogits,
    eos_id: int,
    decode_rng: jax.Array | None = None,
    num_decodes: Count = 1,
    temperature: Amount | jax.Array | np.ndarray = 1.0,
    topk: Whole = 1,
    topp: Probability = 0.0,
    max_decode_steps: Count | None = None,
    rescale_log_probs: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Draws each token from softmax(logits / temperature), until `eos_id`.

    Args:
        inputs: (b, l) prompt, shifted right; its tokens other than 0 are kept.
        cache: of b rows.
        tokens_to_logits: to logits (b * n, v) of the next token, and the next cache.
        eos_id: ends a sequence; 0 follows it.
        decode_rng: None for that of seed 0.
        num_decodes: independent samples of every example.
        temperature: (), the likeliest token up to `MIN_TEMPERATURE`.
        topk: draw from the `topk` likeliest tokens; 0 for all. 1 is greedy.
        topp: draw from the fewest tokens of this probability together; 0 for all.
        max_decode_steps: tokens drawn at most beyond those of the prompt; None for `l`.
        rescale_log_probs: log probabilities are those of the distribution that is drawn
            from; else of softmax(logits).

    Returns:
        Tokens (b, n, l) and their log probabilities (b, n), the likeliest last.

    Raises:
        ValueError: both topk and topp, more steps than positions, or more temperatures
            than one.
    """
    if topk and topp:
        raise ValueError(
            f"topk and topp exclude each other: got {topk} and {topp}. Set "
            "temperature_sample.topk = 0 (its default is 1) to use topp"
        )
    batch, length = inputs.shape
    if max_decode_steps is not None and max_decode_steps > length:
        raise ValueError(
            f"temperature_sample.max_decode_steps is {max_decode_steps}, of {length} "
            "target positions: lower it, or raise TASK_FEATURE_LENGTHS"
        )
    prompts = jnp.repeat(inputs, num_decodes, axis=0)
    rows = prompts.shape[0]
    limits = jnp.full((rows,), length)
    if max_decode_steps is not None:
        limits = jnp.minimum(length, jnp.sum(prompts != 0, axis=1) + max_decode_steps)
    temperature = jnp.asarray(temperature)
    if temperature.ndim:
        raise ValueError(
            f"temperature_sample.temperature has shape {temperature.shape}: must be one "
            "number, of all examples"
        )

    def draw(rng, logits):
        scaled = logits / jnp.maximum(temperature, MIN_TEMPERATURE)
        if topk:
            scaled = _mask_topk(scaled, topk)
        if topp:
            scaled = _mask_topp(scaled, topp)
        greedy = temperature <= MIN_TEMPERATURE
        drawn = jax.random.categorical(rng, scaled)
        drawn = jnp.where(greedy, jnp.argmax(logits, -1), drawn).astype(jnp.int32)
        log_probs = jax.nn.log_softmax(scaled if rescale_log_probs else logits)
        log_prob = jnp.take_along_axis(log_probs, drawn[:, None], axis=-1)[:, 0]
        # The distribution of a temperature of 0 gives its one token probability 1.
        return drawn, jnp.where(greedy & rescale_log_probs, 0.0, log_prob)

    def step(s: _Samples) -> _Samples:
        rng, next_rng = jax.random.split(s.rng)
        logits, next_cache = tokens_to_logits(
            DecodingState(
                cur_index=jnp.full((rows,), s.index),
                sequences=s.tokens[:, :-1],
                cur_token=lax.dynamic_slice_in_dim(s.tokens, s.index, 1, axis=1),
                cache=s.cache,
            )
        )
        drawn, log_prob = draw(rng, logits)
        prompt = s.tokens[:, s.index + 1]
        token = jnp.where(s.ended, 0, jnp.where(prompt == 0, drawn, prompt))
        counts = (prompt == 0) & ~s.ended
        return _Samples(
            index=s.index + 1,
            tokens=s.tokens.at[:, s.index + 1].set(token),
            log_probs=s.log_probs + jnp.where(counts, log_prob, 0.0),
            ended=s.ended | (counts & (token == eos_id)) | (s.index + 1 >= limits),
            rng=next_rng,
            cache=next_cache,
        )

    final = lax.while_loop(
        lambda s: ~jnp.all(s.ended),
        step,
        _Samples(
            index=jnp.zeros((), jnp.int32),
            tokens=jnp.pad(prompts.at[:, 0].set(0), ((0, 0), (0, 1))),
            log_probs=jnp.zeros((rows,)),
            ended=jnp.zeros((rows,), bool),
            rng=jax.random.PRNGKey(0) if decode_rng is None else decode_rng,
            cache=_map_cache(lambda x: jnp.repeat(x, num_decodes, axis=0), cache),
        ),
    )
    tokens = final.tokens[:, 1:].reshape(batch, num_decodes, length)
    log_probs = final.log_probs.reshape(batch, num_decodes)
    order = jnp.argsort(log_probs, axis=-1)
    return _take(tokens, order), _take(log_probs, order)


def brevity_penalty(alpha: float | jax.Array, length: int | jax.Array) -> jax.Array:
    """What a log probability is divided by: ((5 + length) / 6)^alpha (Wu et al., 2016).

    >>> float(brevity_penalty(1.0, 7))
    2.0
    """
    return jnp.power((5.0 + length) / 6.0, alpha)


@struct.dataclass
class _Beams:
    """Of every example n live beams, and the n best ended ones; the best last."""

    index: jax.Array  # (), position decoded
    live: jax.Array  # (b, n, l + 1) tokens
    live_log_probs: jax.Array  # (b, n)
    ended: jax.Array  # (b, n, l + 1) tokens
    scores: jax.Array  # (b, n), NEG_INF where no beam has ended yet
    is_ended: jax.Array  # (b, n)
    cache: Any  # of (b, n, ...), of the live beams


@checked
def beam_search(
    inputs: jax.Array | np.ndarray,
    cache: Any,
    tokens_to_logits: TokensToLogits,
    eos_id: int,
    num_decodes: Count = 4,
    alpha: Amount | jax.Array = 0.6,
    max_decode_len: Count | None = None,
    decode_rng: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Searches for the sequences of the best log probability / brevity penalty.

    Args:
        inputs: (b, l) prompt, shifted right; its tokens other than 0 are kept.
        cache: of b rows.
        tokens_to_logits: to logits (b * n, v) of the next token, and the next cache.
        eos_id: ends a sequence; 0 follows it.
        num_decodes: n, the beams of every example.
        alpha: exponent of the brevity penalty: 0 for none, larger for longer sequences.
        max_decode_len: tokens of a sequence at most, its prompt included; None for `l`.
        decode_rng: unused; the search draws nothing.

    Returns:
        Tokens (b, n, max_decode_len) and scores (b, n), the best last. Where an example
        ended no beam within max_decode_len: its live beams, and their log
        probabilities. Where it ended fewer than n: 0 tokens and NEG_INF first.

    Raises:
        ValueError: max_decode_len exceeds the length of the inputs.
    """
    del decode_rng
    batch, length = inputs.shape
    if max_decode_len is not None:
        if max_decode_len > length:
            raise ValueError(
                f"beam_search.max_decode_len is {max_decode_len}, of {length} target "
                "positions: lower it, or raise TASK_FEATURE_LENGTHS"
            )
        length = max_decode_len
    n = num_decodes
    # One beam of an example goes on while its prompt is read: they are all the same.
    only_first = jnp.where(jnp.arange(2 * n) == 0, 0.0, NEG_INF)

    def goes_on(s: _Beams) -> jax.Array:
        bound = s.live_log_probs[:, -1:] / brevity_penalty(alpha, length + 1)
        worst = jnp.min(s.scores, axis=1, keepdims=True)
        is_final = jnp.where(s.is_ended, worst, NEG_INF) > bound
        return (s.index < length) & ~jnp.all(is_final)

    def step(s: _Beams) -> _Beams:
        logits, flat_cache = tokens_to_logits(
            DecodingState(
                cur_index=s.index,
                sequences=_flatten(s.live),
                cur_token=_flatten(lax.dynamic_slice_in_dim(s.live, s.index, 1, axis=2)),
                cache=_map_cache(_flatten, s.cache),
            )
        )
        vocab_size = logits.shape[-1]
        log_probs = jax.nn.log_softmax(logits).reshape(batch, n, vocab_size)
        log_probs = (log_probs + s.live_log_probs[..., None]).reshape(batch, -1)
        # Of 2n candidates, n are live: each beam ends in one way only.
        log_probs, chosen = lax.top_k(log_probs, 2 * n)
        beams, tokens = chosen // vocab_size, chosen % vocab_size
        prompt = jnp.asarray(inputs)[:, s.index + 1][:, None]
        log_probs = jnp.where(prompt == 0, log_probs, only_first)
        tokens = jnp.where(prompt == 0, tokens, prompt).astype(jnp.int32)
        candidates = _take(s.live, beams).at[:, :, s.index + 1].set(tokens)
        ends = tokens == eos_id

        live_log_probs = log_probs + jnp.where(ends, NEG_INF, 0.0)
        best = jnp.flip(lax.top_k(live_log_probs, n)[1], axis=1)
        next_cache = _map_cache(lambda x: x.reshape(batch, n, *x.shape[1:]), flat_cache)
        if n > 1:  # else every beam continues itself, without a copy
            next_cache = _map_cache(lambda x: _take(x, _take(beams, best)), next_cache)

        scores = log_probs / brevity_penalty(alpha, s.index + 1)
        scores = jnp.concatenate(
            [s.scores, scores + jnp.where(ends, 0.0, NEG_INF)], axis=1
        )
        ended = jnp.concatenate([s.ended, candidates], axis=1)
        is_ended = jnp.concatenate([s.is_ended, ends], axis=1)
        best_ended = jnp.flip(lax.top_k(scores, n)[1], axis=1)
        return _Beams(
            index=s.index + 1,
            live=_take(candidates, best),
            live_log_probs=_take(live_log_probs, best),
            ended=_take(ended, best_ended),
            scores=_take(scores, best_ended),
            is_ended=_take(is_ended, best_ended),
            cache=next_cache,
        )

    nothing = jnp.zeros((batch, n, length + 1), jnp.int32)
    final = lax.while_loop(
        goes_on,
        step,
        _Beams(
            index=jnp.zeros((), jnp.int32),
            live=nothing,
            live_log_probs=jnp.broadcast_to(only_first[:n], (batch, n)),
            ended=nothing,
            scores=jnp.full((batch, n), NEG_INF),
            is_ended=jnp.zeros((batch, n), bool),
            cache=_map_cache(
                lambda x: jnp.broadcast_to(x[:, None], (batch, n, *x.shape[1:])), cache
            ),
        ),
    )
    any_ended = jnp.any(final.is_ended, axis=1, keepdims=True)
    tokens = jnp.where(any_ended[..., None], final.ended, final.live)
    return tokens[:, :, 1:], jnp.where(any_ended, final.scores, final.live_log_probs)
