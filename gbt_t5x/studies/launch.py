"""Trains variants of a configuration from several seeds, each in a process of its own.

A run has the folder FOLDER/VARIANT/SEED, its MODEL_DIR, with `study.json` of this module,
which says how it was started and how it ended, and `log.txt` of what it printed. A run
that ended well is not repeated; one that was broken off goes on from its checkpoint, as
T5X does. A folder that another command made is an error.

    variants = [
        launch.Variant("baseline", ["gbt_t5x/gin/quickstart_baseline.gin"]),
        launch.Variant("guided", ["gbt_t5x/gin/quickstart_guided.gin"], ["BETA1 = 0.8"]),
    ]
    launch.train(variants, "runs/study", seeds=[0, 1, 2], jobs=2)
"""

import argparse
from collections.abc import Iterator, Sequence
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from typing import Any

from gbt_t5x.studies import commands

_STATE, LOG = "study.json", "log.txt"
_DONE, _STARTED, _FAILED = "done", "started", "failed"
_NOT_FINITE = "loss is not finite"  # of actions.StopAtNonFiniteLoss


@dataclasses.dataclass(frozen=True)
class Variant:
    """A configuration, by a name that is a folder's.

    Attributes:
        name: one part of a path.
        gin_files: as of `--gin_file`, in order.
        bindings: as `NAME = VALUE`, which come after all files.
    """

    name: str
    gin_files: Sequence[str]
    bindings: Sequence[str] = ()

    def arguments(self, seed: int) -> list[str]:
        """The command line of `python -m t5x.train`, without MODEL_DIR."""
        return [
            *(f"--gin_file={file}" for file in self.gin_files),
            *(f"--gin.{_joined(binding)}" for binding in self.bindings),
            f"--gin.RANDOM_SEED={seed}",
        ]


def train(
    variants: Sequence[Variant],
    folder: str | os.PathLike,
    *,
    seeds: Sequence[int] = (0,),
    jobs: int = 1,
    failures: dict[pathlib.Path, str] | None = None,
    progress: commands.Progress | None = None,
) -> dict[str, list[pathlib.Path]]:
    """Trains every variant from every seed, and says on stderr how it goes.

    Runs are in the order of the seeds, so that after the first seed all variants compare.

    Args:
        variants: of distinct names.
        folder: has a folder for each variant, and in it one for each seed.
        seeds: RANDOM_SEED of the runs.
        jobs: runs at once.
        failures: where given, runs that fail are no error: here is entered what went
            wrong, by MODEL_DIR. One whose loss was not finite is not tried again.
        progress: counts these runs among others; of them alone by default.

    Returns:
        Variant -> the MODEL_DIRs of its seeds, which are all done, or in `failures`.

    Raises:
        ValueError: a folder was made by another command, and then nothing is trained; or
            a run failed, after the others have ended.
        KeyboardInterrupt: at Ctrl-C or SIGTERM, when the runs have stopped.
    """
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names) or jobs < 1 or not seeds:
        raise ValueError(
            f"{names}, seeds {[*seeds]}, {jobs} jobs: names must be distinct, and there "
            "must be at least one seed and one job"
        )
    root = pathlib.Path(folder).absolute()
    planned = [
        _Planned(root / variant.name / str(seed), variant.arguments(seed))
        for seed in dict.fromkeys(seeds)
        for variant in variants
    ]
    for run in planned:
        run.check()
    progress = progress or commands.Progress(len(planned), "runs", jobs)
    failed: dict[pathlib.Path, str] = {}
    left = []
    for run in planned:
        diverged = run.diverged() if failures is not None else ""
        if diverged:
            failed[run.model_dir] = diverged
            progress.done(f"{run.name} failed before: {diverged}")
        elif run.is_done():
            progress.done(f"{run.name} was done before")
        else:
            left.append(run)
    with _Processes() as processes, _pool(jobs, processes) as pool:
        futures = {pool.submit(run.train, processes): run for run in left}
        for future in concurrent.futures.as_completed(futures):
            name, seconds, problem = future.result()
            if problem:
                failed[futures[future].model_dir] = problem
            progress.done(f"{name} failed: {problem}" if problem else name, seconds)
    if failures is not None:
        failures.update(failed)
    elif failed:
        listed = "; ".join(
            f"{run.name}: {failed[run.model_dir]}"
            for run in planned
            if run.model_dir in failed
        )
        raise ValueError(
            f"{len(failed)} of {len(planned)} runs failed; the same command tries them "
            f"again: {listed}"
        )
    return {
        variant.name: [root / variant.name / str(seed) for seed in dict.fromkeys(seeds)]
        for variant in variants
    }


def seconds(model_dir: pathlib.Path) -> float:
    """What a run took to its end, without what it took before it was broken off."""
    return _Planned(model_dir, []).state()["seconds"]


def add_options(options: argparse.ArgumentParser, folder: str) -> None:
    """Adds --folder, --seeds and --jobs.

    Args:
        options: the parser.
        folder: what stands in the help as the default of --folder, which is None.
    """
    options.add_argument(
        "--folder", metavar="DIR", help=f"of the runs; default: {folder}"
    )
    options.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        metavar="N",
        help="default: 0 1 2",
    )
    options.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs at once; default: 1"
    )


@dataclasses.dataclass(frozen=True)
class _Planned:
    """A run that is to be there."""

    model_dir: pathlib.Path
    arguments: list[str]

    @property
    def name(self) -> str:
        return "/".join(self.model_dir.parts[-2:])

    def state(self) -> dict[str, Any]:
        file = self.model_dir / _STATE
        try:
            return json.loads(file.read_text()) if file.exists() else {}
        except ValueError as error:
            raise ValueError(f"{file} is not whole ({error}): remove it") from error

    def is_done(self) -> bool:
        return self.state().get("state") == _DONE

    def diverged(self) -> str:
        """What went wrong, if it is that the loss was not finite."""
        problem = self.state().get("problem", "")
        return problem if _NOT_FINITE in problem else ""

    def check(self) -> None:
        """Raises ValueError if another command has made the folder."""
        before = self.state().get("arguments")
        if before is None:
            if self.model_dir.is_dir() and any(self.model_dir.iterdir()):
                raise ValueError(
                    f"{self.model_dir} has files, and no {_STATE} of a run of this "
                    "command: name another folder, or remove it"
                )
        elif before != self.arguments:
            there = " ".join(x for x in before if x not in self.arguments)
            here = " ".join(x for x in self.arguments if x not in before)
            if not there and not here:  # another order
                there, here = " ".join(before), " ".join(self.arguments)
            raise ValueError(
                f"{self.model_dir} was trained by another command: that one has "
                f"{there or 'nothing'} where this one has {here or 'nothing'}: name "
                "another folder, or remove it"
            )

    def record(self, state: str, **more: Any) -> None:
        """Writes what the folder is of, whole or not at all."""
        self.model_dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"state": state, "arguments": self.arguments} | more, indent=1)
        partial = self.model_dir / f"{_STATE}.partial"
        partial.write_text(f"{text}\n")
        partial.replace(self.model_dir / _STATE)

    def train(self, processes: "_Processes") -> tuple[str, float, str]:
        """Trains. Returns the name, seconds, and what went wrong, if anything did."""
        started = commands.now()
        self.record(_STARTED)
        log = self.model_dir / LOG
        print(f"{self.name}: started, its log is {log}", file=sys.stderr, flush=True)
        model_dir = json.dumps(os.fspath(self.model_dir))
        command = [sys.executable, "-m", "t5x.train", *self.arguments]
        status = processes.run([*command, f"--gin.MODEL_DIR={model_dir}"], log)
        seconds = round(commands.now() - started, 1)
        if status == 0:
            self.record(_DONE, seconds=seconds)
            return self.name, seconds, ""
        if processes.stopped:
            return self.name, seconds, "stopped"
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        problem = f"status {status}, {lines[-1].strip()} ({log})"
        self.record(_FAILED, seconds=seconds, status=status, problem=problem)
        return self.name, seconds, problem


class _Processes:
    """Processes that get a signal when this one does: they save, and end."""

    def __init__(self) -> None:
        self.stopped = False
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._before: Any = None

    def __enter__(self) -> "_Processes":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._interrupt)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _interrupt(self, number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def run(self, command: Sequence[str], log: pathlib.Path) -> int:
        """Runs a command, which appends to a log. Returns its status."""
        # Fewer page faults: shorter steps.
        env = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} | os.environ
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
                print(f"stopping: waits until {names} are saved", file=sys.stderr)
            for process in self._running:
                process.terminate()


@contextlib.contextmanager
def _pool(
    jobs: int, processes: _Processes
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


def _joined(binding: str) -> str:
    """`NAME = VALUE` as `NAME=VALUE`, as T5X's command line has it."""
    name, equals, value = binding.partition("=")
    if not equals:
        raise ValueError(f"binding {binding!r} is not NAME = VALUE")
    return f"{name.strip()}={value.strip()}"
