"""Whether training reads a guidance split, and how many rows it fills."""

import argparse
from collections.abc import Sequence
import dataclasses
from typing import Any

import seqio

from gbt_t5x import guidance
from gbt_t5x.tasks import survey


@dataclasses.dataclass(frozen=True)
class Guidance:
    """What is known of a guidance split.

    Attributes:
        split: TASK: SPLIT.
        held_out: whether training reads none of it; None if sources do not say.
        why: what says so.
        same: how many of its first examples have the contents of one of the first
            training examples.
        compared: how many of both were compared.
        rows: that it fills, as far as was read; None if examples repeat until a batch is
            full.
        rows_needed: for a batch; None if that was not asked.
    """

    split: str
    held_out: bool | None
    why: str
    same: int
    compared: tuple[survey.Count, survey.Count]
    rows: survey.Count | None
    rows_needed: int | None

    def problems(self) -> list[str]:
        """Why a run refuses it."""
        found = []
        if self.held_out is False:
            found.append(
                f"guidance split {self.split} overlaps the training split ({self.why}): "
                "set GUIDANCE_SPLIT to a split of other examples"
            )
        rows = self.rows
        if rows and rows.is_all and rows.number < (self.rows_needed or 0):
            found.append(
                f"guidance split {self.split} fills {rows} rows of the "
                f"{self.rows_needed} of a batch: enlarge the split, or lower "
                "GUIDANCE_BATCH_SIZE"
            )
        return found


def guidance_of(
    held_out: Sequence[Any], trained: Sequence[Any], options: argparse.Namespace
) -> list[Guidance]:
    """One entry for each task that has the split."""
    split, seconds = options.guidance_split, options.seconds
    entries = []
    read: set[bytes] = set()
    numbers = []
    for task in trained:
        hashes, is_all = survey.contents(task, "train", seconds)
        read.update(hashes)
        numbers.append(survey.Count(len(hashes), is_all))
    of_training = survey.Count(
        sum(n.number for n in numbers), all(n.is_all for n in numbers)
    )
    for task in held_out:
        known, why = _held_out(task, split, trained)
        hashes, is_all = survey.contents(task, split, seconds)
        rows = None
        if len(held_out) == 1:
            most = max(64, 4 * (options.batch_size or 0))
            rows = survey.guidance_rows(
                task, split, options.task_feature_lengths, most, seconds
            )
        entries.append(
            Guidance(
                split=f"{task.name}: {split}",
                held_out=known,
                why=why,
                same=sum(digest in read for digest in hashes),
                compared=(survey.Count(len(hashes), is_all), of_training),
                rows=rows,
                rows_needed=options.batch_size,
            )
        )
    return entries


def _held_out(
    task: seqio.Task, split: str, trained: Sequence[seqio.Task]
) -> tuple[bool | None, str]:
    """Guidance.held_out and Guidance.why."""
    overlaps = {
        other.name: guidance.overlap(task.source, split, other.source, "train")
        for other in trained
    }
    shared = [name for name, overlap in overlaps.items() if overlap]
    if shared:
        of = "" if shared == [task.name] else f", of {', '.join(shared)}"
        return False, f"both read {_where(task, split)}{of}"
    if None in overlaps.values():
        source = type(task.source).__name__
        return None, f"{source} does not say which examples it reads"
    why = f"it reads {_where(task, split)}"
    if task in trained:
        why += f", training {_where(task, 'train')}"
    return True, why


def _where(task: Any, split: str) -> str:
    """What a source reads for a split, in short."""
    if isinstance(task.source, seqio.TfdsDataSource):
        return str(task.source.tfds_dataset._map_split(split))
    parts = guidance.slices(task.source, split)
    if not parts:
        return repr(split)
    first = parts[0]
    text = str(first.name)
    if (first.start, first.stop) != (0, guidance.END):
        stop = "" if first.stop == guidance.END else first.stop
        text += f"[{first.start or ''}:{stop}]"
    return text + (f" and {len(parts) - 1} files" if len(parts) > 1 else "")
