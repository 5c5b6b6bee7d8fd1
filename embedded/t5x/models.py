"""A network, its loss and the metrics that describe it."""

import abc
from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from clu import metrics as clu_metrics
from flax import core, linen as nn
from flax.training import common_utils
import jax
import jax.numpy as jnp
import seqio
from t5x import decoding, losses, metrics as metrics_lib, optimizers
from t5x.checks import Amount, Count, Positive, Share, checked

Batch = Mapping[str, jax.Array]
MetricsMap = dict[str, clu_metrics.Metric]


@checked
@dataclasses.dataclass(frozen=True)
class DecoderParams:
    """What `predict_batch_with_aux` does unless it is told otherwise."""

    return_all_decodes: bool = False
    num_decodes: Count = 1


class BaseTransformerModel(abc.ABC):
    """What training, evaluation and inference need of a model of tokens."""

    FEATURE_CONVERTER_CLS: Callable[..., seqio.FeatureConverter]

    @checked
    def __init__(
        self,
        module: nn.Module,
        input_vocabulary: seqio.Vocabulary,
        output_vocabulary: seqio.Vocabulary,
        optimizer_def: optimizers.OptimizerDef,
        decode_fn: Callable = decoding.beam_search,
        *,
        label_smoothing: Share = 0.0,
        z_loss: Amount = 0.0,
        loss_normalizing_factor: Positive
        | losses.FactorName
        | losses.SpecialLossNormalizingFactor
        | None = None,
        default_decoder_params: DecoderParams | None = None,
    ):
        self.optimizer_def = optimizer_def
        self.module = module
        self.input_vocabulary = input_vocabulary
        self.output_vocabulary = output_vocabulary
        self.decode_fn = decode_fn
        self._label_smoothing = label_smoothing
        self._z_loss = z_loss
        self._loss_normalizing_factor = loss_normalizing_factor
        self._default_decoder_params = default_decoder_params or DecoderParams()

    @abc.abstractmethod
    def _compute_logits(
        self, params: Any, batch: Batch, dropout_rng: jax.Array | None = None
    ) -> jax.Array:
        """(batch, length, vocabulary)."""

    @abc.abstractmethod
    def get_initial_variables(self, rng, input_shapes, input_types=None) -> Any:
        """The network's variables before training: `params` and `params_axes`."""

    @abc.abstractmethod
    def score_batch(self, params: Any, batch: Batch) -> jax.Array:
        """Σ decoder_loss_weights·log probability, without z-loss: (batch,)."""

    @abc.abstractmethod
    def predict_batch_with_aux(
        self, params: Any, batch: Batch, rng: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The predicted tokens, and what else is known of every example."""

    def predict_batch(self, params, batch, rng=None) -> jax.Array:
        """The predicted tokens of every example: (batch, targets length)."""
        return self.predict_batch_with_aux(params, batch, rng)[0]

    def eval_fn(self, params, batch) -> tuple[jax.Array, MetricsMap]:
        """The loss without dropout."""
        return self.loss_fn(params, batch, None)

    def loss_fn(self, params, batch, dropout_rng):
        """Cross entropy summed over the target tokens (divided by the loss factor).

        No key means no dropout.
        """
        logits = self._compute_logits(params, batch, dropout_rng)
        factor, weights = losses.get_loss_normalizing_factor_and_weights(
            self._loss_normalizing_factor, batch
        )
        loss, z_loss, _ = losses.compute_weighted_cross_entropy(
            logits,
            targets=batch["decoder_target_tokens"],
            weights=weights,
            label_smoothing=self._label_smoothing,
            z_loss=self._z_loss,
            loss_normalizing_factor=factor,
        )
        suffix = "_segment_ids"
        segment_ids = {
            k.removesuffix(suffix): v for k, v in batch.items() if k.endswith(suffix)
        } or {k: batch[k] != 0 for k in ("encoder_input_tokens", "decoder_target_tokens")}
        return loss, compute_base_metrics(
            logits, batch["decoder_target_tokens"], weights, loss, z_loss, segment_ids
        )


class EncoderDecoderModel(BaseTransformerModel):
    """Targets given inputs: with teacher forcing, or decoded one after another."""

    FEATURE_CONVERTER_CLS = seqio.EncDecFeatureConverter

    def get_initial_variables(self, rng, input_shapes, input_types=None):
        types = input_types or {}

        def ones(name, default_type):
            if name not in input_shapes:
                return None
            return jnp.ones(input_shapes[name], types.get(name, default_type))

        decoder_inputs = ones("decoder_input_tokens", jnp.float32)
        optional = (
            "encoder_segment_ids",
            "decoder_segment_ids",
            "encoder_positions",
            "decoder_positions",
        )
        variables = self.module.init(
            rng,
            ones("encoder_input_tokens", jnp.float32),
            decoder_inputs,
            decoder_inputs,
            **{name: ones(name, jnp.int32) for name in optional},
            enable_dropout=False,
        )
        return core.freeze(variables)

    def _compute_logits(self, params, batch, dropout_rng=None):
        return self.module.apply(
            {"params": params},
            batch["encoder_input_tokens"],
            batch["decoder_input_tokens"],
            batch["decoder_target_tokens"],
            encoder_segment_ids=batch.get("encoder_segment_ids"),
            decoder_segment_ids=batch.get("decoder_segment_ids"),
            enable_dropout=dropout_rng is not None,
            rngs=None if dropout_rng is None else {"dropout": dropout_rng},
        )

    def _start_decoding(self, params, inputs, prompts, num_decodes):
        """Encodes. Returns an empty cache, and `tokens_to_logits` of every decode."""
        encoded: Any = self.module.apply(
            {"params": params}, inputs, enable_dropout=False, method="encode"
        )

        def decode(variables: Any, encoded: Any, inputs: Any, tokens: Any) -> Any:
            return self.module.apply(
                variables,
                encoded,
                inputs,
                tokens,
                tokens,
                enable_dropout=False,
                decode=True,
                max_decode_length=prompts.shape[1],
                mutable=["cache"],
                method="decode",
            )

        _, shapes = jax.eval_shape(decode, {"params": params}, encoded, inputs, prompts)
        cache = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes["cache"])
        all_encoded = jnp.repeat(encoded, num_decodes, axis=0)
        all_inputs = jnp.repeat(inputs, num_decodes, axis=0)

        def tokens_to_logits(state: decoding.DecodingState) -> tuple[jax.Array, Any]:
            variables = {"params": params, "cache": state.cache}
            logits, new = decode(variables, all_encoded, all_inputs, state.cur_token)
            return logits[:, 0], new["cache"]

        return cache, tokens_to_logits

    def predict_batch_with_aux(
        self,
        params: Any,
        batch: Batch,
        rng: jax.Array | None = None,
        decoder_params: Mapping[str, Any] | None = None,
        return_all_decodes: bool | None = None,
        num_decodes: int | None = None,
        prompt_with_targets: bool = False,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Decodes the targets with `decode_fn`, for as long as the batch's targets are.

        Args:
            params: of the network.
            batch: one example a row: `encoder_input_tokens`, and `decoder_input_tokens`,
                of which only the shape counts unless `prompt_with_targets`.
            rng: the `decode_rng` of `decode_fn`.
            decoder_params: further arguments of `decode_fn`.
            return_all_decodes: all `num_decodes`, the best last; else the best alone.
            num_decodes: beams, or samples, of every example.
            prompt_with_targets: the decoder's inputs, less `eos_id`, begin the targets.

        Returns:
            Tokens (batch, targets length) and {"scores": (batch,)}; with
            `return_all_decodes` (batch, num_decodes, targets length) and
            (batch, num_decodes).

        Raises:
            ValueError: a key both in `rng` and in decoder_params["decode_rng"].
        """
        defaults, settings = self._default_decoder_params, dict(decoder_params or {})
        if return_all_decodes is None:
            return_all_decodes = defaults.return_all_decodes
        if num_decodes is None:
            num_decodes = defaults.num_decodes
        if rng is not None:
            if settings.get("decode_rng") is not None:
                raise ValueError(
                    'got keys both in rng and in decoder_params["decode_rng"]: give one'
                )
            settings["decode_rng"] = rng
        eos_id = settings.setdefault("eos_id", self.output_vocabulary.eos_id or 1)
        inputs, prompts = batch["encoder_input_tokens"], batch["decoder_input_tokens"]
        if prompt_with_targets:
            prompts = jnp.where(prompts == eos_id, 0, prompts)
        else:
            prompts = jnp.zeros_like(prompts)

        cache, tokens_to_logits = self._start_decoding(
            params, inputs, prompts, num_decodes
        )
        decodes, scores = self.decode_fn(
            inputs=prompts,
            cache=cache,
            tokens_to_logits=tokens_to_logits,
            num_decodes=num_decodes,
            **settings,
        )
        if return_all_decodes:
            return decodes, {"scores": scores}
        return decodes[:, -1], {"scores": scores[:, -1]}

    def score_batch(self, params: Any, batch: Batch) -> jax.Array:
        logits = self._compute_logits(params, batch)
        targets = common_utils.onehot(batch["decoder_target_tokens"], logits.shape[-1])
        nll, _ = losses.cross_entropy_with_logits(logits, targets, 0.0)
        return -jnp.sum(nll * batch["decoder_loss_weights"], axis=-1)


def _count_packed_examples(segment_ids: jax.Array) -> jax.Array:
    """Number of examples in (batch, length) segment ids, of which 0 is padding."""
    starts = (segment_ids[:, 1:] != segment_ids[:, :-1]) & (segment_ids[:, 1:] != 0)
    return jnp.sum(starts) + jnp.sum(segment_ids[:, 0] != 0)


def compute_base_metrics(
    logits: jax.Array,
    targets: jax.Array,
    mask: jax.Array | None,
    loss: jax.Array,
    z_loss: jax.Array,
    segment_ids: Mapping[str, jax.Array],
) -> MetricsMap:
    """T5X's metrics of a batch.

    Args:
        logits: (batch, length, vocabulary).
        targets: (batch, length).
        mask: (batch, length), 1 where a target counts, or None.
        loss: summed over the batch.
        z_loss: the part of `loss` that is z-loss.
        segment_ids: per feature, (batch, length), 0 for padding.
    """
    # Counts are added over steps, beyond what 32 bits of an integer hold.
    tokens = jnp.array(targets.size, jnp.float32)
    examples = jnp.array(targets.shape[0], jnp.float32)
    real_targets = tokens if mask is None else jnp.sum(mask, dtype=jnp.float32)
    accuracy = clu_metrics.Accuracy.from_model_output(
        logits=logits, labels=targets.astype(jnp.int32), mask=mask
    )
    average, per_step = clu_metrics.Average, metrics_lib.AveragePerStep
    rate = metrics_lib.TimeRate
    cores = jax.device_count()
    metrics: MetricsMap = {
        "accuracy": accuracy.replace(count=accuracy.count.astype(jnp.float32)),
        "loss": per_step(total=loss),
        "loss_per_nonpadding_target_token": average(total=loss, count=real_targets),
        "loss_per_all_target_tokens": average(total=loss, count=tokens),
        "z_loss": per_step(total=z_loss),
        "z_loss_per_all_target_tokens": average(total=z_loss, count=tokens),
        "cross_ent_loss": per_step(total=loss - z_loss),
        "cross_ent_loss_per_all_target_tokens": average(
            total=loss - z_loss, count=tokens
        ),
        "timing/seconds": metrics_lib.Time(),
        "timing/seqs": metrics_lib.Sum(examples),
        "timing/seqs_per_second": rate(numerator=examples),
        "timing/seqs_per_second_per_core": rate(numerator=examples / cores),
        "timing/steps_per_second": metrics_lib.StepsPerTime.from_model_output(),
        "timing/target_tokens_per_second": rate(numerator=tokens),
        "timing/target_tokens_per_second_per_core": rate(numerator=tokens / cores),
        "non_padding_fraction/loss_weights": average(total=real_targets, count=tokens),
    }
    total_real = total = jnp.array(0.0)
    for feature, ids in segment_ids.items():
        real = jnp.sum(ids != 0, dtype=jnp.float32)
        size = jnp.array(ids.size, jnp.float32)
        metrics[f"effective_batch_size/{feature}"] = per_step(
            total=_count_packed_examples(ids).astype(jnp.float32)
        )
        metrics[f"non_padding_fraction/{feature}"] = average(total=real, count=size)
        total_real, total = total_real + real, total + size
    metrics["non_padding_fraction/overall"] = average(total=total_real, count=total)
    return metrics
