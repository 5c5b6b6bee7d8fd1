"""Gin files and bindings, and the command line that names them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import os
import re
import sys
import traceback
from typing import Any

from absl import app, flags, logging
import gin
import seqio
import t5x
import tensorflow as tf


@gin.configurable
def get_gin_config_str() -> str:
    """All bindings."""
    return gin.config_str()


def parse_gin_flags(
    gin_search_paths: Sequence[str],
    gin_files: Sequence[str] | None,
    gin_bindings: Sequence[str],
) -> None:
    """Parses files, then bindings, looking for files under every search path.

    Raises:
        ValueError: something is `%gin.REQUIRED`, or a finalize hook finds a fault.
    """
    for path in gin_search_paths:
        gin.add_config_file_search_path(path)
    gin.parse_config_files_and_bindings(gin_files, gin_bindings, finalize_config=False)
    missing = [name for name, value in bindings().items() if value == "%gin.REQUIRED"]
    if missing:
        raise ValueError(f"set {', '.join(missing)}: as in --gin.{missing[0]}=VALUE")
    gin.finalize()


def bindings() -> dict[str, str]:
    """Name -> value of all that is bound, macros too, as gin files have them."""
    text = gin.config_str(max_line_length=10_000)
    return dict(re.findall(r"^(\S+) = (.*)$", text, re.MULTILINE))


@gin.config.register_finalize_hook
def _check_bindings(config: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    """Checks what is bound to plain values, before anything is called with them."""
    references = gin.config.iterate_references
    for (_, selector), arguments in config.items():
        fn = gin.get_configurable(selector)
        fn = fn.__init__ if isinstance(fn, type) else fn  # type: ignore[misc]
        check = getattr(fn, "check_arguments", lambda _: None)
        for name, value in arguments.items():
            seen = set()
            while getattr(value, "config_key", ("", ""))[1] == "gin.macro":
                if value.config_key in seen:
                    raise ValueError(
                        f"the macro {value} stands for itself: set it to a value"
                    )
                seen.add(value.config_key)
                value = config.get(value.config_key, {}).get("value", gin.REQUIRED)
            if value is not gin.REQUIRED and not any(references([value])):
                check({name: value})


def rewrite_gin_args(args: Sequence[str]) -> list[str]:
    """`--gin.NAME=VALUE` to `--gin_bindings=NAME = VALUE`.

    Raises:
        ValueError: there is no `=`.
    """

    def rewrite(arg: str) -> str:
        if not arg.startswith("--gin."):
            return arg
        name, equals, value = arg.removeprefix("--gin.").partition("=")
        if not equals:
            raise ValueError(f"expected --gin.NAME=VALUE, got {arg}")
        return f"--gin_bindings={name} = {value}"

    return [rewrite(arg) for arg in args]


@gin.register
def summarize_gin_config(model_dir: str, summary_writer: Any, step: int) -> None:
    """Writes the configuration to model_dir/config.gin and to TensorBoard."""
    config = get_gin_config_str()
    os.makedirs(model_dir, exist_ok=True)
    with open(os.path.join(model_dir, "config.gin"), "w") as f:
        f.write(config)
    if summary_writer is not None:
        summary_writer.write_texts(step, {"config": gin.markdown(config)})
        summary_writer.flush()


@contextlib.contextmanager
def _short_errors() -> Iterator[None]:
    """Ends the program with the message alone of an error in a setting.

    Those are what gin raises, and the ValueErrors of seqio and of our own checks.
    """
    try:
        yield
    except Exception as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        package = frame.f_globals["__name__"].partition(".")[0]
        known = {"gin", "importlib", "inspect"}  # as gin reads files and calls functions
        if isinstance(error, ValueError | FloatingPointError):
            known |= {"__main__", "gbt_t5x", "seqio", "t5x"}
        if "--traceback" in sys.argv or package not in known:
            raise
        # gin appends the whole configuration, or the calls.
        text = re.split(r" in config string:|\n  In call to|\n  No values", str(error))[0]
        called = re.search(r"In call to configurable '(.+?)'", str(error))
        if package == "inspect" and called:  # whose errors name no function
            text = f"{called[1]}: {text}"
        text = re.sub("^No bindings .* '(.*)/macro'", r"set \1", text)
        if isinstance(error, SyntaxError) and error.text:
            text += f": {error.text.strip()}"
        if text.startswith("Unable to parse value"):
            text += r" (a text is in quotes, on a command line --gin.NAME=\"VALUE\")"
        if name := re.match(r"[\w.]+(?==)", text):
            bound = re.findall(rf"\b{name[0]} = %(\w+)", gin.config_str(10_000))
            text += f" ({', '.join(sorted(set(bound)))})" * bool(bound)
        sys.exit(f"error: {text.strip()}")


def run(main: Callable) -> None:
    """Runs a program whose command line may hold --gin.NAME=VALUE."""
    flags.DEFINE_bool("traceback", False, "Show where an error in a setting was raised.")
    parse = lambda argv: app.parse_flags_with_usage(rewrite_gin_args(argv))
    app.run(_short_errors()(main), flags_parser=_short_errors()(parse))


def run_configurable(fn: Callable, **argument_flags: Any) -> None:
    """Calls `fn` with the gin files and bindings of the command line.

    Args:
        fn: what gin files bind, such as `train`.
        **argument_flags: argument of `fn` -> help of a whole-number flag of its name,
            which overrides gin.
    """
    flags.DEFINE_multi_string("gin_file", None, "Gin file; later ones override.")
    flags.DEFINE_multi_string("gin_bindings", [], "Gin binding; also --gin.NAME=VALUE.")
    flags.DEFINE_list("gin_search_paths", ["."], "Folders to look for gin files in.")
    flags.DEFINE_string("tfds_data_dir", None, "Folder of TensorFlow Datasets.")
    flags.DEFINE_list("seqio_additional_cache_dirs", [], "Folders of cached tasks.")
    for name, explanation in argument_flags.items():
        flags.DEFINE_integer(name, None, explanation)

    def main(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise ValueError(f"unexpected arguments: {' '.join(argv[1:])}")
        tf.config.set_visible_devices([], "GPU")  # the accelerator is JAX's
        args = flags.FLAGS
        if not args["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # the progress lines tell the rest
        if args.tfds_data_dir:
            seqio.set_tfds_data_dir_override(args.tfds_data_dir)
        seqio.add_global_cache_dirs(args.seqio_additional_cache_dirs)
        fn_with_gin = gin.configurable(fn)
        t5x_root = os.path.dirname(os.path.dirname(t5x.__file__))
        parse_gin_flags(
            [*args.gin_search_paths, t5x_root], args.gin_file, args.gin_bindings
        )
        given = {name: args[name].value for name in argument_flags if args[name].present}
        fn_with_gin(**given)

    run(main)


@gin.configurable
def sum_fn(var1: Any = gin.REQUIRED, var2: Any = gin.REQUIRED) -> Any:
    """var1 + var2: in gin files, joins strings and adds numbers."""
    try:
        return var1 + var2
    except TypeError as error:
        raise ValueError(f"sum_fn of {var1!r} and {var2!r}: {error}") from error


@gin.configurable
def bool_fn(var1: Any = gin.REQUIRED) -> bool:
    """Whether var1 is true, as Python sees it."""
    return bool(var1)
