"""Python programs in new processes, forked from one that has imported what they do.

That one has started neither JAX's backend nor a session of TensorFlow.
"""

import functools
import multiprocessing
import os
import pathlib
import runpy
import sys
import tempfile
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parent.parent
# No program itself: it defines flags, which it could not do twice.
_IMPORTED = ["t5x.trainer", "t5x.utils", "t5x.examples.t5.network", "gbt_t5x.trainer"]
_IMPORTED += ["gbt_t5x.run_folder", "gbt_t5x.optax_optimizer"]
_IMPORTED += ["gbt_t5x.tasks.cpython_docs", "gbt_t5x.tasks.offline_translation"]


class Done(NamedTuple):
    """What a program has left."""

    returncode: int | None
    stdout: str
    stderr: str


@functools.cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def run(program: str, *arguments: str, cwd: Any = ROOT, **env: str) -> Done:
    """Runs a module, as `python -m` does, or a file whose name ends in .py.

    Args:
        program: the module or file.
        *arguments: of the command line.
        cwd: where.
        **env: changes to the environment.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        command = [program, *arguments]
        changed = {**os.environ, **env}
        process = _context().Process(target=_run, args=(command, cwd, changed, outputs))
        process.start()
        process.join()
        texts = [pathlib.Path(file).read_text() for file in outputs]
    return Done(process.exitcode, *texts)


def devices(number: int) -> dict[str, str]:
    """What makes XLA show a CPU as so many devices, of the environment."""
    flag = f"--xla_force_host_platform_device_count={number}"
    return {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flag}"}


def _run(command: list[str], cwd: Any, env: dict[str, str], outputs: list[str]) -> None:
    for number, file in enumerate(outputs, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command
    if command[0].endswith(".py"):
        runpy.run_path(command[0], run_name="__main__")
    else:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
