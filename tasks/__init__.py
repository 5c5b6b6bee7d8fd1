"""seqio tasks with a held-out guidance split. Importing a module registers its tasks."""

import os

# Vocabularies and files of text are here. May be a bucket: gs://bucket/data.
DATA_DIR = os.environ.get("GBT_T5X_DATA_DIR", "data")
