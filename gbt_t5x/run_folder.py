"""A run's folder: one process trains in it, from its newest whole checkpoint on.

`checkpoint_config` gives T5X its configuration of checkpoints, and before that

- locks the folder, so that a second process cannot train in it,
- verifies the newest checkpoint; damaged ones are set aside, for the newest whole one,
- verifies the checkpoint that a new run starts from.

`check_groups` refuses to go on with other groups of parameters.

While the run goes on, a train state that is not finite is not saved, and every checkpoint
gets checksums. T5X's own transformation of the state before saving is where that happens.

Folders with "://" in their name are left to T5X, but for the state that is not finite.
"""

from collections.abc import Callable, Sequence
import dataclasses
import fcntl
import itertools
import json
import os
import socket
import threading
import time
from typing import Any, TextIO

from absl import logging
from flax import traverse_util
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
from t5x import utils

from gbt_t5x import checksums, integrity, rounding

THREAD = "checksums"  # name of the threads that write them
_LOCK = "run.lock"
_GROUPS = "groups.json"
_ASIDE = "damaged-"
_VERIFY = "`python -m gbt_t5x.verify {}` says what is whole"
_locks: dict[str, TextIO] = {}  # path -> file; open as long as the process lives


def checkpoint_config(
    checkpoint_cfg: utils.CheckpointConfig,
    model_dir: str,
    sensitivity_dtype: str | None = None,
) -> utils.CheckpointConfig:
    """What `train_script.train.checkpoint_cfg` may be.

    Args:
        checkpoint_cfg: when to save, and what a new run starts from.
        model_dir: the run's folder. It is made, and locked, if the run saves.
        sensitivity_dtype: that of the run's `GuidedOptimizer`.

    Returns:
        The same, with checks before and checksums after saving.

    Raises:
        ValueError: model_dir is no name; another process trains in the folder; none of
            its checkpoints is whole; or the one that a new run starts from is damaged; or
            the newest keeps sensitivities in another dtype.
    """
    if not isinstance(model_dir, str) or not model_dir:
        raise ValueError(f"MODEL_DIR={model_dir!r}: must be the name of a folder")
    save: Any = checkpoint_cfg.save
    restore = checkpoint_cfg.restore

    def check() -> None:
        is_local = _is_local(model_dir)
        if is_local:
            _open(
                model_dir,
                bool(save and save.period),
                sensitivity_dtype,
                bool(save and save.save_dataset),
            )
        if restore and not (is_local and integrity.steps(model_dir)):
            _verify(restore)

    _on_one_process(check)
    if save:
        fns = (*save.state_transformation_fns, _BeforeSaving(model_dir))
        save = dataclasses.replace(save, state_transformation_fns=fns)
    return dataclasses.replace(checkpoint_cfg, save=save)


def check_groups(model_dir: str | None, groups: Sequence[str]) -> None:
    """Keeps the names of a run's groups in its folder, and compares them on a restart.

    Args:
        model_dir: the run's folder; None if it has none.
        groups: sorted, as the arrays of λ are; empty without groups.

    Raises:
        ValueError: the run's checkpoints are of other groups.
    """
    if model_dir and groups and _is_local(model_dir):
        _on_one_process(lambda: _compare_groups(model_dir, [*groups]))


def _compare_groups(model_dir: str, groups: list[str]) -> None:
    path = os.path.join(model_dir, _GROUPS)
    if integrity.steps(model_dir):
        if not os.path.exists(path):
            return  # of whichever groups the checkpoints are
        with open(path, encoding="utf-8") as f:
            saved = json.load(f)
        if saved != groups:
            there, here = (
                ", ".join(sorted(set(names) - set(others))[:4]) or "no other"
                for names, others in ((saved, groups), (groups, saved))
            )
            raise ValueError(
                f"the checkpoints in MODEL_DIR={model_dir!r} have {len(saved)} groups of "
                f"parameters, {there} among them, and this run has {len(groups)}, {here} "
                "among them: set GROUPS as it was, or MODEL_DIR to another folder"
            )
        return
    os.makedirs(model_dir, exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:  # one that is cut is written again
        json.dump(groups, f)


def restore_config(restore_cfg: utils.RestoreCheckpointConfig) -> Any:
    """The configuration, whose checkpoints are verified.

    It is for checkpoints of other runs, in evaluation and inference: none is set aside.

    Raises:
        ValueError: one is damaged.
    """
    _on_one_process(lambda: _verify(restore_cfg))
    return restore_cfg


def _is_local(folder: str) -> bool:
    return "://" not in folder


def _on_one_process(check: Callable[[], None]) -> None:
    """Checks on the first process; all raise if it does."""
    if jax.process_count() == 1:
        check()
        return
    error = None
    if jax.process_index() == 0:
        try:
            check()
        except Exception as e:  # the others wait
            error = e
    failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
    if error:
        raise error
    if failed:
        raise ValueError("process 0 found a fault in the run's folder: its log names it")


def _verify(restore_cfg: utils.RestoreCheckpointConfig) -> None:
    named = restore_cfg.path
    for path in [named] if isinstance(named, str) else named or ():
        if not _is_local(path):
            continue
        paths = [path]
        if restore_cfg.mode != "specific":
            steps = integrity.steps(path)[-1 if restore_cfg.mode == "latest" else 0 :]
            paths = [os.path.join(path, f"checkpoint_{step}") for step in steps]
        for folder in filter(os.path.isdir, paths):
            damage = integrity.check(folder, needs_position=False).damage
            if damage:
                raise ValueError(
                    f"the checkpoint {folder} is damaged: {damage}. Set "
                    "RestoreCheckpointConfig.path to another checkpoint_STEP folder and "
                    ".mode = 'specific'; "
                    + _VERIFY.format(os.path.dirname(folder) or ".")
                )


def _open(
    model_dir: str,
    saves: bool,
    sensitivity_dtype: str | None,
    needs_position: bool = True,
) -> None:
    """Locks the folder; sets aside what is newer than its newest whole checkpoint."""
    if saves:
        _lock(model_dir)
    damaged: list[tuple[str, str]] = []
    steps = integrity.steps(model_dir)
    for step in reversed(steps):
        folder = os.path.join(model_dir, f"checkpoint_{step}")
        report = integrity.check(folder, needs_position=needs_position)
        if not report.damage:
            if not report.has_checksums:
                logging.warning(
                    "%s has no checksums: all of it was read instead, and is whole",
                    folder,
                )
            _check_dtype(folder, sensitivity_dtype or rounding.DEFAULT)
            break
        damaged.append((folder, report.damage))
    else:
        aside = [n for n in _listdir(model_dir) if n.startswith(_ASIDE)]
        if steps or aside:
            raise ValueError(_none_whole(model_dir, damaged, aside))
    for folder, damage in damaged:
        if not saves:
            raise ValueError(
                f"the checkpoint {folder} is damaged: {damage}. A run that saves "
                "(SaveCheckpointConfig.period) sets it aside and goes on from step "
                f"{step}"
            )
        aside_folder = _free_name(model_dir, _ASIDE + os.path.basename(folder))
        os.rename(folder, aside_folder)
        logging.warning(
            "%s is damaged (%s): it is now %s, and the run goes on from step %d",
            folder,
            damage,
            os.path.basename(aside_folder),
            step,
        )


def _check_dtype(folder: str, sensitivity_dtype: str) -> None:
    """Raises ValueError for a checkpoint that keeps sensitivities in another dtype."""
    found = integrity.dtype_of(folder, "state.sensitivity.params")
    if found not in (None, sensitivity_dtype):
        raise ValueError(
            f"{folder} keeps sensitivities in {found}, and the run is to keep them in "
            f"{sensitivity_dtype}: set SENSITIVITY_DTYPE = {found!r}, and guide by what "
            "guided it (DISCOUNT, next_batch.gin)"
        )


def _none_whole(
    model_dir: str, damaged: Sequence[tuple[str, str]], aside: Sequence[str]
) -> str:
    found = [f"{os.path.basename(folder)}: {damage}" for folder, damage in damaged]
    found += [f"{name}: set aside" for name in aside]
    return (
        f"no checkpoint in MODEL_DIR={model_dir!r} is whole ({'; '.join(found)}): copy "
        "one there, or set MODEL_DIR to another folder to begin anew. Nothing was changed"
    )


def _listdir(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _free_name(folder: str, name: str) -> str:
    names = itertools.chain([name], (f"{name}.{i}" for i in itertools.count(2)))
    taken = _listdir(folder)
    return os.path.join(folder, next(n for n in names if n not in taken))


def _lock(model_dir: str) -> None:
    """Makes and locks the folder, until the process ends.

    Its own lock stands in nobody's way.
    """
    path = os.path.join(os.path.realpath(model_dir), _LOCK)
    if path in _locks and os.path.exists(path):
        return
    try:
        os.makedirs(model_dir, exist_ok=True)
        f = open(path, "a+", encoding="utf-8")
    except OSError as e:
        raise ValueError(
            f"MODEL_DIR={model_dir!r} cannot be written: {e}. Set it to a folder that can"
        ) from e
    try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        f.seek(0)
        holder = f.read().strip() or "not known"
        f.close()
        raise ValueError(
            f"another process trains in MODEL_DIR={model_dir!r} ({holder}): wait until "
            "it has ended, stop it, or set MODEL_DIR to another folder"
        ) from e
    except OSError as e:
        f.close()
        logging.warning("%s cannot be locked (%s): train with one process", path, e)
        return
    f.truncate(0)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    f.write(f"process {os.getpid()} on {socket.gethostname()}, since {started}\n")
    f.flush()
    _locks[path] = f


@jax.jit
def _any_bad(arrays: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    """Whether each array has a number that is not finite, or an optional one a NaN."""
    bad = {name: ~jnp.isfinite(x).all() for name, x in arrays.items()}
    return bad | {name: jnp.isnan(x).any() for name, x in optional.items()}


def not_finite(state: Any) -> list[str]:
    """Names of the arrays of a state_dict that are not finite.

    Sensitivities may be what they are: the next update drops what is not finite. A single
    number in the state of an optimizer may be infinite, as the best loss is that
    optax.contrib.reduce_on_plateau starts from; a hyper-parameter may not.
    """
    arrays = {
        "/".join(path): x
        for path, x in traverse_util.flatten_dict(state).items()
        if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact) and x.size
        if path[:2] != ("state", "sensitivity")
    }

    numbers = {
        name: x
        for name, x in arrays.items()
        if name.startswith("state/param_states/") and not x.ndim
    }
    others = {name: x for name, x in arrays.items() if name not in numbers}
    found = jax.device_get(_any_bad(others, numbers))
    return sorted(name for name, is_bad in found.items() if is_bad)


class _BeforeSaving:
    """Refuses a state that is not finite; has checksums written once it is saved."""

    def __init__(self, model_dir: str):
        self._model_dir = model_dir
        self._saves = 0

    def __call__(self, state_dict: Any, parameter_infos: Any) -> tuple[Any, Any]:
        """Called by T5X before each save, with the train state."""
        step = int(jax.device_get(state_dict["state"]["step"]))
        names = not_finite(state_dict)
        if names:
            raise ValueError(self._refusal(step, names))
        folder = os.path.join(self._model_dir, f"checkpoint_{step}")
        first_process = jax.process_index() == 0
        if first_process and _is_local(folder) and not os.path.exists(folder):
            self._saves += 1
            threading.Thread(
                target=self._write_checksums, args=(folder, self._saves), name=THREAD
            ).start()
        return state_dict, parameter_infos

    def _write_checksums(self, folder: str, save: int) -> None:
        """Waits for a checkpoint's folder, which gets its name when it is whole."""
        while not os.path.isdir(folder):
            # A save waits until the one before it has ended, well or not.
            if self._saves > save + 1 or not threading.main_thread().is_alive():
                return
            time.sleep(0.05)
        try:
            checksums.write(folder)
        except FileNotFoundError:
            pass  # a newer checkpoint has taken its place

    def _refusal(self, step: int, names: Sequence[str]) -> str:
        last = "there is none"
        steps = integrity.steps(self._model_dir) if _is_local(self._model_dir) else []
        for saved in reversed(steps):
            folder = os.path.join(self._model_dir, f"checkpoint_{saved}")
            report = integrity.check(folder, needs_position=False)
            if not report.damage and not report.not_finite:
                last = folder
                break
        return (
            f"the train state of step {step} is not finite, and is not saved: {names[0]} "
            f"and {len(names) - 1} arrays more. The last finite checkpoint: {last}. Go "
            "on from it with a lower utils.create_learning_rate_scheduler."
            "base_learning_rate, or with other data"
        )
