"""Trains variants of a configuration from several seeds, and evaluates their runs.

Each is a process of its own. A run has the folder FOLDER/VARIANT/SEED, its MODEL_DIR,
with `study.json` of this module, which says how it was started and how it ended, and
`log.txt` of what it printed. A run that ended well is not repeated; one that was broken
off goes on from its checkpoint, as T5X does. A folder that another command made, or this
one with other contents of gin files, is an error.

    variants = [
        launch.Variant("baseline", ["gbt_t5x/gin/quickstart_baseline.gin"]),
        launch.Variant("guided", ["gbt_t5x/gin/quickstart_guided.gin"], ["BETA1 = 0.8"]),
    ]
    launch.train(variants, "runs/study", seeds=[0, 1, 2], jobs=2)
"""

import argparse
from collections.abc import Sequence
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import signal
import sys
from typing import Any

from gbt_t5x import integrity
from gbt_t5x.studies import commands, macros, processes

STATE, LOG = "study.json", "log.txt"
_DONE, _STARTED, _FAILED = "done", "started", "failed"
# As `actions`, `search`, `run_folder` and `summaries` say it; a setting may be refused
# since a derivative is not finite.
_NOT_FINITE = re.compile(
    r"loss is not finite|is not finite, and (is not saved|MAX_SKIPPED)"
)


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
        """The command line of `python -m t5x.train`, without MODEL_DIR.

        Raises:
            ValueError: a binding is not NAME = VALUE, or of what the study sets.
        """
        for binding in self.bindings:
            name = macros.name_of(binding)
            if name in ("MODEL_DIR", "RANDOM_SEED"):
                raise ValueError(
                    f"binding {binding}: {name} is what the folder and the seeds of a "
                    "study set: leave it out"
                )
        seeded = [*self.bindings, f"RANDOM_SEED = {seed}"]
        return _arguments(self.gin_files, seeded)


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
            wrong, by MODEL_DIR, with paths inside of the folder. One whose loss was not
            finite is not tried again.
        progress: counts these runs among others; of them alone by default.

    Returns:
        Variant -> the MODEL_DIRs of its seeds, which are all done, or in `failures`.

    Raises:
        ValueError: a folder was made by another command, or one works there, and then
            nothing is trained; without `progress`, the first two runs failed alike,
            though not since they diverged, and the others are stopped; or a run failed,
            after the others have ended.
        KeyboardInterrupt: at Ctrl-C, SIGTERM or SIGHUP, when the runs have stopped.
    """
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names) or jobs < 1 or not seeds:
        raise ValueError(
            f"{names}, seeds {[*seeds]}, {jobs} jobs: names must be distinct, and there "
            "must be at least one seed and one job"
        )
    root = pathlib.Path(folder).absolute()
    planned = [
        _Planned(
            f"{variant.name}/{seed}",
            root / variant.name / str(seed),
            variant.arguments(seed),
        )
        for seed in dict.fromkeys(seeds)
        for variant in variants
    ]
    found: dict[pathlib.Path, str] | None = None if failures is None else {}
    with processes.alone(root):
        _run(planned, jobs, found, progress)
    if failures is not None and found:
        inside = {run: text.replace(f"{root}/", "") for run, text in found.items()}
        failures.update(inside)
    return {
        variant.name: [root / variant.name / str(seed) for seed in dict.fromkeys(seeds)]
        for variant in variants
    }


def evaluate(
    model_dirs: Sequence[pathlib.Path],
    gin_files: Sequence[str],
    bindings: Sequence[str] = (),
    *,
    jobs: int = 1,
) -> list[pathlib.Path]:
    """Evaluates the newest checkpoint of runs by `t5x.eval`, as `train` trains them.

    EVAL_OUTPUT_DIR is `test` in MODEL_DIR.

    Args:
        model_dirs: of the runs, which are done.
        gin_files: as of `--gin_file`, which take CHECKPOINT_PATH and EVAL_OUTPUT_DIR.
        bindings: as `NAME = VALUE`.
        jobs: evaluations at once.

    Returns:
        The EVAL_OUTPUT_DIR of each.

    Raises:
        ValueError: a run has no checkpoint, its evaluation was made by another command,
            or evaluations failed.
        KeyboardInterrupt: as of `train`.
    """
    planned = []
    for model_dir in model_dirs:
        steps = integrity.steps(os.fspath(model_dir))
        if not steps:
            raise ValueError(f"{model_dir} has no checkpoint to evaluate")
        newest = model_dir.absolute() / f"checkpoint_{steps[-1]}"
        checkpoint = f"CHECKPOINT_PATH = {json.dumps(os.fspath(newest))}"
        planned.append(
            _Planned(
                "/".join([*model_dir.parts[-2:], "test"]),
                model_dir.absolute() / "test",
                _arguments(gin_files, [*bindings, checkpoint]),
                "t5x.eval",
                "EVAL_OUTPUT_DIR",
            )
        )
    _run(planned, jobs)
    return [run.folder for run in planned]


def _run(
    planned: Sequence["_Planned"],
    jobs: int,
    failures: dict[pathlib.Path, str] | None = None,
    progress: commands.Progress | None = None,
) -> None:
    """Runs what is not done, as `train` says."""
    for run in planned:
        run.check()
    is_whole = progress is None  # else they are a part of a search
    progress = progress or commands.Progress(len(planned), "runs", jobs)
    failed: dict[pathlib.Path, str] = {}
    left, ended = [], []
    for run in planned:
        diverged = run.diverged() if failures is not None else ""
        if diverged:
            failed[run.folder] = diverged
            progress.done(f"{run.name} failed before: {diverged}")
        elif run.is_done():
            progress.done(f"{run.name} was done before")
        else:
            left.append(run)
    are_new = is_whole and len(left) == len(planned) > 2
    with processes.Processes() as started, processes.pool(jobs, started) as pool:
        futures = {pool.submit(run.run, started): run for run in left}
        for future in concurrent.futures.as_completed(futures):
            name, seconds, problem = future.result()
            if problem:
                failed[futures[future].folder] = problem
            progress.done(f"{name} failed: {problem}" if problem else name, seconds)
            ended.append(problem.rpartition(" (")[0])  # without the log
            if are_new and len(ended) == 2 and _is_mistake(*ended):
                raise ValueError(f"the first two runs failed alike: {name}: {problem}")
    if failures is not None:
        failures.update(failed)
    elif failed:
        listed = "; ".join(
            f"{run.name}: {failed[run.folder]}" for run in planned if run.folder in failed
        )
        raise ValueError(
            f"{len(failed)} of {len(planned)} runs failed; the same command tries them "
            f"again: {listed}"
        )


def is_divergence(problem: str) -> bool:
    """Whether what went wrong with a run is that its loss or state was not finite."""
    return bool(_NOT_FINITE.search(problem))


def _is_mistake(problem: str, other: str) -> bool:
    """Whether what went wrong with two runs will go wrong with all."""
    return bool(problem) and problem == other and not is_divergence(problem)


def seconds(model_dir: pathlib.Path) -> float:
    """What a run took to its end, without what it took before it was broken off."""
    return _state(model_dir)["seconds"]


def add_options(
    options: argparse.ArgumentParser, folder: str, *, seeds: bool = True
) -> None:
    """Adds --folder, --jobs, and --seeds.

    Args:
        options: the parser.
        folder: what stands in the help as the default of --folder, which is None.
        seeds: whether there is --seeds.
    """
    options.add_argument(
        "--folder", metavar="DIR", help=f"of the runs; default: {folder}"
    )
    if seeds:
        options.add_argument(
            "--seeds",
            type=commands.number(int, above=-1),
            nargs="+",
            default=[0, 1, 2],
            metavar="N",
            help="default: 0 1 2",
        )
    options.add_argument(
        "--jobs",
        type=commands.number(int),
        default=1,
        metavar="N",
        help="runs at once; default: 1",
    )


def _state(folder: pathlib.Path) -> dict[str, Any]:
    """What `study.json` says, if it is there."""
    file = folder / STATE
    try:
        state = json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"{file} is not whole ({error}): remove it") from error
    if not isinstance(state, dict):
        raise ValueError(f"{file} says nothing of a run: remove it")
    return state


@dataclasses.dataclass(frozen=True)
class _Planned:
    """A run that is to be there."""

    name: str
    folder: pathlib.Path
    arguments: list[str]
    program: str = "t5x.train"
    macro: str = "MODEL_DIR"  # that is the folder

    def state(self) -> dict[str, Any]:
        return _state(self.folder)

    def is_done(self) -> bool:
        return self.state().get("state") == _DONE

    def diverged(self) -> str:
        """What went wrong, if it is that the loss was not finite."""
        problem = self.state().get("problem", "")
        return problem if is_divergence(problem) else ""

    def check(self) -> None:
        """Raises ValueError if another command has made the folder."""
        state = self.state()
        before = state.get("arguments")
        if before is None:
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise ValueError(
                    f"{self.folder} has files, and no {STATE} of a run of this "
                    "command: name another folder, or remove it"
                )
        elif before != self.arguments:
            there = " ".join(x for x in before if x not in self.arguments)
            here = " ".join(x for x in self.arguments if x not in before)
            if not there and not here:  # another order
                there, here = " ".join(before), " ".join(self.arguments)
            raise ValueError(
                f"{self.folder} was trained by another command: that one has "
                f"{there or 'nothing'} where this one has {here or 'nothing'}: name "
                "another folder, or remove it"
            )
        elif state.get("gin", self.gin()) != self.gin():
            raise ValueError(
                f"{self.folder} was trained when {', '.join(self.gin_files())}, or what "
                "they include, bound something else: name another folder, or remove it"
            )

    def gin_files(self) -> list[str]:
        flag = "--gin_file="
        return [x.removeprefix(flag) for x in self.arguments if x.startswith(flag)]

    def gin(self) -> str | None:
        """What its gin files bind, as `macros.digest` has it."""
        return macros.digest(tuple(self.gin_files()))

    def record(self, state: str, **more: Any) -> None:
        """Writes what the folder is of."""
        gin = {"gin": self.gin()} if self.gin() else {}
        content = {"state": state, "arguments": self.arguments, **gin, **more}
        write_json(self.folder / STATE, content)

    def run(self, beside: processes.Processes) -> tuple[str, float, str]:
        """Runs it. Returns the name, seconds, and what went wrong, if anything did."""
        started = commands.now()
        self.record(_STARTED)
        log = self.folder / LOG
        commands.say(f"{self.name}: started, its log is {log}")
        folder = f"--gin.{self.macro}={json.dumps(os.fspath(self.folder))}"
        before = log.stat().st_size if log.exists() else 0  # what earlier tries printed
        command = [sys.executable, "-m", self.program, *self.arguments, folder]
        status = beside.run(command, log)
        seconds = round(commands.now() - started, 1)
        if status == 0:
            self.record(_DONE, seconds=seconds)
            return self.name, seconds, ""
        if beside.stopped:
            return self.name, seconds, "stopped"
        printed = log.read_bytes()[before:].decode(errors="replace")
        lines = printed.strip().splitlines() or ["no output"]
        while lines[-1][:1].isspace():  # where gin was, which it adds to an error on T5X
            lines.pop()
        how = f"status {status}"
        if status < 0:  # as by SIGKILL where memory runs out
            how = f"signal {-status} ({signal.strsignal(-status)})"
        problem = f"{how}, {lines[-1].strip()} ({log})"
        self.record(_FAILED, seconds=seconds, status=status, problem=problem)
        return self.name, seconds, problem


def write_json(file: pathlib.Path, content: Any) -> None:
    """Writes a file, whole or not at all, and its folder."""
    with commands.whole(file) as f:
        f.write(f"{json.dumps(content, indent=1)}\n")


def _arguments(gin_files: Sequence[str], bindings: Sequence[str]) -> list[str]:
    """Those of T5X's programs."""
    files = [f"--gin_file={file}" for file in gin_files]
    return [*files, *(f"--gin.{_joined(binding)}" for binding in bindings)]


def _joined(binding: str) -> str:
    """`NAME = VALUE` as `NAME=VALUE`, as T5X's command line has it."""
    name, equals, value = binding.partition("=")
    if not equals:
        raise ValueError(f"binding {binding!r} is not NAME = VALUE")
    return f"{name.strip()}={value.strip()}"
