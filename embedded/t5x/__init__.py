"""A small t5x: T5X's names, defaults, parameter trees and losses, in one process.

It exists to run and test plugins of T5X on machines that reach only PyPI. Modules,
gin names and defaults follow T5X (https://github.com/google-research/t5x); a gin file
gives the same losses and predictions on both. Several processes, and everything else
that gbt_t5x does not use, need T5X itself, which pip installs in place of this one.
"""

import os

# TensorFlow only reads data here: no log lines about its kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
