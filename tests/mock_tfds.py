"""TFDS's mock data, with examples of WSC that its preprocessor can read."""

from collections.abc import Iterator
import contextlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds


def wsc(index: int, label: int) -> dict[str, Any]:
    """An example of SuperGLUE's WSC."""
    text = "Mark told Pete many lies about himself, which Pete included in his book."
    return {
        "idx": np.int32(index),
        "text": text,
        "span1_index": np.int32(0),
        "span1_text": "Mark",
        "span2_index": np.int32(11),
        "span2_text": "his",
        "label": np.int64(label),
    }


@contextlib.contextmanager
def mock_data() -> Iterator[None]:
    """TFDS's random examples; of WSC, whose text has to fit its indices, ours."""

    def examples(self, *args, **kwargs):
        tensors = [wsc(i, i % 2) for i in range(50)]
        columns = {k: [example[k] for example in tensors] for k in tensors[0]}
        return tf.data.Dataset.from_tensor_slices(columns)

    with tfds.testing.mock_data(num_examples=50), pytest.MonkeyPatch.context() as patch:
        builder = tfds.builder_cls("super_glue")
        random = builder.as_dataset

        def as_dataset(self, *args, **kwargs):
            of_wsc = self.builder_config.name == "wsc.fixed"
            return (examples if of_wsc else random)(self, *args, **kwargs)

        patch.setattr(builder, "as_dataset", as_dataset)
        yield
