"""Preprocessors without AutoGraph, which takes seconds of every start to rewrite T5's."""

from collections.abc import Callable, Sequence
import functools

import seqio
import tensorflow as tf


def off(preprocessors: Sequence[Callable]) -> list[Callable]:
    """The preprocessors of a task, which TensorFlow traces as they are written.

    Python's `if`, `for`, `while` and `and` on a tensor raise TensorFlow's
    OperatorNotAllowedInGraphError in them.
    """
    return [_off(step) for step in preprocessors]


def _off(step: Callable) -> Callable:
    if isinstance(step, seqio.CacheDatasetPlaceholder):
        return step
    if isinstance(step, functools.partial):
        return functools.partial(_off(step.func), *step.args, **step.keywords)
    return tf.autograph.experimental.do_not_convert(step)
