"""Reads checkpoints in T5X's first format, in which the public T5 models are published.

A file `checkpoint`, in msgpack, has the tree of arrays. In the place of a large array it
has a TensorStore specification, whose path is a folder beside the file.
"""

from collections.abc import Mapping
import os
from typing import Any

from flax import serialization, traverse_util
import numpy as np
import tensorstore

_FILE = "checkpoint"
Path = tuple[str, ...]


def is_legacy(folder: str) -> bool:
    """Whether a checkpoint_STEP folder is in this format."""
    return os.path.isfile(os.path.join(folder, _FILE))


class LegacyCheckpoint:
    """The arrays of a checkpoint_STEP folder on a local disk."""

    def __init__(self, folder: str):
        """Reads the tree, and no large array.

        Raises:
            ValueError: the file is not such a checkpoint.
        """
        with open(os.path.join(folder, _FILE), "rb") as f:
            content = f.read()
        try:
            tree = serialization.msgpack_restore(content)
        except Exception as e:  # of msgpack, of NumPy and of Unicode
            raise ValueError(f"{folder}/{_FILE} cannot be read: {e}") from e
        if set(tree) != {"version", "optimizer"}:
            raise ValueError(
                f"{folder}/{_FILE} has {sorted(tree)}, not version and optimizer: it is "
                "no checkpoint of T5X"
            )
        self._folder = os.path.abspath(folder)
        self._leaves: dict[Path, Any] = traverse_util.flatten_dict(
            tree["optimizer"], is_leaf=lambda _, node: "driver" in node
        )

    def shapes(self) -> dict[Path, tuple[int, ...]]:
        """Path -> shape."""
        return {
            path: tuple(
                leaf["metadata"]["shape"] if isinstance(leaf, Mapping) else np.shape(leaf)
            )
            for path, leaf in self._leaves.items()
        }

    def read(self, path: Path) -> np.ndarray:
        """The array at a path.

        Raises:
            ValueError: a file of it is missing or cannot be read. A chunk may be missing
                only where .zarray has a fill value; T5X writes null, and every chunk.
        """
        leaf = self._leaves[path]
        if not isinstance(leaf, Mapping):
            return np.asarray(leaf)
        # Older versions of TensorStore have the path beside `kvstore`, not in it.
        where = leaf["kvstore"].get("path") or leaf["path"]
        spec = {
            "driver": leaf["driver"],
            "kvstore": {"driver": "file", "path": os.path.join(self._folder, where)},
        }
        try:
            array = tensorstore.open(spec, open=True).result()
            if array.fill_value is None:
                spec["fill_missing_data_reads"] = False
                array = tensorstore.open(spec, open=True).result()
            return array.read().result()
        except ValueError as e:
            raise ValueError(f"{self._folder}: {'/'.join(path)}: {e}") from e
