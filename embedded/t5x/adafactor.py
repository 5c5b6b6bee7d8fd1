"""Adafactor (Shazeer and Stern, https://arxiv.org/abs/1804.04235), as T5 uses it."""

from collections.abc import Mapping, Sequence
import enum
from typing import Any

from flax import core, struct
import jax
import jax.numpy as jnp
import numpy as np
from t5x import optimizers
from t5x.checks import Amount, Integer, Positive, Share, Whole, checked


class FactorDim(enum.Enum):
    """The part that an axis plays in a factored second moment."""

    NONE = None
    BATCH = 1
    ROW = 2
    COLUMN = 3


def standard_logical_factor_rules() -> Mapping[str, FactorDim]:
    """T5's logical axes and their parts. For matrices the two largest axes decide."""
    columns = ("vocab", "mlp", "heads", "kv", "joined_kv")
    return core.freeze(
        dict.fromkeys(columns, FactorDim.COLUMN)
        | {"embed": FactorDim.ROW, "relpos_buckets": FactorDim.NONE}
    )


@struct.dataclass
class _HyperParams:
    learning_rate: float | None
    factored: bool
    multiply_by_parameter_scale: bool
    beta1: float | None
    decay_rate: float
    step_offset: int
    clipping_threshold: float | None
    weight_decay_rate: float | None
    min_dim_size_to_factor: int
    epsilon1: float
    epsilon2: float


@struct.dataclass
class _ParamState:
    """Moments of one parameter, float32. Those not kept are zeros of shape (1,)."""

    v_row: Any
    v_col: Any
    v: Any
    m: Any


class Adafactor(optimizers.OptimizerDef):
    """Adafactor with relative step sizes and optional momentum.

    u = clip(g / sqrt(v));  m = β1·m + (1 - β1)·lr·max(ε2, RMS(θ))·u;  θ = θ - m,
    with v the second moment, factored into row and column means for matrices. The
    learning rate is inside the momentum.
    """

    @checked
    def __init__(
        self,
        learning_rate: Amount | None = None,
        factored: bool = True,
        multiply_by_parameter_scale: bool = True,
        beta1: Share | None = None,
        decay_rate: Amount = 0.8,
        step_offset: Integer = 0,
        clipping_threshold: Positive | None = 1.0,
        weight_decay_rate: Share | None = None,
        min_dim_size_to_factor: Whole = 128,
        epsilon1: Amount = 1e-30,
        epsilon2: Amount = 1e-3,
        logical_factor_rules: Mapping[str, FactorDim] | None = None,
    ):
        """Constructs the rule.

        Args:
            learning_rate: the trainer's schedule overrides it at every step.
            factored: keep row and column means instead of the full second moment.
            multiply_by_parameter_scale: step sizes relative to a parameter's RMS.
            beta1: momentum in [0, 1), or None to keep no momentum.
            decay_rate: exponent c of the second moment's decay, 1 - t^-c.
            step_offset: last step at which t is 1, for fine-tuning.
            clipping_threshold: largest RMS of u, or None.
            weight_decay_rate: fraction of a parameter removed per step, or None.
            min_dim_size_to_factor: smaller matrices are not factored.
            epsilon1: added to squared gradients.
            epsilon2: smallest parameter scale.
            logical_factor_rules: accepted as in T5X, where they decide for parameters
                of more than two axes. T5 has none, and this class takes none.
        """
        settings = {
            k: v for k, v in locals().items() if k in _HyperParams.__annotations__
        }
        super().__init__(_HyperParams(**settings))
        del logical_factor_rules

    def _factored_axes(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """Axes (row, column) of a factored second moment: the shorter, the longer."""
        if len(shape) > 2:
            raise ValueError(
                f"parameter of shape {tuple(shape)}: the embedded Adafactor takes at "
                "most two axes; install T5X for factor rules"
            )
        if not self.hyper_params.factored or len(shape) < 2:
            return None
        shorter, longer = (int(axis) for axis in np.argsort(shape))
        if shape[shorter] < self.hyper_params.min_dim_size_to_factor:
            return None
        return shorter, longer

    def _init_param_state(self, param) -> _ParamState:
        moments = dict.fromkeys(("v_row", "v_col", "v", "m"), (1,))
        axes = self._factored_axes(param.shape)
        if axes is None:
            moments["v"] = param.shape
        else:
            shorter, longer = axes
            moments["v_row"] = (param.shape[shorter],)
            moments["v_col"] = (param.shape[longer],)
        if self.hyper_params.beta1 is not None:
            moments["m"] = param.shape
        return _ParamState(**{k: jnp.zeros(s, jnp.float32) for k, s in moments.items()})

    def init_state(self, params: Any) -> optimizers.OptimizerState:
        return optimizers.OptimizerState(
            step=jnp.asarray(0, jnp.int32),
            param_states=jax.tree.map(self._init_param_state, params),
        )

    def apply_gradient(self, hyper_params, params, state, grads):
        def update(param, param_state, grad):
            return self._update_param(hyper_params, state.step, param, param_state, grad)

        out = jax.tree.map(
            update,
            params,
            state.param_states,
            grads,
            is_leaf=lambda x: isinstance(x, _ParamState),
        )
        is_pair = lambda x: isinstance(x, tuple)
        new_params = jax.tree.map(lambda pair: pair[0], out, is_leaf=is_pair)
        new_states = jax.tree.map(lambda pair: pair[1], out, is_leaf=is_pair)
        return new_params, optimizers.OptimizerState(state.step + 1, new_states)

    def _update_param(self, hp, step, param, state, grad):
        grad = grad.astype(jnp.float32)
        t = jnp.maximum(step - hp.step_offset, 0).astype(jnp.float32) + 1.0
        decay = 1.0 - t ** (-hp.decay_rate)
        mixing = 1.0 - decay

        step_size = hp.learning_rate
        if hp.multiply_by_parameter_scale:
            rms = jnp.sqrt(jnp.mean(param * param, keepdims=True))
            step_size *= jnp.maximum(rms, hp.epsilon2)

        grad_sqr = grad * grad + hp.epsilon1
        axes = self._factored_axes(param.shape)
        if axes is None:
            v = decay * state.v + mixing * grad_sqr
            state = state.replace(v=v)
            u = grad * v**-0.5
        else:
            shorter, longer = axes
            v_row = decay * state.v_row + mixing * jnp.mean(grad_sqr, axis=longer)
            v_col = decay * state.v_col + mixing * jnp.mean(grad_sqr, axis=shorter)
            state = state.replace(v_row=v_row, v_col=v_col)
            row_factor = (v_row / jnp.mean(v_row, keepdims=True)) ** -0.5
            col_factor = v_col**-0.5
            u = (
                grad
                * jnp.expand_dims(row_factor, longer)
                * jnp.expand_dims(col_factor, shorter)
            )
        if hp.clipping_threshold is not None:
            u_rms = jnp.sqrt(jnp.mean(u * u, keepdims=True))
            u /= jnp.maximum(1.0, u_rms / hp.clipping_threshold)

        delta = step_size * u
        if hp.beta1 is not None:
            delta = hp.beta1 * state.m + (1.0 - hp.beta1) * delta
            state = state.replace(m=delta.astype(jnp.float32))
        if hp.weight_decay_rate is not None:
            param = (1.0 - hp.weight_decay_rate) * param
        return (param - delta).astype(param.dtype), state

    def derive_logical_axes(
        self, optimizer: optimizers.Optimizer, param_logical_axes: Any
    ) -> optimizers.Optimizer:
        """The logical axes of the parameters, and of the moments shaped like them."""

        def moment_axes(state, axes):
            return _ParamState(
                v_row=None,
                v_col=None,
                v=axes if state.v.shape != (1,) else None,
                m=axes if self.hyper_params.beta1 is not None else None,
            )

        param_states = jax.tree.map(
            moment_axes,
            core.unfreeze(optimizer.state.param_states),
            core.unfreeze(param_logical_axes),
            is_leaf=lambda x: isinstance(x, _ParamState),
        )
        state = optimizers.OptimizerState(None, core.freeze(param_states))
        return optimizer.replace(state=state, target=core.freeze(param_logical_axes))
