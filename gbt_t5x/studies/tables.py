"""Writes tables: aligned text, Markdown, CSV and LaTeX."""

from collections.abc import Callable, Mapping, Sequence
import csv
import io
import textwrap

_NUMBER = 10  # the least width of a column of text that is aligned to the right


def render(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    style: str = "text",
    *,
    title: str = "",
    left: int = 1,
) -> str:
    r"""A table in a style.

    >>> print(render(["", "loss"], [["a", "2.5"]], "markdown"), end="")
    |    | loss |
    | -- | ---: |
    | a  |  2.5 |

    Args:
        header: a heading for each column.
        rows: the cells, as many in each row.
        style: one of STYLES.
        title: stands above; CSV has none.
        left: so many columns are aligned to the left, the others to the right.

    Returns:
        Lines, the last of which ends too.
    """
    return STYLES[style](header, rows, title, left)


def _text(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str, left: int
) -> str:
    """Headings are broken between words to the width of their columns."""
    widths = [
        max(len(part) for part in [*(row[i] for row in rows), *heading.split(), ""])
        for i, heading in enumerate(header)
    ]
    widths = [
        width if i < left else max(_NUMBER, width) for i, width in enumerate(widths)
    ]
    broken = [
        textwrap.wrap(h, max(1, w)) or [""] for h, w in zip(header, widths, strict=True)
    ]
    height = max(map(len, broken))
    above = [[""] * (height - len(lines)) + lines for lines in broken]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(_padded(cells, widths, left)).rstrip()

    lines = [title] if title else []
    lines += [line(cells) for cells in zip(*above, strict=True)]
    return "".join(f"{line}\n" for line in [*lines, *map(line, rows)])


def _padded(cells: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    """The cells, of which the first `left` are aligned to the left."""
    return [
        cell.ljust(width) if i < left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def _markdown(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str, left: int
) -> str:
    header = [cell.replace("|", r"\|") for cell in header]
    rows = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    widths = [max(2, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * w if i < left else f"{'-' * (w - 1)}:" for i, w in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(_padded(cells, widths, left))} |"

    above = f"{title}\n\n" if title else ""
    return above + "\n".join(map(line, [header, rule, *rows])) + "\n"


def _csv(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str, left: int
) -> str:
    del title, left
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "_&%$#{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _latex(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str, left: int
) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"  {' & '.join(cell.translate(_LATEX) for cell in cells)} \\\\"

    columns = "l" * left + "r" * (len(header) - left)
    return "\n".join(
        [
            *([f"% {title}"] if title else []),
            f"\\begin{{tabular}}{{{columns}}}",
            line(header),
            "  \\hline",
            *map(line, rows),
            "\\end{tabular}\n",
        ]
    )


STYLES: Mapping[str, Callable[[Sequence[str], Sequence[Sequence[str]], str, int], str]]
STYLES = {"text": _text, "markdown": _markdown, "csv": _csv, "latex": _latex}
