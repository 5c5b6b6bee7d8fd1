"""Cross entropy with z-loss, and how a loss is normalized."""

from collections.abc import Mapping
import enum
from typing import Annotated, Any

from flax.training import common_utils
import jax
import jax.numpy as jnp
from t5x.checks import checked


@jax.custom_vjp
def cross_entropy_with_logits(
    logits: jax.Array, targets: jax.Array, z_loss: float
) -> tuple[jax.Array, jax.Array]:
    """-Σ targets·log softmax(logits) + z_loss·(log Z)².

    Its own backward pass reuses the forward pass's exponentials: softmax - targets,
    instead of differentiating through logsumexp. Forward-mode differentiation raises.

    Args:
        logits: (..., vocabulary).
        targets: (..., vocabulary), a distribution over the vocabulary.
        z_loss: coefficient of the auxiliary loss (Mesh TensorFlow's z-loss).

    Returns:
        The loss, z-loss included, and the z-loss alone, both (...).
    """
    return _cross_entropy_fwd(logits, targets, z_loss)[0]


def _cross_entropy_fwd(logits, targets, z_loss):
    peak = logits.max(axis=-1, keepdims=True)
    shifted = logits - peak
    exp_shifted = jnp.exp(shifted)
    normalizer = jnp.sum(exp_shifted, axis=-1, keepdims=True)
    log_probs = shifted - jnp.log(normalizer)
    log_z = jnp.squeeze(jnp.log(normalizer) + peak, axis=-1)
    z_term = z_loss * jax.lax.square(log_z)
    loss = -jnp.sum(targets * log_probs, axis=-1) + z_term
    saved = (logits, targets, z_loss, exp_shifted, normalizer, log_probs, log_z)
    return (loss, z_term), saved


def _cross_entropy_bwd(saved, cotangents):
    logits, targets, z_loss, exp_shifted, normalizer, log_probs, log_z = saved
    g = cotangents[0][..., None]  # the z-loss output is for logging: no gradient
    weight = jnp.expand_dims(1 + 2 * z_loss * log_z, -1)
    d_logits = g * (weight * exp_shifted / normalizer - targets)
    d_targets = -g * log_probs
    return d_logits.astype(logits.dtype), d_targets.astype(targets.dtype), jnp.array(0.0)


cross_entropy_with_logits.defvjp(_cross_entropy_fwd, _cross_entropy_bwd)


def compute_weighted_cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    weights: jax.Array | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: float | jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array | int]:
    """Sums the cross entropy over a batch.

    Args:
        logits: (batch, length, vocabulary).
        targets: (batch, length) integer classes.
        weights: (batch, length), or None for 1 everywhere.
        label_smoothing: probability spread over the other classes. The loss is
            shifted so that a perfect prediction scores 0.
        z_loss: see `cross_entropy_with_logits`.
        loss_normalizing_factor: what the sum is divided by; None for 1.

    Returns:
        The loss, the z-loss in it, and the sum of the weights: scalars.

    Raises:
        ValueError: logits do not have exactly one more dimension than targets.
    """
    if logits.ndim != targets.ndim + 1:
        raise ValueError(
            f"logits must be targets with a vocabulary axis: got {logits.shape} for "
            f"targets of {targets.shape}"
        )
    vocab_size = logits.shape[-1]
    confidence = 1.0 - label_smoothing
    low_confidence = (1.0 - confidence) / max(vocab_size - 1, 1)
    entropy_of_smoothing = -(
        confidence * jnp.log(confidence)
        + (vocab_size - 1) * low_confidence * jnp.log(low_confidence + 1e-20)
    )
    soft_targets = common_utils.onehot(
        targets, vocab_size, on_value=confidence, off_value=low_confidence
    )
    loss, z_term = cross_entropy_with_logits(logits, soft_targets, z_loss)
    loss = loss - entropy_of_smoothing
    weight_sum: jax.Array | int = targets.size
    if weights is not None:
        loss, z_term, weight_sum = loss * weights, z_term * weights, jnp.sum(weights)
    if loss_normalizing_factor is not None:
        loss /= loss_normalizing_factor
        z_term /= loss_normalizing_factor
    return jnp.sum(loss), jnp.sum(z_term), weight_sum


@enum.unique
class SpecialLossNormalizingFactor(enum.Enum):
    """Loss divisors that depend on the batch; gin names them by strings."""

    NUM_REAL_TARGET_TOKENS = 1
    NUM_TOTAL_TARGET_TOKENS = 2


_FACTORS = [*SpecialLossNormalizingFactor.__members__]
FactorName = Annotated[str, (*_FACTORS, *map(str.lower, _FACTORS))]


@checked
def get_loss_normalizing_factor_and_weights(
    loss_normalizing_factor: float | FactorName | SpecialLossNormalizingFactor | None,
    batch: Mapping[str, Any],
) -> tuple[float | int | jax.Array | None, jax.Array | None]:
    """The divisor of the loss and the weight of every target token.

    Args:
        loss_normalizing_factor: a number, None, or a `SpecialLossNormalizingFactor`
            or its name.
        batch: has decoder_target_tokens, and decoder_loss_weights if not all of its
            non-padding tokens count.

    Raises:
        ValueError: the name is not that of a factor.
    """
    weights = batch.get("decoder_loss_weights")
    factor = loss_normalizing_factor
    if isinstance(factor, str):
        factor = SpecialLossNormalizingFactor[factor.upper()]
    if not isinstance(factor, SpecialLossNormalizingFactor):
        return factor, weights
    targets = batch["decoder_target_tokens"]
    if weights is None:
        weights = jnp.asarray(targets > 0, jnp.float32)
    if factor is SpecialLossNormalizingFactor.NUM_REAL_TARGET_TOKENS:
        return jnp.sum(weights), weights
    return targets.size, weights
