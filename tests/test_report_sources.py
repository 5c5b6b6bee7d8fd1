"""The comparison of sources, on small TensorBoard files made here."""

import pytest
import report_sources
from test_report import write_run


@pytest.fixture
def folders(tmp_path):
    losses = {"baseline": (3.0, 2.0), "heldout": (2.5, 1.8)}
    for name, of_seeds in losses.items():
        for seed, loss in enumerate(of_seeds):
            learned = {} if name == "baseline" else {"alpha": [1.0, 0.5 + seed]}
            curve = {20: 4.0, 40: loss}
            write_run(tmp_path / name / str(seed), curve, [1.0, 1.0], learned)
    return [tmp_path / name for name in reversed(losses)]


def test_table_and_picture_are_of_all_seeds(folders, tmp_path, capsys):
    png = tmp_path / "pictures" / "sources.png"
    report_sources.main([*map(str, folders), "--png", str(png)])
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
    ]
    assert rows[2:] == [
        ["baseline", "3.0000, 2.0000", "2.5000", "-", "-"],
        ["heldout", "2.5000, 1.8000", "2.1500", "-0.3500 ± 0.2121", "alpha 1.000"],
    ]
    assert png.read_bytes().startswith(b"\x89PNG")


def test_other_seeds_do_not_compare(folders, tmp_path):
    (tmp_path / "heldout" / "2").mkdir()
    with pytest.raises(SystemExit, match="seeds differ"):
        report_sources.read(folders)
