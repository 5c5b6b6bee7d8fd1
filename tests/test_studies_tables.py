"""The styles of tables."""

import csv
import io

import pytest

from gbt_t5x.studies import tables

HEADER = ["run", "loss at the end", "α"]
ROWS = [["base|line", "2.5000", "-"], ["next_batch", "12.2500", "0.315 ± 0.002"]]


def test_text_is_aligned_and_breaks_headings():
    assert tables.render(HEADER, ROWS, title="Task docs").splitlines() == [
        "Task docs",
        "               loss at",
        "run            the end              α",
        "base|line       2.5000              -",
        "next_batch     12.2500  0.315 ± 0.002",
    ]


def test_markdown_is_aligned():
    assert tables.render(HEADER, ROWS, "markdown", title="Task docs").splitlines() == [
        "Task docs",
        "",
        "| run        | loss at the end |             α |",
        "| ---------- | --------------: | ------------: |",
        r"| base\|line |          2.5000 |             - |",
        "| next_batch |         12.2500 | 0.315 ± 0.002 |",
    ]


def test_csv_holds_the_cells():
    text = tables.render(HEADER, ROWS, "csv", title="Task docs")
    assert list(csv.reader(io.StringIO(text))) == [HEADER, *ROWS]


def test_latex_is_escaped():
    text = tables.render(HEADER, ROWS, "latex", title="Task docs", left=2)
    assert "% Task docs\n\\begin{tabular}{llr}\n" in text
    assert "  next\\_batch & 12.2500 & 0.315 ± 0.002 \\\\\n" in text


@pytest.mark.parametrize("style", tables.STYLES)
def test_a_table_may_be_empty(style):
    text = tables.render(HEADER, [], style)
    assert "run" in text and text.endswith("\n")
