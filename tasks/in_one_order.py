"""TFDS for preprocessors that give another number of examples than they read."""

from typing import Any

import seqio


class TfdsInOneOrder(seqio.TfdsDataSource):
    """Examples from TFDS, in the order that it wrote them, which is a random one.

    seqio shuffles the examples. Were files shuffled anew in every epoch, TensorFlow 2.21
    would lose the next orders if the position is saved near an epoch's end, where a
    preprocessor before seqio's cache filters or unbatches
    (findings/tf_data_position_of_epoch.sh).
    """

    def get_dataset(self, split: str = "train", shuffle: bool = True, **kwargs: Any):
        del shuffle
        return super().get_dataset(split, shuffle=False, **kwargs)
