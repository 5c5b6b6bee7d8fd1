"""Whether a checkpoint on a local disk is whole.

One with checksums is compared with them. Of another every array, the position in the data
and the descriptions are read: that finds what is missing, cut or unreadable, not every
flipped bit. Both formats of T5X are known:

- Orbax: state/ has _METADATA in JSON and the arrays in zarr, in an OCDBT store or as
  folders; dataset/ has the position in the data, a TensorFlow checkpoint.
- The older one: a file `checkpoint` in msgpack, in which large arrays are TensorStore
  specifications of zarr folders beside it.

A chunk of a zarr array may be absent only where .zarray gives a fill value that it would
be full of. T5X gives none (null), and TensorStore then writes every chunk, zeros too.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import json
import os
import re
from typing import Any

import msgpack
import numpy as np

from gbt_t5x import checksums

_STEP = re.compile(r"checkpoint_(\d+)")
_SLAB = 1 << 28  # bytes of an array in memory at once
_LEGACY = "checkpoint"
_COMMITTED = "dataset/commit_success.txt"


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found out about a checkpoint_STEP folder."""

    damage: str | None  # None: it is whole
    has_checksums: bool  # and was compared with them
    not_finite: tuple[str, ...] = ()  # arrays, where arrays were read


class _Damage(Exception):
    """What is damaged, as one line."""


def steps(folder: str) -> list[int]:
    """Steps of all that is named as a checkpoint in a folder, ascending."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(m[1]) for name in names if (m := _STEP.fullmatch(name)))


def is_checkpoint(folder: str) -> bool:
    """Whether a folder is a checkpoint, damaged perhaps, and not a folder of them."""
    return bool(_STEP.fullmatch(os.path.basename(os.path.normpath(folder)))) or any(
        os.path.exists(os.path.join(folder, name)) for name in ("state", _LEGACY)
    )


def check(
    folder: str,
    progress: checksums.Progress = lambda _: None,
    needs_position: bool = True,
) -> Report:
    """Looks for damage in a checkpoint_STEP folder.

    Args:
        folder: on a local disk.
        progress: called with numbers of bytes that were read.
        needs_position: whether one of Orbax without a position in the data is damaged.
    """
    if os.path.isfile(os.path.join(folder, checksums.FILE)):
        return Report(checksums.damage(folder, progress), True)
    try:
        if os.path.isfile(os.path.join(folder, _LEGACY)):
            arrays = _legacy_arrays(folder)
        else:
            arrays = _orbax_arrays(folder)
        not_finite = []
        for name, spec, sparse in arrays:
            if not _read(name, spec, sparse, progress):
                not_finite.append(name)
        _read_dataset(folder, needs_position)
    except _Damage as e:
        return Report(" ".join(str(e).split()), False)
    return Report(None, False, tuple(not_finite))


def dtype_of(folder: str, prefix: str) -> str | None:
    """The dtype of the first array under a name, in a whole checkpoint of Orbax.

    Single numbers are passed over.

    >>> dtype_of("/no/checkpoint", "state.sensitivity")

    Args:
        folder: checkpoint_STEP, on a local disk.
        prefix: keys of the tree, joined by dots.

    Returns:
        Its name, or None if there is no such array.
    """
    import tensorstore  # half a second

    if not os.path.isdir(os.path.join(folder, "state")):
        return None
    for name, spec, _ in _orbax_arrays(folder):
        if name.startswith(f"{prefix}."):
            array = tensorstore.open(spec, open=True).result()
            if array.rank:
                return array.dtype.name
    return None


def _orbax_arrays(folder: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Name, TensorStore specification, and whether equal data may be left out."""
    names = checksums.files(folder)
    metadata = {name: _json(folder, name) for name in names if _is_json(name)}
    items = metadata.get("_CHECKPOINT_METADATA", {}).get("item_handlers")
    for item in items if isinstance(items, Mapping) else ["state"]:
        if not os.path.isdir(os.path.join(folder, item)):
            may_be_empty = item == "dataset"  # which a copy to a bucket loses
            hint = ", or was empty and lost in a copy: make it" if may_be_empty else ""
            raise _Damage(f"{item} is missing{hint}")
    if "state/_METADATA" not in metadata:
        raise _Damage("state/_METADATA is missing")
    state = metadata["state/_METADATA"]
    store: dict[str, Any] = {
        "driver": "file",
        "path": os.path.abspath(os.path.join(folder, "state")) + "/",
    }
    if state.get("use_ocdbt", "state/manifest.ocdbt" in names):
        store = {"driver": "ocdbt", "base": store}
    zarr3 = state.get("use_zarr3", False)
    sparse = not state.get("store_array_data_equal_to_fill_value", False)
    try:
        leaves = [
            ".".join(str(key["key"]) for key in leaf["key_metadata"])
            for leaf in state["tree_metadata"].values()
            if "rray" in leaf["value_metadata"]["value_type"]
            or leaf["value_metadata"]["value_type"] in ("scalar", "int", "float")
        ]
    except (AttributeError, KeyError, TypeError) as e:
        raise _Damage("state/_METADATA does not describe a tree of arrays") from e
    for name in leaves:
        kvstore = {**store, "path": store.get("path", "") + name + "/"}
        yield name, {"driver": "zarr3" if zarr3 else "zarr", "kvstore": kvstore}, sparse


def _is_json(name: str) -> bool:
    folder, base = os.path.split(name)
    return (
        base in ("_CHECKPOINT_METADATA", "_METADATA", "_sharding")
        or os.path.basename(folder) == "array_metadatas"
        or (folder.split("/")[0] == "dataset" and base.endswith(".json"))
    )


def _legacy_arrays(folder: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """As `_orbax_arrays`, of the older format."""
    with open(os.path.join(folder, _LEGACY), "rb") as f:
        content = f.read()
    try:
        tree = msgpack.unpackb(content, strict_map_key=False, max_ext_len=2**32 - 1)
    except Exception as e:  # msgpack's own and UnicodeDecodeError
        raise _Damage(f"{_LEGACY} is not msgpack: {e or type(e).__name__}") from e
    if not isinstance(tree, dict) or set(tree) != {"version", "optimizer"}:
        raise _Damage(f"{_LEGACY} has no version and optimizer")
    nodes = [("", tree["optimizer"])]
    while nodes:
        path, node = nodes.pop()
        if not isinstance(node, dict):
            continue
        if "driver" not in node:
            nodes += [(f"{path}/{key}".lstrip("/"), child) for key, child in node.items()]
            continue
        try:
            # Older versions of TensorStore have the path beside `kvstore`, not in it.
            where = os.path.join(folder, node["kvstore"].get("path") or node["path"])
        except (AttributeError, KeyError, TypeError) as e:
            raise _Damage(f"{_LEGACY} does not say where {path} is") from e
        kvstore = {"driver": "file", "path": os.path.abspath(where) + "/"}
        yield path, {"driver": node["driver"], "kvstore": kvstore}, True


def _read(
    name: str, spec: dict[str, Any], sparse: bool, progress: checksums.Progress
) -> bool:
    """Reads an array, part by part. Returns whether it is finite."""
    import tensorstore  # half a second

    try:
        array = tensorstore.open(spec, open=True).result()
        if array.fill_value is None or not sparse:
            spec = {**spec, "fill_missing_data_reads": False}
            array = tensorstore.open(spec, open=True).result()
        rows = array.shape[0] if array.rank else 1
        row_bytes = max(1, array.size * array.dtype.numpy_dtype.itemsize // max(1, rows))
        rows_at_once = max(1, _SLAB // row_bytes)
        finite = True
        for start in range(0, rows, rows_at_once):
            part = array[start : min(start + rows_at_once, rows)] if array.rank else array
            values = part.read().result()
            progress(values.nbytes)
            if values.dtype.kind in "fcV":  # bfloat16 is V
                finite = finite and bool(np.isfinite(values).all())
    except Exception as e:  # TensorStore raises what its drivers do
        raise _Damage(f"array {name}: {e}") from e
    return finite


def _read_dataset(folder: str, needs_position: bool = True) -> None:
    """Reads the position in the data of every shard; none may be missing.

    T5X makes the folder in any case, and Orbax its own file in it.
    """
    names = checksums.files(folder)
    part = re.compile(r"(.+/)?train_ds-(\d+)-of-(\d+)(\.index)?")  # Grain's has no suffix
    found = {(int(m[2]), int(m[3])) for m in map(part.fullmatch, names) if m}
    rest = {name for name in names if name.startswith("dataset/")} - {_COMMITTED}
    may_lack_one = not rest and not needs_position
    is_there = os.path.isdir(os.path.join(folder, "dataset"))
    if is_there and not found and not may_lack_one:
        raise _Damage("dataset has no position")
    for number in {number for _, number in found}:
        for i in range(number):
            if (i, number) not in found:
                raise _Damage(f"train_ds-{i:03}-of-{number:03} is missing")
    part = re.compile(r"((.+/)?train_ds-.+)\.(index|data-\d+-of-\d+)")
    for prefix in sorted({m[1] for m in map(part.fullmatch, names) if m}):
        import tensorflow as tf  # seconds, where nothing else has imported it

        path = os.path.join(folder, prefix)
        try:
            for name, dtype in (
                tf.train.load_checkpoint(path).get_variable_to_dtype_map().items()
            ):
                tf.raw_ops.RestoreV2(
                    prefix=path,
                    tensor_names=[name],
                    shape_and_slices=[""],
                    dtypes=[dtype],
                )
        except Exception as e:  # of TensorFlow, and what its C++ raises
            raise _Damage(f"{prefix}: {e}") from e


def _json(folder: str, name: str) -> dict[str, Any]:
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            value = json.load(f)
    except OSError as e:
        raise _Damage(f"{name}: {e.strerror}") from e
    except ValueError as e:
        raise _Damage(f"{name} is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise _Damage(f"{name} has no JSON object")
    return value
