"""Training data whose saved position belongs to one run."""

from collections.abc import Callable
from typing import Any

from clu.data import dataset_iterator
from etils import epath
import seqio
from t5x import utils


class _RunIterator(dataset_iterator.TfDatasetIterator):
    """Batches, at the position that a checkpoint of this run holds."""

    def __init__(self, dataset: Any, model_dir: str):
        super().__init__(dataset, checkpoint=True)
        self._model_dir = epath.Path(model_dir).resolve()

    def restore(self, filename: epath.Path) -> None:
        if epath.Path(filename).resolve().is_relative_to(self._model_dir):
            super().restore(filename)


def get_dataset(
    cfg: utils.DatasetConfig,
    shard_id: int,
    num_shards: int,
    feature_converter_cls: Callable[..., seqio.FeatureConverter],
    *,
    model_dir: str,
) -> dataset_iterator.DatasetIterator:
    """What `train_script.train.get_dataset_fn` may be, for fine-tuning.

    A run that saves its position in the data, T5X makes start at the position of any
    checkpoint that it starts from. Here it starts at the beginning, unless the checkpoint
    is in `model_dir`.

    Args:
        cfg: the training data.
        shard_id: of this process.
        num_shards: of all processes.
        feature_converter_cls: the model's.
        model_dir: of the run.
    """
    dataset = utils.get_dataset(cfg, shard_id, num_shards, feature_converter_cls)
    return _RunIterator(dataset, model_dir)
