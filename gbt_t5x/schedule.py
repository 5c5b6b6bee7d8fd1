"""Hyper-parameters by step, as a CSV file and as a function inside a compiled step.

    step,alpha,beta1
    1,1.0,0.9
    20,1.1758,0.8862

A row has what the update of that number used, counted from 1, as `hyperparams/*` have in
TensorBoard; with groups the columns are alpha/GROUP and so on. Between two rows the raw
number λ moves on a straight line: the logarithm of alpha, the logit of beta1
(`hyperparams.ACTIVATIONS`). The first row holds before it, and the last behind it.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import functools
import io
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from gbt_t5x import checks, hyperparams

_STEP = "step"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Values of hyper-parameters at some steps.

    >>> schedule = Schedule(np.array([1, 3]), {"alpha": np.array([[1.0], [4.0]])})
    >>> print([round(float(schedule.values(step)["alpha"]), 4) for step in (1, 2, 3, 9)])
    [1.0, 2.0, 4.0, 4.0]
    >>> print(f"{schedule.stretched(5).values(3)['alpha']:.4f}")
    2.0000

    Attributes:
        steps: (rows,), each higher than the one before.
        table: hyper-parameter -> (rows, groups), values; without groups (rows, 1).
        groups: names of the groups, sorted; none if there is one of each for all
            parameters.
    """

    steps: np.ndarray
    table: Mapping[str, np.ndarray]
    groups: Sequence[str] = ()

    def stretched(self, last: int) -> "Schedule":
        """The schedule with its last row at another step, and its first where it is.

        Raises:
            ValueError: that is not behind the first.
        """
        checks.check_count("SCHEDULE_STEPS", last)
        start, end = self.steps[0], self.steps[-1]
        if last <= start:
            raise ValueError(
                f"SCHEDULE_STEPS={last}: the schedule begins at step {start:.0f}, and "
                "must end behind it: set SCHEDULE_STEPS, or None"
            )
        if start == end:
            return self
        steps = start + (self.steps - start) * (last - start) / (end - start)
        return dataclasses.replace(self, steps=steps)

    def values(self, step: Any) -> dict[str, jax.Array]:
        """What an update uses: name -> (), or with groups (groups,).

        Args:
            step: (), int32, number of the update, from 1; may be traced.
        """
        # In whole numbers: float32 does not have those above 2^24. Rows between two
        # steps, as stretching leaves them, count from the one behind.
        step = jnp.asarray(step, jnp.int32)
        behind = np.ceil(self.steps).astype(np.int32)
        row = jnp.searchsorted(jnp.asarray(behind), step, side="right") - 1
        row = jnp.maximum(row, 0)
        since = jnp.asarray(step - jnp.asarray(behind)[row], float)
        since = jnp.maximum(since + jnp.asarray(behind - self.steps, float)[row], 0.0)
        found = {}
        for name, table in self.table.items():
            raw, slope = self._lines[name]
            moved = since * jnp.asarray(slope, float)[row]
            forward = hyperparams.ACTIVATIONS[name].forward
            value = forward(jnp.asarray(raw, float)[row] + moved)
            # To the bit at a row: the activation of its rounded λ may be another number.
            value = jnp.where(moved == 0, jnp.asarray(table, float)[row], value)
            found[name] = value if self.groups else value[0]
        return found

    @functools.cached_property
    def _lines(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Name -> raw numbers, and what they move by in a step; 0 behind the last row."""
        lines = {}
        for name, table in self.table.items():
            raw = np.vectorize(hyperparams.ACTIVATIONS[name].inverse)(table)
            moved = np.diff(raw, axis=0) / np.diff(self.steps)[:, None]
            lines[name] = raw, np.append(moved, np.zeros((1, raw.shape[1])), axis=0)
        return lines


def write(schedule: Schedule) -> str:
    """The text of a schedule's file, from which `read` has every float32 to the bit."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    of_groups = [f"/{group}" for group in schedule.groups] or [""]
    rows.writerow([_STEP, *(name + g for name in schedule.table for g in of_groups)])
    for i, step in enumerate(schedule.steps):
        values = np.concatenate([table[i] for table in schedule.table.values()])
        rows.writerow([int(step), *values.astype(np.float32).astype(str)])
    return text.getvalue()


def read(file: Any) -> Schedule:
    """Reads a schedule's file, which may be in a bucket.

    Raises:
        ValueError: it is none.
    """
    try:
        text = epath.Path(str(file)).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"SCHEDULE={str(file)!r} cannot be read ({error}): set SCHEDULE to a file "
            "that python -m gbt_t5x.studies.schedules wrote"
        ) from error
    try:
        return _parse(text)
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"SCHEDULE={str(file)!r} is no schedule: {error}. Its first line must be "
            "step,NAME,... or step,NAME/GROUP,..., and the others numbers: set SCHEDULE "
            "to a file that python -m gbt_t5x.studies.schedules wrote"
        ) from error


def _parse(text: str) -> Schedule:
    """The schedule of a text; raises ValueError or csv.Error with what is wrong."""
    lines = [line for line in csv.reader(io.StringIO(text)) if line]
    if len(lines) < 2:
        raise ValueError(f"it has {len(lines)} lines")
    header = [cell.strip() for cell in lines[0]]
    names, groups = _columns(header)
    rows = np.array([_row(line, len(header)) for line in lines[1:]])
    columns = dict(zip(header, rows.T, strict=True))
    steps = columns[_STEP].astype(int)
    for before, step in zip(steps, steps[1:], strict=False):
        if step <= before:
            raise ValueError(f"step {step} comes after step {before}")
    of = lambda name: [columns[f"{name}/{g}" if g else name] for g in groups]
    table = {name: np.stack(of(name), axis=1) for name in names}
    for name, values in table.items():
        _check_domain(name, values)
    return Schedule(steps, table, [group for group in groups if group])


def _columns(header: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the hyper-parameters and, sorted, of the groups; [""] without groups.

    Raises:
        ValueError: they are not those of a schedule.
    """
    shown = checks.show(",".join(header))
    if header[0] != _STEP or len(set(header)) < len(header) or len(header) < 2:
        raise ValueError(f"its first line is {shown}")
    pairs = [column.partition("/")[::2] for column in header[1:]]
    names = list(dict.fromkeys(name for name, _ in pairs))
    groups = sorted({group for _, group in pairs})
    unknown = [name for name in names if name not in hyperparams.ACTIVATIONS]
    if unknown:
        known = ", ".join(hyperparams.ACTIVATIONS)
        raise ValueError(f"{unknown[0]!r} is none of {known}")
    no_name = any(column.endswith("/") for column in header)
    if (
        no_name
        or len(pairs) < len(names) * len(groups)
        or (len(groups) > 1 and "" in groups)
    ):
        raise ValueError(f"its hyper-parameters have not the same groups, in {shown}")
    return names, groups


def _row(line: Sequence[str], columns: int) -> list[float]:
    """Step and values of a line.

    Raises:
        ValueError: they are not as many numbers as there are columns.
    """
    shown = checks.show(",".join(line))
    if len(line) != columns:
        raise ValueError(f"{columns} columns, and {len(line)} in {shown}")
    try:
        step, *values = map(float, line)
    except ValueError as error:
        raise ValueError(f"{shown} are not numbers") from error
    if not 1 <= step < 2**31 or step != int(step):
        raise ValueError(f"{line[0]} is no number of a step, from 1, in {shown}")
    return [step, *values]


def _check_domain(name: str, values: np.ndarray) -> None:
    """Raises ValueError for a value outside the open interval of a hyper-parameter."""
    activation = hyperparams.ACTIVATIONS[name]
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    inside = (activation.low < rounded) & (rounded < activation.high)
    if not inside.all():
        value = values[~inside][0]
        interval = f"({activation.low:g}, {activation.high:g})"
        raise ValueError(f"{name} is {value:g}, outside {interval}")
