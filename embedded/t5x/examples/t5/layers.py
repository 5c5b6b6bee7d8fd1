"""T5's layers, with T5X's parameter names, initial values and random streams.

Axis names in shapes: b batch, q query length, k key length, h heads, d head dimension.
Parameters are kept in float32 and cast to the computation's dtype.
"""

from collections.abc import Callable, Sequence
import functools
import operator
from typing import Annotated, Any

from flax import linen as nn
from flax.linen import partitioning as nn_partitioning
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

_MASKED = -1e10


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    dropout_rng: jax.Array | None = None,
    dropout_rate: float = 0.0,
    deterministic: bool = False,
    dtype: Any = jnp.float32,
    float32_logits: bool = False,
) -> jax.Array:
    """softmax(query·key + bias)·value, unscaled: T5 scales the query's initializer.

    Args:
        query: (b, q, h, d).
        key: (b, k, h, d).
        value: (b, k, h, d).
        bias: broadcasts to (b, h, q, k), or None.
        dropout_rng: key for dropout of attention weights, shared by all queries.
        dropout_rate: in [0, 1).
        deterministic: no dropout.
        dtype: of the attention weights.
        float32_logits: compute the logits and softmax in float32.

    Returns:
        (b, q, h, d).
    """
    if float32_logits:
        query, key = query.astype(jnp.float32), key.astype(jnp.float32)
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key)
    if bias is not None:
        logits = logits + bias.astype(logits.dtype)
    weights = jax.nn.softmax(logits).astype(dtype)
    if not deterministic and dropout_rate > 0.0:
        assert dropout_rng is not None
        b, h, _, k = weights.shape
        keep = jax.random.bernoulli(dropout_rng, 1.0 - dropout_rate, (b, h, 1, k))
        scale = jnp.asarray(1.0 - dropout_rate, dtype)
        weights = weights * (keep.astype(weights.dtype) / scale)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


class DenseGeneral(nn.Module):
    """A linear map without bias over one or more axes, its kernel kept as a matrix."""

    features: int | Sequence[int]
    axis: int | Sequence[int] = -1
    dtype: Any = jnp.float32
    kernel_init: Callable = nn.initializers.variance_scaling(
        1.0, "fan_in", "truncated_normal"
    )
    kernel_axes: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        features = tuple(np.atleast_1d(self.features).tolist())
        axes = tuple(a % inputs.ndim for a in np.atleast_1d(self.axis).tolist())
        inputs = jnp.asarray(inputs, self.dtype)
        in_shape = tuple(inputs.shape[a] for a in axes)
        kernel = nn_partitioning.param_with_axes(
            "kernel",
            self.kernel_init,
            (int(np.prod(in_shape)), int(np.prod(features))),
            jnp.float32,
            axes=self.kernel_axes,
        )
        kernel = jnp.asarray(kernel, self.dtype).reshape(in_shape + features)
        contracted = tuple(range(len(axes)))
        return lax.dot_general(inputs, kernel, ((axes, contracted), ((), ())))


class MultiHeadDotProductAttention(nn.Module):
    """Multi-head attention, of whole sequences or of one position after another."""

    num_heads: int
    head_dim: int
    dtype: Any = jnp.float32
    dropout_rate: float = 0.0
    kernel_init: Callable = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    float32_logits: bool = False

    @nn.compact
    def __call__(
        self,
        inputs_q: jax.Array,
        inputs_kv: jax.Array,
        mask: jax.Array | None = None,
        bias: jax.Array | None = None,
        *,
        decode: bool = False,
        deterministic: bool = False,
    ) -> jax.Array:
        """Attends.

        Args:
            inputs_q: (b, q, emb).
            inputs_kv: (b, k, emb).
            mask: (b, 1, q, k); a query sees the keys where it is positive.
            bias: (1, h, q, k), added to the logits.
            decode: keep keys and values in the collection "cache". The call without
                that collection makes it, as long as its inputs are; each later call
                is one position, which sees itself and those before it.
            deterministic: no dropout.

        Raises:
            ValueError: a later call with more than one position.
        """
        project = functools.partial(
            DenseGeneral,
            features=(self.num_heads, self.head_dim),
            kernel_axes=("embed", "joined_kv"),
            dtype=self.dtype,
        )
        scale = jnp.sqrt(self.head_dim).astype(self.dtype)
        query_init = lambda *args: self.kernel_init(*args) / scale
        query = project(kernel_init=query_init, name="query")(inputs_q)
        key = project(kernel_init=self.kernel_init, name="key")(inputs_kv)
        value = project(kernel_init=self.kernel_init, name="value")(inputs_kv)
        query, key, value = (
            nn_partitioning.with_sharding_constraint(
                x, ("batch", "length", "heads", "kv")
            )
            for x in (query, key, value)
        )
        if decode:
            key, value, mask, bias = self._remember(key, value, mask, bias)
        if mask is not None:
            mask_bias = jnp.where(mask > 0, 0.0, _MASKED).astype(self.dtype)
            bias = mask_bias if bias is None else mask_bias + bias
        drops = not deterministic and self.dropout_rate > 0.0
        attended = dot_product_attention(
            query,
            key,
            value,
            bias,
            self.make_rng("dropout") if drops else None,
            self.dropout_rate,
            deterministic,
            self.dtype,
            self.float32_logits,
        )
        return DenseGeneral(
            features=inputs_q.shape[-1],
            axis=(-2, -1),
            kernel_init=self.kernel_init,
            kernel_axes=("joined_kv", "embed"),
            dtype=self.dtype,
            name="out",
        )(attended)

    def _remember(self, key, value, mask, bias):
        """Keeps a position. Returns all keys and values, and its mask and bias."""
        is_kept = self.has_variable("cache", "cached_key")
        keys = self.variable("cache", "cached_key", jnp.zeros_like, key)
        values = self.variable("cache", "cached_value", jnp.zeros_like, value)
        index = self.variable("cache", "cache_index", lambda: jnp.zeros((), jnp.int32))
        if not is_kept:
            return key, value, mask, bias
        if key.shape[1] != 1:
            raise ValueError(
                f"decoding with a cache takes one position a call: got {key.shape[1]}"
            )
        position, length = index.value, keys.value.shape[1]
        keys.value = lax.dynamic_update_slice_in_dim(keys.value, key, position, 1)
        values.value = lax.dynamic_update_slice_in_dim(values.value, value, position, 1)
        index.value = position + 1
        seen = (jnp.arange(length) <= position)[None, None, None, :]
        if bias is not None:
            bias = lax.dynamic_slice_in_dim(bias, position, 1, axis=-2)
        return keys.value, values.value, nn.combine_masks(mask, seen), bias


Activation = Annotated[
    str,
    ("celu", "elu", "gelu", "leaky_relu", "linear", "relu", "selu", "sigmoid", "silu")
    + ("softplus", "swish", "tanh"),
]


def _activation(name: str | Callable) -> Callable:
    if callable(name):
        return name
    return (lambda x: x) if name == "linear" else getattr(nn, name)


class MlpBlock(nn.Module):
    """Feed-forward block; with several activations, the product of one branch each."""

    intermediate_dim: int = 2048
    activations: Sequence[str | Callable] = ("relu",)
    intermediate_dropout_rate: float = 0.1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, deterministic: bool = False) -> jax.Array:
        dense = functools.partial(DenseGeneral, dtype=self.dtype)
        names = [f"wi_{i}" for i in range(len(self.activations))]
        if len(names) == 1:
            names = ["wi"]
        branches = [
            _activation(act)(
                dense(self.intermediate_dim, kernel_axes=("embed", "mlp"), name=name)(
                    inputs
                )
            )
            for act, name in zip(self.activations, names, strict=True)
        ]
        x = functools.reduce(operator.mul, branches)
        x = nn.Dropout(self.intermediate_dropout_rate, broadcast_dims=(-2,))(
            x, deterministic=deterministic
        )
        x = nn_partitioning.with_sharding_constraint(x, ("batch", "length", "mlp"))
        return dense(inputs.shape[-1], kernel_axes=("mlp", "embed"), name="wo")(x)


class Embed(nn.Module):
    """Token embedding, and logits by the same matrix."""

    num_embeddings: int
    features: int
    embedding_init: Callable
    dtype: Any = jnp.float32
    attend_dtype: Any = None

    def setup(self):
        self.embedding = nn_partitioning.param_with_axes(
            "embedding",
            self.embedding_init,
            (self.num_embeddings, self.features),
            jnp.float32,
            axes=("vocab", "embed"),
        )

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """(...) integers to (..., features), 0 for those that are not in the table."""
        rows = jnp.take(self.embedding, tokens, axis=0, fill_value=0)
        return jnp.asarray(rows, self.dtype)  # gradients are summed in float32

    def attend(self, query: jax.Array) -> jax.Array:
        """(..., features) to logits (..., num_embeddings)."""
        return jnp.dot(
            query, jnp.asarray(self.embedding, self.attend_dtype or self.dtype).T
        )


def _relative_position_bucket(
    distance: np.ndarray, bidirectional: bool, num_buckets: int, max_distance: int
) -> np.ndarray:
    """Buckets of key position minus query position: exact when near, then logarithmic."""
    bucket = np.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        bucket += num_buckets * (distance > 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = num_buckets // 2
    ratio = distance.astype(np.float32) / exact + np.finfo(np.float32).eps
    spread = np.log(ratio) / np.log(max_distance / exact) * (num_buckets - exact)
    far = np.minimum(exact + spread.astype(np.int32), num_buckets - 1)
    return bucket + np.where(distance < exact, distance, far)


class RelativePositionBiases(nn.Module):
    """A learned bias per head and bucket of relative position."""

    num_buckets: int
    max_distance: int
    num_heads: int
    dtype: Any
    embedding_init: Callable = nn.linear.default_embed_init

    @nn.compact
    def __call__(self, qlen: int, klen: int, bidirectional: bool = True) -> jax.Array:
        """(1, heads, qlen, klen)."""
        distance = (
            np.arange(klen, dtype=np.int32) - np.arange(qlen, dtype=np.int32)[:, None]
        )
        buckets = _relative_position_bucket(
            distance, bidirectional, self.num_buckets, self.max_distance
        )
        table = nn_partitioning.param_with_axes(
            "rel_embedding",
            self.embedding_init,
            (self.num_heads, self.num_buckets),
            jnp.float32,
            axes=("heads", "relpos_buckets"),
        )
        # A product with a one-hot tensor: faster on accelerators than a gather.
        one_hot = np.arange(self.num_buckets)[:, None, None] == buckets
        values = lax.dot_general(
            jnp.asarray(table, self.dtype),
            jnp.asarray(one_hot, self.dtype),
            (((1,), (0,)), ((), ())),
        )
        return values[None]


class LayerNorm(nn.Module):
    """Division by the root mean square, and a scale: no mean, no bias."""

    epsilon: float = 1e-6
    dtype: Any = jnp.float32
    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.asarray(x, jnp.float32)
        mean_square = jnp.mean(lax.square(x), axis=-1, keepdims=True)
        y = jnp.asarray(x * lax.rsqrt(mean_square + self.epsilon), self.dtype)
        scale = nn_partitioning.param_with_axes(
            "scale", self.scale_init, (x.shape[-1],), jnp.float32, axes=("embed",)
        )
        return y * jnp.asarray(scale, self.dtype)
