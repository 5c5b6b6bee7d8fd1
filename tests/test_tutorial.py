"""docs/tutorial.md and its notebook, run as a reader would."""

import json

import jupytext
import nbclient
import nbformat
import pytest

import gin_runs

DOCUMENT = gin_runs.ROOT / "docs/tutorial.md"
NOTEBOOK = DOCUMENT.with_suffix(".ipynb")
FEWER_STEPS = {
    "300": "2",
    "700": "4",
    "EVAL_PERIOD = 100": "EVAL_PERIOD = 2",
    "CHECKPOINT_PERIOD = 400": "CHECKPOINT_PERIOD = 2",
    "STATS_PERIOD = 20": "STATS_PERIOD = 1",
}


def test_the_notebook_is_made_from_the_document():
    """By `.venv/bin/jupytext --to ipynb docs/tutorial.md`."""
    made, found = jupytext.read(DOCUMENT), nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    cells = lambda notebook: [(c.cell_type, c.source) for c in notebook.cells]
    assert cells(found) == cells(made)
    assert found.metadata.kernelspec.name == "python3"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook's cells after a run, with fewer steps, and the folder of its files."""
    project = tmp_path_factory.mktemp("tutorial") / "my_project"
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        for text, other in FEWER_STEPS.items():
            cell.source = cell.source.replace(text, other)
        cell.source = cell.source.replace("/tmp/my_project", str(project))
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    return notebook.cells, project


def text_of(cells, part):
    """What the cell that contains a text printed."""
    (cell,) = (c for c in cells if c.cell_type == "code" and part in c.source)
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


def test_every_cell_does_what_it_says(executed):
    cells, project = executed
    assert "train 1" in text_of(cells, "splits =")
    check = text_of(cells, "gbt_t5x.tasks.check")
    assert "examples are among the" in check.replace("\n", "")
    assert "loss" in text_of(cells, "--gin_file=finetune_guided.gin")
    compared = text_of(cells, "studies.compare")
    assert "final development loss" in compared and "beta1 at step 4" in compared
    (shown,) = (c for c in cells if "Image(" in c.source)
    assert "image/png" in shown.outputs[0].data
    metrics = text_of(cells, "t5x.eval").strip().splitlines()[-1]
    assert json.loads(metrics).keys() >= {"step", "accuracy"}
    rows = (project / "learned.csv").read_text().splitlines()
    assert rows[0] == "step,alpha,beta1" and rows[-1].startswith("4,")
    (inferred,) = (project / "inferred").glob("*.jsonl-00000-of-00001")
    lines = [json.loads(line) for line in inferred.read_text().splitlines()]
    assert len(lines) == len((project / "validation.jsonl").read_text().splitlines())
    assert all("prediction" in line for line in lines)
