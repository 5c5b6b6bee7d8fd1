"""The T5 1.1 encoder-decoder, with T5X's parameter tree."""

from collections.abc import Sequence

from flax import linen as nn, struct
import jax
import jax.numpy as jnp
from t5x.checks import Count, Dtype, Share, Whole, checked
from t5x.examples.t5 import layers


@checked
@struct.dataclass
class T5Config:
    """Sizes of the network. `dtype` is that of activations: a dtype or its name."""

    vocab_size: Count
    dtype: Dtype = jnp.float32
    emb_dim: Count = 512
    num_heads: Count = 8
    num_encoder_layers: Whole = 6
    num_decoder_layers: Whole = 6
    head_dim: Count = 64
    mlp_dim: Count = 2048
    mlp_activations: Sequence[layers.Activation] = ("relu",)
    dropout_rate: Share = 0.1
    logits_via_embedding: bool = False
    float32_attention_logits: bool = False

    def __post_init__(self):
        if not self.mlp_activations:
            raise ValueError("T5Config.mlp_activations=(): name at least one")


def _norm(cfg: T5Config, name: str) -> layers.LayerNorm:
    return layers.LayerNorm(dtype=cfg.dtype, name=name)


def _dropout(cfg: T5Config) -> nn.Dropout:
    return nn.Dropout(rate=cfg.dropout_rate, broadcast_dims=(-2,))


def _attention(cfg: T5Config, name: str) -> layers.MultiHeadDotProductAttention:
    return layers.MultiHeadDotProductAttention(
        num_heads=cfg.num_heads,
        head_dim=cfg.head_dim,
        dtype=cfg.dtype,
        dropout_rate=cfg.dropout_rate,
        float32_logits=cfg.float32_attention_logits,
        name=name,
    )


def _mlp(cfg: T5Config) -> layers.MlpBlock:
    return layers.MlpBlock(
        intermediate_dim=cfg.mlp_dim,
        activations=cfg.mlp_activations,
        intermediate_dropout_rate=cfg.dropout_rate,
        dtype=cfg.dtype,
        name="mlp",
    )


def _relative_positions(cfg: T5Config) -> layers.RelativePositionBiases:
    return layers.RelativePositionBiases(
        num_buckets=32,
        max_distance=128,
        num_heads=cfg.num_heads,
        dtype=cfg.dtype,
        embedding_init=nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
        name="relpos_bias",
    )


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each normed before and added to its input."""

    config: T5Config
    relative_embedding: nn.Module

    @nn.compact
    def __call__(self, inputs, encoder_mask=None, deterministic=False):
        cfg = self.config
        length = inputs.shape[-2]
        bias = self.relative_embedding(length, length, True)
        x = _norm(cfg, "pre_attention_layer_norm")(inputs)
        x = _attention(cfg, "attention")(
            x, x, encoder_mask, bias, deterministic=deterministic
        )
        x = inputs + _dropout(cfg)(x, deterministic=deterministic)
        y = _norm(cfg, "pre_mlp_layer_norm")(x)
        y = _mlp(cfg)(y, deterministic=deterministic)
        return x + _dropout(cfg)(y, deterministic=deterministic)


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder, and MLP."""

    config: T5Config
    relative_embedding: nn.Module

    @nn.compact
    def __call__(
        self,
        inputs,
        encoded,
        decoder_mask=None,
        encoder_decoder_mask=None,
        deterministic=False,
        decode=False,
        max_decode_length=None,
    ):
        cfg = self.config
        length = (decode and max_decode_length) or inputs.shape[-2]
        bias = self.relative_embedding(length, length, False)
        x = _norm(cfg, "pre_self_attention_layer_norm")(inputs)
        x = _attention(cfg, "self_attention")(
            x, x, decoder_mask, bias, decode=decode, deterministic=deterministic
        )
        x = inputs + _dropout(cfg)(x, deterministic=deterministic)
        y = _norm(cfg, "pre_cross_attention_layer_norm")(x)
        y = _attention(cfg, "encoder_decoder_attention")(
            y, encoded, encoder_decoder_mask, deterministic=deterministic
        )
        y = x + _dropout(cfg)(y, deterministic=deterministic)
        z = _norm(cfg, "pre_mlp_layer_norm")(y)
        z = _mlp(cfg)(z, deterministic=deterministic)
        return y + _dropout(cfg)(z, deterministic=deterministic)


class Encoder(nn.Module):
    """(batch, length) tokens to (batch, length, emb_dim)."""

    config: T5Config
    shared_embedding: nn.Module

    @nn.compact
    def __call__(self, encoder_input_tokens, encoder_mask=None, deterministic=False):
        cfg = self.config
        relative_positions = _relative_positions(cfg)
        x = self.shared_embedding(encoder_input_tokens.astype("int32"))
        x = _dropout(cfg)(x, deterministic=deterministic).astype(cfg.dtype)
        for i in range(cfg.num_encoder_layers):
            x = EncoderLayer(cfg, relative_positions, name=f"layers_{i}")(
                x, encoder_mask, deterministic
            )
        x = _norm(cfg, "encoder_norm")(x)
        return nn.Dropout(rate=cfg.dropout_rate)(x, deterministic=deterministic)


class Decoder(nn.Module):
    """(batch, length) shifted tokens to logits (batch, length, vocab_size)."""

    config: T5Config
    shared_embedding: nn.Module

    @nn.compact
    def __call__(
        self,
        encoded,
        decoder_input_tokens,
        decoder_mask=None,
        encoder_decoder_mask=None,
        deterministic=False,
        decode=False,
        max_decode_length=None,
    ):
        cfg = self.config
        relative_positions = _relative_positions(cfg)
        y = self.shared_embedding(decoder_input_tokens.astype("int32"))
        y = _dropout(cfg)(y, deterministic=deterministic).astype(cfg.dtype)
        for i in range(cfg.num_decoder_layers):
            y = DecoderLayer(cfg, relative_positions, name=f"layers_{i}")(
                y,
                encoded,
                decoder_mask,
                encoder_decoder_mask,
                deterministic,
                decode,
                max_decode_length,
            )
        y = _norm(cfg, "decoder_norm")(y)
        y = _dropout(cfg)(y, deterministic=deterministic)
        if cfg.logits_via_embedding:
            return self.shared_embedding.attend(y) / jnp.sqrt(y.shape[-1])
        return layers.DenseGeneral(
            cfg.vocab_size,
            dtype=jnp.float32,  # stable softmax whatever the activations' dtype
            kernel_axes=("embed", "vocab"),
            name="logits_dense",
        )(y)


class Transformer(nn.Module):
    """The encoder-decoder."""

    config: T5Config

    def setup(self):
        cfg = self.config
        self.token_embedder = layers.Embed(
            num_embeddings=cfg.vocab_size,
            features=cfg.emb_dim,
            dtype=cfg.dtype,
            attend_dtype=jnp.float32,
            embedding_init=nn.initializers.normal(stddev=1.0),
        )
        self.encoder = Encoder(cfg, self.token_embedder)
        self.decoder = Decoder(cfg, self.token_embedder)

    def encode(
        self,
        encoder_input_tokens: jax.Array,
        encoder_segment_ids: jax.Array | None = None,
        enable_dropout: bool = True,
    ) -> jax.Array:
        """What the decoder attends to: (batch, inputs length, emb_dim)."""
        real = encoder_input_tokens > 0
        mask = self._mask(real, real, encoder_segment_ids, encoder_segment_ids)
        return self.encoder(encoder_input_tokens, mask, not enable_dropout)

    def _mask(self, queries, keys, query_segments, key_segments, *masks):
        """(b, 1, q, k): pairs of real tokens, of one packed example, in all masks."""
        pairs = nn.make_attention_mask(queries, keys)
        same = None
        if query_segments is not None and key_segments is not None:
            same = nn.make_attention_mask(query_segments, key_segments, jnp.equal)
        return nn.combine_masks(pairs, same, *masks, dtype=self.config.dtype)

    def decode(
        self,
        encoded: jax.Array,
        encoder_input_tokens: jax.Array,
        decoder_input_tokens: jax.Array,
        decoder_target_tokens: jax.Array,
        encoder_segment_ids: jax.Array | None = None,
        decoder_segment_ids: jax.Array | None = None,
        decoder_positions: jax.Array | None = None,
        enable_dropout: bool = True,
        decode: bool = False,
        max_decode_length: int | None = None,
    ) -> jax.Array:
        """Logits of every target token given those before it.

        Args:
            encoded: (batch, inputs length, emb_dim), from `encode`.
            encoder_input_tokens: (batch, inputs length), of which 0 is masked.
            decoder_input_tokens: (batch, targets length), targets shifted right.
            decoder_target_tokens: (batch, targets length); 0 is padding.
            encoder_segment_ids: of packed examples, or None.
            decoder_segment_ids: likewise.
            decoder_positions: unused; attention knows relative positions.
            enable_dropout: needs a key named "dropout".
            decode: one position a call, with those before it in the collection
                "cache"; the call without that collection makes it, as long as its
                tokens are. No target is padding then.
            max_decode_length: length of that cache, where it exists.

        Returns:
            (batch, targets length, vocab_size).

        Raises:
            ValueError: packed examples with `decode`.
        """
        del decoder_positions
        inputs_real, targets_real = encoder_input_tokens > 0, decoder_target_tokens > 0
        if decode:
            if encoder_segment_ids is not None or decoder_segment_ids is not None:
                raise ValueError(
                    "decoding with a cache takes one example a row: got segment ids of "
                    "packed examples. Set pack = False in the dataset's configuration"
                )
            decoder_mask, targets_real = None, jnp.ones_like(targets_real)
        else:
            causal = nn.make_causal_mask(decoder_target_tokens)
            segments = decoder_segment_ids, decoder_segment_ids
            decoder_mask = self._mask(targets_real, targets_real, *segments, causal)
        segments = decoder_segment_ids, encoder_segment_ids
        cross_mask = self._mask(targets_real, inputs_real, *segments)
        return self.decoder(
            encoded,
            decoder_input_tokens,
            decoder_mask,
            cross_mask,
            not enable_dropout,
            decode,
            max_decode_length,
        )

    def __call__(
        self,
        encoder_input_tokens: jax.Array,
        decoder_input_tokens: jax.Array,
        decoder_target_tokens: jax.Array,
        encoder_segment_ids: jax.Array | None = None,
        decoder_segment_ids: jax.Array | None = None,
        encoder_positions: jax.Array | None = None,
        decoder_positions: jax.Array | None = None,
        *,
        enable_dropout: bool = True,
        decode: bool = False,
    ) -> jax.Array:
        """Logits of every target token given those before it: `encode`, then `decode`.

        Attention stays within a segment of packed examples. Dropout needs a key named
        "dropout".
        """
        del encoder_positions
        encoded = self.encode(encoder_input_tokens, encoder_segment_ids, enable_dropout)
        return self.decode(
            encoded,
            encoder_input_tokens,
            decoder_input_tokens,
            decoder_target_tokens,
            encoder_segment_ids,
            decoder_segment_ids,
            decoder_positions,
            enable_dropout,
            decode,
        )
