"""What `check` found, as aligned text."""

from collections.abc import Mapping, Sequence
import json
from typing import Any

from gbt_t5x.studies import tables
from gbt_t5x.tasks import check_guidance

_WIDTH = 76  # characters of an example
_VERDICTS = {True: "yes", False: "no", None: "not known"}


def render(found: Mapping[str, Any]) -> str:
    """The survey as aligned text."""
    several = len(found["tasks"]) > 1
    name = lambda entry: f"{entry.task}: {entry.split}" if several else entry.split
    lines = [f"{'Mixture' if found['rates'] else 'Task'} {found['task']}"]
    lines += _columns(
        (
            (feature, f"{entry['vocabulary']}, {entry['ids']:,} ids")
            for feature, entry in found["vocabularies"].items()
        )
    )
    blocks = ["\n".join(lines) + "\n"]
    if several:
        rows = [
            [task, source, f"{found['rates'].get(task, 0):.1%}"]
            for task, source in found["tasks"].items()
        ]
        blocks.append(tables.render(["", "source", "rate"], rows, left=2, title="Tasks"))
    rows = [
        [
            name(entry),
            "no end" if entry.examples is None else str(entry.examples),
            f"{entry.read:,}",
            f"{entry.given:,}",
            _by(entry.changed),
        ]
        for entry in found["splits"]
    ]
    title = (
        f"Splits, of which the first {found['examples']:,} examples were read, for up to "
        f"{found['seconds']:g} seconds each"
    )
    header = ["", "examples", "read", "after preprocessors", "by"]
    if not any(entry.changed for entry in found["splits"]):
        header, rows = header[:-1], [row[:-1] for row in rows]
    blocks.append(tables.render(header, rows, title=title))
    rows = [
        [
            name(entry),
            feature,
            *(f"{x:,}" for x in (size.median, size.p90, size.p99, size.longest)),
            f"{size.cut:.1%}",
        ]
        for entry in found["splits"]
        for feature, size in entry.lengths.items()
    ]
    header = ["", "", "median", "90%", "99%", "longest", "cut"]
    title = f"Lengths at TASK_FEATURE_LENGTHS = {found['task_feature_lengths']}"
    blocks.append(tables.render(header, rows, left=2, title=title))
    blocks += _guidance_blocks(found["guidance"])
    lines = ["First examples"]
    lines += _columns(
        (f"{name(entry)} {feature}", _shortened(text))
        for entry in found["splits"]
        for feature, text in entry.example.items()
    )
    blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _by(changed: Mapping[str, tuple[int, int]]) -> str:
    """The preprocessors that drop, join or divide examples."""
    if len(changed) == 1:
        return next(iter(changed))
    return ", ".join(f"{stage} {after:,}" for stage, (_, after) in changed.items())


def _guidance_blocks(entries: Sequence[check_guidance.Guidance]) -> list[str]:
    if len(entries) < 2:
        return [f"Guidance split {e.split}\n{_guidance_lines(e)}" for e in entries]
    rows = [
        [e.split, _VERDICTS[e.held_out], f"{e.same:,}", *map(str, e.compared)]
        for e in entries
    ]
    header = ["", "held out", "same text", "of", "and training examples"]
    title = (
        "Guidance splits, whose examples repeat at the mixture's rates until a batch is "
        "full"
    )
    return [tables.render(header, rows, title=title)]


def _guidance_lines(entry: check_guidance.Guidance) -> str:
    verdict = _VERDICTS[entry.held_out]
    compared, of_training = entry.compared
    rows = "examples repeat, at the mixture's rates, until a batch is full"
    if entry.rows is not None:
        rows = f"fills {entry.rows}"
        if entry.rows_needed:
            rows += f", a batch needs {entry.rows_needed:,}"
    first = "" if compared.is_all else "first "
    among = "" if of_training.is_all else "first "
    return "".join(
        f"{line}\n"
        for line in _columns(
            [
                ("held out", f"{verdict}: {entry.why}"),
                (
                    "same text",
                    f"{entry.same:,} of the {first}{compared.number:,} examples are "
                    f"among the {among}{of_training.number:,} of training",
                ),
                ("rows", rows),
            ]
        )
    )


def _columns(rows: Any) -> list[str]:
    rows = list(rows)
    width = max((len(left) for left, _ in rows), default=0)
    return [f"  {left.ljust(width)}  {right}" for left, right in rows]


def _shortened(text: str) -> str:
    line = json.dumps(text, ensure_ascii=False)[1:-1] or "(empty)"
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."
