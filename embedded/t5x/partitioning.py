"""The mesh of this process's devices, and compilation with arrays laid out on it."""

from collections.abc import Callable, Iterable, Sequence
import contextlib
import dataclasses
import functools
import math
from typing import Any

from flax import traverse_util
from flax.linen import partitioning as flax_partitioning
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
from t5x.checks import Count, checked

LogicalAxisRules = Sequence[tuple[str, str | None]]


def standard_logical_axis_rules() -> LogicalAxisRules:
    """Which mesh axis each logical axis of T5's arrays is split over."""
    over_model = ("vocab", "mlp", "heads", "joined_kv")
    whole = ("embed", "kv", "relpos_buckets", "length")
    return [
        ("batch", "data"),
        *((name, "model") for name in over_model),
        *((name, None) for name in whole),
    ]


@dataclasses.dataclass(frozen=True)
class DataLayout:
    """The part of a global batch that this process reads: here, all of it."""

    batch_size: int
    shard_id: int
    num_shards: int
    is_first_host_in_replica_set: bool


@dataclasses.dataclass(frozen=True)
class _Partitioned:
    """A jitted function that runs with the mesh and axis rules in scope."""

    jitted: Any
    scope: Callable

    def __call__(self, *args):
        with self.scope():
            return self.jitted(*args)

    def lower(self, *args):
        with self.scope():
            return self.jitted.lower(*args)


class PjitPartitioner:
    """Splits batches over `data` and parameters over `model`, by logical axis rules."""

    @checked
    def __init__(
        self,
        num_partitions: Count | None = None,
        model_parallel_submesh: Sequence[Count] | None = None,
        logical_axis_rules: LogicalAxisRules | None = None,
    ):
        """Lays a (data, model) mesh over the local devices.

        Args:
            num_partitions: size of the model axis; the other devices are data-parallel.
            model_parallel_submesh: T5X's alternative to num_partitions; here its
                product is the size of the model axis.
            logical_axis_rules: default `standard_logical_axis_rules()`.

        Raises:
            ValueError: not exactly one of the first two is given, or it does not
                divide the number of devices.
            RuntimeError: JAX runs in several processes.
        """
        if jax.process_count() > 1:
            raise RuntimeError(
                f"the embedded t5x runs in one process, not {jax.process_count()}: "
                "install T5X, as README.md shows, and run `python -m t5x.train` on each "
                "host (of GPUs, with --multiprocess_gpu and the three flags it names)"
            )
        if bool(num_partitions) == bool(model_parallel_submesh):
            raise ValueError(
                "set one of PjitPartitioner.num_partitions and model_parallel_submesh: "
                f"got {num_partitions} and {model_parallel_submesh}"
            )
        model_size = num_partitions or math.prod(model_parallel_submesh or ())
        if jax.device_count() % model_size:
            given = f"num_partitions={num_partitions}"
            if model_parallel_submesh:
                given = f"model_parallel_submesh={model_parallel_submesh}"
            raise ValueError(
                f"PjitPartitioner.{given}: a model axis of {model_size} does not divide "
                f"{jax.device_count()} devices"
            )
        self._model_size = model_size
        self.logical_axis_rules = tuple(
            standard_logical_axis_rules()
            if logical_axis_rules is None
            else logical_axis_rules
        )

    @functools.cached_property
    def mesh(self) -> Mesh:
        devices = np.asarray(jax.devices()).reshape(-1, self._model_size)
        return Mesh(devices, ("data", "model"))

    @property
    def data_partition_spec(self) -> PartitionSpec:
        return PartitionSpec("data")

    def get_data_layout(self, batch_size: int | None = None) -> DataLayout:
        """The layout of a batch; by default, one example per data-parallel device.

        Raises:
            ValueError: the batch does not divide over the data axis.
        """
        data_size = self.mesh.shape["data"]
        batch_size = batch_size or data_size
        if batch_size % data_size:
            raise ValueError(
                f"batch size {batch_size} does not divide over {data_size} "
                "data-parallel devices"
            )
        return DataLayout(batch_size, 0, 1, True)

    def get_mesh_axes(self, train_state: Any) -> Any:
        """The train state with a PartitionSpec, or None, in place of its arrays.

        Raises:
            ValueError: a dimension of an array does not divide over its mesh axis.
        """
        logical = train_state.as_logical_axes()
        axes = traverse_util.flatten_dict(logical.state_dict(), keep_empty_nodes=True)
        arrays = traverse_util.flatten_dict(train_state.state_dict())
        for path, names in axes.items():
            if names is None or names is traverse_util.empty_node:
                continue
            rules = self.logical_axis_rules
            spec: Any = flax_partitioning.logical_to_mesh_axes(names, rules)
            dimensions = zip(spec, names, arrays[path].shape, strict=False)
            self._check_divides("/".join(path), dimensions)
            axes[path] = spec
        return logical.restore_state(traverse_util.unflatten_dict(axes))

    def _check_divides(
        self, array: str, dimensions: Iterable[tuple[Any, str, int]]
    ) -> None:
        for i, (mesh_axis, name, size) in enumerate(dimensions):
            if mesh_axis and size % self.mesh.shape[mesh_axis]:
                raise ValueError(
                    f"dimension {i} ({name}) of {array} has size {size}, which does not "
                    f"divide over {self.mesh.shape[mesh_axis]} partitions: change "
                    "PjitPartitioner.num_partitions or network.T5Config"
                )

    def shardings(self, axes: Any) -> Any:
        """A sharding for every PartitionSpec in a tree; None means replicated."""
        return jax.tree.map(
            lambda spec: NamedSharding(self.mesh, spec or PartitionSpec()),
            axes,
            is_leaf=lambda x: x is None or isinstance(x, PartitionSpec),
        )

    def partition(
        self,
        fn: Callable,
        in_axis_resources: Any,
        out_axis_resources: Any,
        static_argnums: int | Sequence[int] = (),
        donate_argnums: int | Sequence[int] = (),
    ) -> _Partitioned:
        """Compiles `fn` with inputs and outputs laid out by trees of PartitionSpecs."""

        @contextlib.contextmanager
        def scope():
            rules = flax_partitioning.axis_rules(self.logical_axis_rules)
            with jax.set_mesh(self.mesh), rules:
                yield

        jitted = jax.jit(
            fn,
            in_shardings=self.shardings(in_axis_resources),
            out_shardings=self.shardings(out_axis_resources),
            static_argnums=static_argnums,
            donate_argnums=donate_argnums,
        )
        return _Partitioned(jitted, scope)

    def compile(self, partitioned_fn: _Partitioned, *args: Any) -> Callable:
        """Compiles ahead of the first call, for the shapes of `args`."""
        return partitioned_fn.lower(*args).compile()


def with_sharding_constraint(x: jax.Array, axis_resources: PartitionSpec) -> jax.Array:
    """Lays an array out on the mesh in scope. No effect on CPUs, as in T5X."""
    if jax.devices()[0].platform == "cpu":
        return x
    return jax.lax.with_sharding_constraint(x, axis_resources)
