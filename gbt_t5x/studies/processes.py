"""Processes that run beside each other, on shares of the cores, and stop as one."""

import atexit
from collections.abc import Iterator, Sequence
import concurrent.futures
import contextlib
import fcntl
import functools
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
from typing import Any

from gbt_t5x.studies import commands


class Processes:
    """Processes that get a signal when this one does: they save, and end."""

    def __init__(self) -> None:
        self.stopped = False
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Processes":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:  # as nohup has it
                    self._before[number] = before
                    signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _interrupt(self, number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def run(self, command: Sequence[str], log: pathlib.Path) -> int:
        """Runs a command, which appends to a log. Returns its status."""
        defaults = {
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # fewer page faults
            "JAX_COMPILATION_CACHE_DIR": _compiled(),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
            "JAX_TRACEBACK_FILTERING": "off",  # else a note of JAX's follows an error
        }
        env = defaults | os.environ
        with log.open("ab") as output:
            with self._lock:
                if self.stopped:
                    return -signal.SIGTERM
                # In a session of its own: a terminal's Ctrl-C reaches this process alone.
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=True,
                    pass_fds=[*_held.values()],
                )
                self._running.add(process)
            status = process.wait()
            with self._lock:
                self._running.remove(process)
        return status

    def stop(self) -> None:
        """Has those that run save and end, and starts no more."""
        with self._lock:
            self.stopped = True
            if self._running:
                names = f"{len(self._running)} runs"
                commands.say(f"stopping: waits until {names} are saved")
            for process in self._running:
                process.terminate()


_held: dict[str, int] = {}  # real path of a locked folder -> its descriptor


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[None]:
    """Locks a folder, which is made, for this command and the processes that it starts.

    One that this command has locked stays so.

    Raises:
        ValueError: another command works there, or a process of one that was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = os.path.realpath(folder)
    if path in _held:  # for what this is a part of
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another command works in {folder}, or a run of one that was killed: "
                "wait until it ends, or stop it"
            ) from None
        except OSError as error:  # a file system without locks
            commands.say(f"{folder} cannot be locked ({error}): use one command there")
        _held[path] = descriptor
        yield
    finally:
        _held.pop(path, None)
        os.close(descriptor)


@functools.cache
def _compiled() -> str:
    """A folder where processes find what others have compiled, until this one ends."""
    folder = tempfile.mkdtemp(prefix="gbt_t5x_compiled_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextlib.contextmanager
def pool(
    jobs: int, processes: Processes
) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Threads that wait for processes; at an exception these are stopped first.

    Each has its share of the cores, and its processes inherit it: two of XLA's pools of
    threads on the same cores wait for each other.
    """
    pins = hasattr(os, "sched_setaffinity")  # of the calling thread
    cores = sorted(os.sched_getaffinity(0)) if pins else []
    shares = itertools.cycle([cores[i::jobs] or cores for i in range(jobs)])
    take_share = lambda: os.sched_setaffinity(0, next(shares)) if pins else None
    with concurrent.futures.ThreadPoolExecutor(jobs, initializer=take_share) as pool:
        try:
            yield pool
        except BaseException:
            processes.stop()
            pool.shutdown(cancel_futures=True)
            raise
