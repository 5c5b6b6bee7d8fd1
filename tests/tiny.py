"""A task of random tokens, and what trains on it in a blink."""

from collections.abc import Sequence
import contextlib
import functools
from typing import Any
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import seqio
from t5x import adafactor, models, partitioning, utils
from t5x.examples.t5 import network
import tensorflow as tf

from gbt_t5x import adam, optax_optimizer, optimizers, trainer
import tiny_network

TASK = "tiny_random_tokens"
SPLITS = ("train", "guidance", "other_guidance", "validation")
EXAMPLES = 64  # per split, two to a packed row
_LENGTHS = {"inputs": 16, "targets": 16}
_VOCABULARY = seqio.PassThroughVocabulary(size=64)


def _examples(
    split: str, shuffle_files: bool, seed: int | None = None
) -> tf.data.Dataset:
    del shuffle_files, seed
    rng = np.random.default_rng(zlib.crc32(split.encode()))
    tokens = {k: rng.integers(2, 64, (EXAMPLES, 8), np.int32) for k in _LENGTHS}
    return tf.data.Dataset.from_tensor_slices(tokens)


def _optax(transformation: Any, **arguments: Any) -> Any:
    return lambda: optax_optimizer.OptaxOptimizer(transformation, **arguments)


seqio.TaskRegistry.add(
    TASK,
    source=seqio.FunctionDataSource(_examples, splits=SPLITS),
    preprocessors=[],
    output_features={k: seqio.Feature(_VOCABULARY, add_eos=False) for k in _LENGTHS},
)

# Optimizers to guide, and what can be learned of each. 0.5 and 1 are exact when raw.
ADAM = ("alpha", "beta1", "beta2", "epsilon", "weight_decay")
ADAFACTOR = ("alpha", "beta1", "weight_decay", "decay_rate", "clipping_threshold")
BASES = {
    "adafactor": (
        lambda: adafactor.Adafactor(
            beta1=0.5,
            decay_rate=0.5,
            weight_decay_rate=0.01,
            epsilon1=1e-18,
            min_dim_size_to_factor=4,
        ),
        (*ADAFACTOR, "epsilon"),
    ),
    "lamb": (_optax(adam.lamb, b1=0.5, b2=0.75, eps=1e-3, weight_decay=0.01), ADAM),
    "adamw": (_optax(adam.adamw, b1=0.5, b2=0.75, eps=1e-3, weight_decay=0.01), ADAM),
    "sgd": (_optax(optax.sgd, momentum=0.5), ("alpha", "beta1")),
    "lion": (_optax(optax.lion, weight_decay=0.01), ("alpha", "weight_decay")),
    "optax_adafactor": (
        _optax(
            optax.adafactor,
            min_dim_size_to_factor=4,
            momentum=0.5,
            decay_rate=0.5,
            weight_decay_rate=0.01,
            eps=1e-18,
        ),
        (*ADAFACTOR, "epsilon"),
    ),
}


def dataset_cfg(split: str, batch_size: int = 8, **changes: Any) -> utils.DatasetConfig:
    """A configuration of the task."""
    settings: dict[str, Any] = {
        "mixture_or_task_name": TASK,
        "task_feature_lengths": _LENGTHS,
        "split": split,
        "batch_size": batch_size,
        "shuffle": False,
        "seed": 0,
        "pack": True,
    }
    return utils.DatasetConfig(**settings | changes)


def guided(
    hyperparams=("alpha", "beta1"),
    meta_learning_rate: float = 0.01,
    beta1: Any = 0.5,
    groups: Any = None,
) -> optimizers.GuidedOptimizer:
    """Guided Adafactor. beta1 = 0.5 and alpha = 1 are exact in float32."""
    base = adafactor.Adafactor(beta1=beta1, min_dim_size_to_factor=8)
    return optimizers.GuidedOptimizer(
        base, hyperparams, meta_learning_rate, groups=groups
    )


def make_model(
    optimizer_def: Any, dropout_rate: float = 0.0, network_cls: Any = tiny_network.Network
) -> models.EncoderDecoderModel:
    config = network.T5Config(
        vocab_size=64,
        emb_dim=16,
        num_heads=2,
        head_dim=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
        mlp_dim=32,
        mlp_activations=("gelu", "linear"),
        dropout_rate=dropout_rate,
        logits_via_embedding=True,
    )
    return models.EncoderDecoderModel(
        network_cls(config), _VOCABULARY, _VOCABULARY, optimizer_def, z_loss=1e-4
    )


@contextlib.contextmanager
def make_trainer(
    optimizer_def: Any,
    trainer_cls: Any = trainer.GuidedTrainer,
    *,
    seed: int = 0,
    dropout_rate: float = 0.0,
    network_cls: Any = tiny_network.Network,
    learning_rate: float = 0.01,
    num_microbatches: int | None = None,
    eval_names: Sequence[str] = (),
    summary_dir: str | None = None,
    **kwargs: Any,
):
    """A trainer whose parameters do not depend on `seed`, which is that of dropout."""
    if issubclass(trainer_cls, trainer.GuidedTrainer):
        kwargs.setdefault("guidance_dataset_cfg", dataset_cfg("guidance"))
        kwargs.setdefault("train_dataset_cfg", dataset_cfg("train"))
    model = make_model(optimizer_def, dropout_rate, network_cls)
    # On CPUs, num_partitions=1 of T5X splits parameters instead of batches.
    partitioner = partitioning.PjitPartitioner(model_parallel_submesh=(1, 1))
    shapes = {name: (8, 16) for name in ("encoder_input_tokens", "decoder_input_tokens")}
    initializer = utils.TrainStateInitializer(
        optimizer_def, model.get_initial_variables, shapes, partitioner
    )
    instance = trainer_cls(
        model=model,
        train_state=initializer.from_scratch(jax.random.PRNGKey(1)),
        partitioner=partitioner,
        eval_names=eval_names,
        summary_dir=summary_dir,
        train_state_axes=initializer.train_state_axes,
        rng=jax.random.PRNGKey(seed),
        learning_rate_fn=lambda step: jnp.float32(learning_rate),
        num_microbatches=num_microbatches,
        **kwargs,
    )
    with instance:
        yield instance


make_t5_trainer = functools.partial(make_trainer, network_cls=network.Transformer)


@functools.cache
def _training_data() -> tf.data.Dataset:
    converter_cls = models.EncoderDecoderModel.FEATURE_CONVERTER_CLS
    return utils.get_dataset(dataset_cfg("train"), 0, 1, converter_cls)


def batches(instance: Any):
    """The training batches of a trainer, on its mesh, from the first one on."""
    partitioner = instance._partitioner
    return utils.prepare_train_iter(
        _training_data(),
        partitioner=partitioner,
        checkpoint_cfg=None,
        data_layout=partitioner.get_data_layout(dataset_cfg("train").batch_size),
    )


def train(instance: Any, num_steps: int) -> tuple[Any, list[dict]]:
    """Trains step by step. Returns the state on the host, and each step's metrics."""
    data = batches(instance)
    summaries = [
        {k: float(v.value) for k, v in instance.train(data, 1).result().items()}
        for _ in range(num_steps)
    ]
    return jax.device_get(instance.train_state), summaries
