"""Breaks runs in every way that docs/reliability.md lists, and looks at what is left.

Command: python scripts/soak.py FOLDER [--kills=30] [--terms=5] [--flips=200]
    [--steps=5000] [--seed=0]

A run is the quickstart's guided one, made small. The exit status is 1 if a check fails.
"""

import argparse
from collections.abc import Callable, Iterator
import functools
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import logging
import numpy as np
import orbax.checkpoint as ocp
from t5x import utils

from gbt_t5x import checksums, run_folder

ROOT = pathlib.Path(__file__).parent.parent
STEPS = 400  # of the runs that are broken
PERIOD = 20
SMALL = (
    "network.T5Config.emb_dim=16",
    "network.T5Config.mlp_dim=32",
    "BATCH_SIZE=4",
    f"STATS_PERIOD={PERIOD}",
    f"CHECKPOINT_PERIOD={PERIOD}",
    "train.train_eval_dataset_cfg=None",
)
TIMEOUT = 600  # seconds of one process


class Failed(Exception):
    """A check that does not hold."""


class Process:
    """One `python -m t5x.train`, which logs beside its folder."""

    def __init__(self, model_dir: pathlib.Path, steps: int, log: str | None = None):
        self.log = model_dir.with_name(log or f"{model_dir.name}.log")
        self._started = time.monotonic()
        with open(self.log, "w") as output:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "t5x.train", "--gin_file=gin/quickstart_guided.gin"),
                    f'--gin.MODEL_DIR="{model_dir}"',
                    *(f"--gin.{binding}" for binding in SMALL),
                    f"--gin.TRAIN_STEPS={steps}",
                ],
                cwd=ROOT,
                stderr=output,
                stdout=output,
            )
        self.pid = self._process.pid

    def trains(self) -> bool:
        """Whether a line tells of steps."""
        return "\nstep " in "\n" + self.log.read_text(errors="replace")

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def is_older(self, seconds: float) -> bool:
        return self.seconds() > seconds

    def wait(self, until: Callable[[], bool] = lambda: False) -> int | None:
        """Waits for the end, which has a status, or for something before it."""
        while self._process.poll() is None and not until():
            if self.seconds() > TIMEOUT:
                self._process.kill()
                raise Failed(f"no end after {TIMEOUT} s: {self.log}")
            time.sleep(0.02)
        return self._process.poll()

    def end(self, number: signal.Signals) -> int | None:
        self._process.send_signal(number)
        return self.wait()


def train(model_dir: pathlib.Path, steps: int = STEPS) -> Process:
    """A run to its end.

    Raises:
        Failed: it ended with an error.
    """
    process = Process(model_dir, steps)
    if status := process.wait():
        raise Failed(f"exit status {status}: {process.log}")
    return process


def checkpoint(model_dir: pathlib.Path, step: int = STEPS) -> dict[str, np.ndarray]:
    """Name -> array."""
    tree = ocp.PyTreeCheckpointer().restore(model_dir / f"checkpoint_{step}" / "state")
    return {"/".join(k): np.asarray(x) for k, x in ocp.tree.to_flat_dict(tree).items()}


def check_equal(model_dir: pathlib.Path, expected: pathlib.Path, step: int = STEPS):
    """Raises Failed unless two runs have the same numbers, bit by bit."""
    found, wanted = checkpoint(model_dir, step), checkpoint(expected, step)
    shared = wanted.keys() & found.keys()
    names = wanted.keys() ^ found.keys()
    names |= {n for n in shared if wanted[n].tobytes() != found[n].tobytes()}
    if names:
        raise Failed(f"{model_dir} differs from {expected} in {sorted(names)[:3]}")


def kill(folder: pathlib.Path, whole: pathlib.Path, kills: int, terms: int, rng) -> str:
    """Ends processes at random moments until none is left to end."""
    todo = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    rng.shuffle(todo)
    runs = ended = 0
    while todo:
        runs += 1
        model_dir = folder / f"killed_{runs}"
        status: int | None = -1
        while status and todo:
            process = Process(model_dir, STEPS)
            number = todo[-1]
            if number == signal.SIGTERM:
                process.wait(process.trains)  # before the first step nothing is lost
            moment = process.seconds() + rng.uniform(0, 5 if process.trains() else 20)
            status = process.wait(functools.partial(process.is_older, moment))
            if status is None:
                status = process.end(number)
                wanted = 128 + number if number == signal.SIGTERM else -number
                if status not in (wanted, 0):
                    raise Failed(f"{number.name}: exit status {status}: {process.log}")
                if status:
                    todo.pop()
                    ended += 1
                    seconds = process.seconds()
                    say(f"  {number.name} after {seconds:.1f} s, {len(todo)} left")
            elif status:
                raise Failed(f"exit status {status}: {process.log}")
        if status:
            train(model_dir)
        check_equal(model_dir, whole)
    return f"{ended} processes ended, {runs} runs equal to one that was not"


def two(folder: pathlib.Path, whole: pathlib.Path) -> str:
    """Starts a run in a folder where another process trains."""
    model_dir = folder / "shared"
    first = Process(model_dir, STEPS)
    first.wait((model_dir / "run.lock").exists)
    second = Process(model_dir, STEPS, log="second.log")
    status, seconds = second.wait(), second.seconds()
    last_line = second.log.read_text().splitlines()[-1]
    if status != 1 or f"(process {first.pid} on " not in last_line:
        raise Failed(f"exit status {status}: {second.log}")
    if status := first.wait():
        raise Failed(f"exit status {status} of the first: {first.log}")
    check_equal(model_dir, whole)
    return f"the second ended after {seconds:.0f} s, with an error"


def copies(folder: pathlib.Path, whole: pathlib.Path, name: str) -> pathlib.Path:
    copy = folder / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy, ignore=shutil.ignore_patterns("train", "run.lock"))
    return copy


def flip(path: pathlib.Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def flips(folder: pathlib.Path, whole: pathlib.Path, number: int, rng) -> str:
    """Flips a random bit of a random file of the newest checkpoint, and opens the run."""
    silent = []
    logging.set_verbosity(logging.ERROR)  # each is a warning
    cfg = utils.CheckpointConfig(save=utils.SaveCheckpointConfig(period=PERIOD, keep=3))
    for i in range(number):
        copy = copies(folder, whole, "flipped")
        newest = copy / f"checkpoint_{STEPS}"
        files = [p for p in newest.rglob("*") if p.is_file() and p.stat().st_size]
        path = rng.choice(sorted(files))
        bit = rng.randrange(8 * path.stat().st_size)
        flip(path, bit)
        run_folder.checkpoint_config(cfg, str(copy))
        aside = copy / f"damaged-checkpoint_{STEPS}"
        if newest.exists() or not aside.exists():
            silent.append(f"{path.relative_to(copy)} bit {bit}")
        if i % 50 == 49:
            say(f"  {i + 1} of {number} bits")
    if silent:
        raise Failed(f"{len(silent)} bits were not seen: {silent[:3]}")
    return f"{number} bits, all seen"


def _largest(folder: pathlib.Path) -> pathlib.Path:
    return max(
        (p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


def _cut(path: pathlib.Path) -> None:
    os.truncate(path, 10)  # nothing may refer to the rest of a store's file


def _empty(folder: pathlib.Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _without_checksums(folder: pathlib.Path) -> None:
    (folder / checksums.FILE).unlink()


def _cut_without_checksums(folder: pathlib.Path) -> None:
    _without_checksums(folder)
    _cut(_largest(folder / "state"))


def _flip_middle(path: pathlib.Path) -> None:
    flip(path, 4 * path.stat().st_size)


WITHOUT_CHECKSUMS = "no checksums"
DAMAGES: dict[str, Callable[[pathlib.Path], object]] = {
    "data file deleted": lambda c: _largest(c / "state").unlink(),
    "data file cut": lambda c: _cut(_largest(c / "state")),
    "_METADATA empty": lambda c: (c / "state" / "_METADATA").write_text(""),
    "dataset missing": lambda c: shutil.rmtree(c / "dataset"),
    "dataset cut": lambda c: _cut(_largest(c / "dataset")),
    "dataset flipped": lambda c: _flip_middle(_largest(c / "dataset")),
    "empty folder": _empty,
    "data file cut, no checksums": _cut_without_checksums,
}


def damage(folder: pathlib.Path, whole: pathlib.Path) -> str:
    """Damages the newest checkpoint in every way, and trains on."""
    end = STEPS + PERIOD
    expected = copies(folder, whole, "undamaged")
    train(expected, end)
    for name, do in (DAMAGES | {WITHOUT_CHECKSUMS: _without_checksums}).items():
        copy = copies(folder, whole, "damaged")
        do(copy / f"checkpoint_{STEPS}")
        process, line = train(copy, end), f"the run goes on from step {STEPS - PERIOD}"
        if name == WITHOUT_CHECKSUMS:  # but whole
            line = "all of it was read instead, and is whole"
        if line not in process.log.read_text():
            raise Failed(f"{name}: no line says that {line}: {process.log}")
        check_equal(copy, expected, end)
        say(f"  {name}: {line}")
    copy = copies(folder, whole, "damaged")
    for path in copy.glob("checkpoint_*"):
        _cut(_largest(path / "state"))
    process = Process(copy, end)
    status, names = process.wait(), sorted(p.name for p in copy.glob("checkpoint_*"))
    if status != 1 or f"checkpoint_{STEPS}" not in names or "checkpoint_0" in names:
        raise Failed(f"all damaged: exit status {status}, {names}: {process.log}")
    return f"{len(DAMAGES)} kinds of damage, and every checkpoint damaged"


def long(folder: pathlib.Path, steps: int) -> str:
    """Trains long, and watches memory and open files."""
    process = Process(folder / "long", steps)
    seen: list[tuple[int, int]] = []  # KiB, files
    settled = 0.3  # of the steps: caches are full

    def sample() -> bool:
        lines = process.log.read_text(errors="replace").count("\nstep ")
        if lines * PERIOD > settled * steps:
            try:
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                size = int(status.split("VmRSS:")[1].split()[0])
                seen.append((size, len(os.listdir(f"/proc/{process.pid}/fd"))))
            except (FileNotFoundError, IndexError):
                pass  # it has ended
            time.sleep(0.5)
        return False

    if status := process.wait(sample):
        raise Failed(f"exit status {status}: {process.log}")
    tenth = max(len(seen) // 10, 1)
    first, last = np.median(seen[:tenth], axis=0), np.median(seen[-tenth:], axis=0)
    text = (
        f"{steps} steps: {first[0] / 1024:.0f} to {last[0] / 1024:.0f} MiB, "
        f"{first[1]:.0f} to {last[1]:.0f} open files"
    )
    if last[0] > 1.03 * first[0] or last[1] > first[1] + 2:
        raise Failed(text)
    return text


def say(line: str) -> None:
    print(line, flush=True)


def checks(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], str]]]:
    folder, rng = args.folder.resolve(), random.Random(args.seed)
    whole = folder / "whole"
    yield "a whole run", lambda: f"{train(whole).seconds():.0f} s"
    yield "killed", lambda: kill(folder, whole, args.kills, args.terms, rng)
    yield "two processes", lambda: two(folder, whole)
    yield "flipped bits", lambda: flips(folder, whole, args.flips, rng)
    yield "damaged", lambda: damage(folder, whole)
    yield "long", lambda: long(folder, args.steps)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path, help="emptied first")
    for name, default in (("kills", 30), ("terms", 5), ("flips", 200), ("steps", 5000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    mark = args.folder / "soak"
    if args.folder.exists() and not mark.exists() and os.listdir(args.folder):
        parser.error(f"{args.folder} has files that are not of this script")
    shutil.rmtree(args.folder, ignore_errors=True)
    os.makedirs(args.folder)
    mark.touch()
    # What one process has compiled, no other compiles again.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(f"{args.folder}/xla")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    status, started = 0, time.monotonic()
    for name, check in checks(args):
        try:
            result = check()
        except Failed as failure:
            status, result = 1, f"FAILED: {failure}"
        say(f"{name}: {result}  ({time.monotonic() - started:.0f} s in all)")
    return status


if __name__ == "__main__":
    sys.exit(main())
