"""Settings of a wrong type or range, found before anything compiles."""

from collections.abc import Callable, Mapping, Sequence
import functools
import inspect
import numbers
import types
import typing
from typing import Annotated, Any, TypeVar

import numpy as np

Integer = Annotated[int, "[-2147483648, 2147483647]"]
Whole = Annotated[int, "[0, 2147483647]"]
Count = Annotated[int, "[1, 2147483647]"]
Seed = Annotated[int, "[-2147483648, 4294967295]"]  # JAX cuts larger ones to 32 bits
Amount = Annotated[float, "[0, 3.4e38]"]
Positive = Annotated[float, "(0, 3.4e38]"]
Probability = Annotated[float, "[0, 1]"]
Share = Annotated[float, "[0, 1)"]
LocalFolder = Annotated[
    str, "a local folder (for buckets install T5X, as README.md says)"
]
# In float16 T5's masked logits, -1e10, are infinite, and rows of them NaN.
Dtype = Annotated[Any, ("float32", "bfloat16", "float64")]
DtypeOnDisk = Annotated[Any, ("float32", "bfloat16", "float16")]

_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
_Checked = TypeVar("_Checked", bound=Callable)


def checked(fn: _Checked) -> _Checked:
    """Checks the arguments of a function, or of a class, by their annotations.

    An `Annotated` number lies in an interval, and other values are among the choices. A
    bool is no number, and no text is empty. The attribute `check_arguments`, of the
    function or of `__init__`, checks some arguments by name, without a call.

    Raises:
        ValueError: in a call; names the argument and what it may be.
    """
    if isinstance(fn, type):
        fn.__init__ = checked(fn.__init__)  # type: ignore[misc]
        return fn
    signature = inspect.signature(fn)
    name = fn.__qualname__.removesuffix(".__init__")

    def check_arguments(arguments: Mapping[str, Any]) -> None:
        for argument, value in arguments.items():
            parameter = signature.parameters.get(argument)  # None of a subclass's
            hint = parameter.annotation if parameter else Any
            if not _fits(value, hint):
                raise ValueError(f"{name}.{argument}={value!r}: must be {_say(hint)}")

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        check_arguments(signature.bind(*args, **kwargs).arguments)
        return fn(*args, **kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]  # which gin reads
    call.check_arguments = check_arguments  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is Annotated and isinstance(args[1], tuple):
        return getattr(value, "__name__", getattr(value, "name", value)) in args[1]
    if hint is LocalFolder:
        return _fits(value, str) and "://" not in value
    if origin is Annotated:
        return _fits(value, args[0]) and _lies_in(value, args[1])
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if origin is int:
        return is_whole
    if origin is float:  # JAX overflows on larger whole numbers
        return abs(value) < 2**31 if is_whole else isinstance(value, float | np.floating)
    if hint in (None, types.NoneType):
        return value is None
    if origin in (Any, inspect.Parameter.empty) or not isinstance(origin, type):
        return True
    if origin is Mapping and isinstance(value, Mapping):
        return all(_fits(k, args[0]) and _fits(v, args[1]) for k, v in value.items())
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(_fits(x, args[0]) for x in value)
    if origin is tuple and isinstance(value, list | tuple):
        return len(value) == len(args) and all(map(_fits, value, args))
    return isinstance(value, origin) and not (origin is str and not value)


def _lies_in(number: Any, interval: str) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    above = number > low or (interval[0] == "[" and number == low)
    return above and (number < high or (interval[-1] == "]" and number == high))


def _say(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_say, args))
    if origin is Annotated and isinstance(args[1], tuple):
        return f"one of {args[1]}"
    if hint is LocalFolder:
        return args[1]
    if origin is Annotated:
        return f"{_say(args[0])} in {args[1]}"
    if origin in (Mapping, Sequence, tuple):
        return f"a {origin.__name__} of {' and '.join(map(_say, args))}"
    return "None" if hint in (None, types.NoneType) else _NAMES.get(hint, hint.__name__)
