"""Gin files and bindings from the command line."""

from collections.abc import Callable, Sequence
import os
from typing import Any

from absl import app
import gin


@gin.configurable
def get_gin_config_str() -> str:
    """All bindings."""
    return gin.config_str()


def parse_gin_flags(
    gin_search_paths: Sequence[str],
    gin_files: Sequence[str] | None,
    gin_bindings: Sequence[str],
    skip_unknown: bool | Sequence[str] = False,
    finalize_config: bool = True,
) -> None:
    """Parses files, then bindings, looking for files under every search path."""
    for path in gin_search_paths:
        gin.add_config_file_search_path(path)
    gin.parse_config_files_and_bindings(
        gin_files,
        gin_bindings,
        skip_unknown=skip_unknown,
        finalize_config=finalize_config,
    )


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


def run(main: Callable) -> None:
    """Runs a program whose command line may hold --gin.NAME=VALUE."""
    app.run(
        main, flags_parser=lambda argv: app.parse_flags_with_usage(rewrite_gin_args(argv))
    )
