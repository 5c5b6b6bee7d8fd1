"""TensorBoard finds the page of what λ did, and fills its charts."""

import json
import re
import shutil

from clu import metric_writers
import numpy as np
import pytest
from tensorboard import context
from tensorboard.backend.event_processing import (
    data_provider,
    plugin_event_multiplexer,
)
from tensorboard.plugins import base_plugin
from tensorboard.plugins.custom_scalar import custom_scalars_plugin
from tensorboard.plugins.scalar import scalars_plugin

from gbt_t5x import layout, summaries, tags
import gin_runs
import text_runs

GIN_FILE = "gin/quickstart_guided.gin"
BINDINGS = (gin_runs.TINY_NETWORK,)
EACH = r"GROUPS = ((r'\g<0>', '.*'),)"
TWO = "GROUPS = (('encoder', 'encoder/.*'), ('rest', '.*'))"
_REQUEST = context.RequestContext()


class Board:
    """TensorBoard's own code on a folder of runs."""

    def __init__(self, folder):
        multiplexer = plugin_event_multiplexer.EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(folder)).Reload()
        provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
        plugins = {}
        made = base_plugin.TBContext(
            data_provider=provider, plugin_name_to_instance=plugins
        )
        plugins["scalars"] = scalars_plugin.ScalarsPlugin(made)
        self._plugin = custom_scalars_plugin.CustomScalarsPlugin(made)

    def charts(self):
        """Title -> chart of the one page."""
        found = self._plugin.layout_impl(_REQUEST, "")
        (page,) = json.loads(found)["category"]
        titles = [chart["title"] for chart in page["chart"]]
        assert len(titles) == len(set(titles))
        return dict(zip(titles, page["chart"], strict=True))

    def lines(self, chart, run="train"):
        """Tag -> (steps, values) that a chart draws of a run."""
        series = chart.get("margin", {}).get("series", [])
        tags = [rf"^{re.escape(tag)}$" for s in series for tag in s.values()]
        tags += chart.get("multiline", {}).get("tag", [])
        drawn = {}
        for tag in tags:
            found = self._plugin.scalars_impl(_REQUEST, run, tag, "")
            assert found[custom_scalars_plugin._REGEX_VALID_PROPERTY]
            for name, events in found[
                custom_scalars_plugin._TAG_TO_EVENTS_PROPERTY
            ].items():
                _, steps, values = zip(*events, strict=True)
                drawn[name] = (list(steps), list(values))
        return drawn


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run of two steps, and two more."""
    folder = tmp_path_factory.mktemp("resumed")
    gin_runs.train(GIN_FILE, folder, *BINDINGS)
    gin_runs.train(GIN_FILE, folder, *BINDINGS, "TRAIN_STEPS = 4")
    return folder


def test_a_page_of_a_run_that_was_resumed(resumed):
    assert len(list((resumed / "train").glob("*.tfevents.*"))) == 2
    board = Board(resumed)
    charts = board.charts()
    assert list(charts) == ["loss per target token", "learning rate", "alpha", "beta1"]
    lines = {title: board.lines(chart) for title, chart in charts.items()}
    loss = "loss_per_nonpadding_target_token"
    assert set(lines["loss per target token"]) == {loss, f"guidance/{loss}"}
    rates = lines["learning rate"]
    assert set(rates) == {"learning_rate/current", "learning_rate/effective"}
    assert rates["learning_rate/current"][1] == pytest.approx(
        [
            effective / alpha
            for (_, (_, alphas)) in lines["alpha"].items()
            for effective, alpha in zip(
                rates["learning_rate/effective"][1], alphas, strict=True
            )
        ]
    )
    for name, first in {"alpha": 1.0, "beta1": 0.9}.items():
        ((tag, (steps, values)),) = lines[name].items()
        assert tag == f"hyperparams/{name}"
        assert steps == [1, 2, 3, 4]
        assert values[0] == pytest.approx(first) and values[3] != values[0]
    evaluated = f"training_eval/{gin_runs.bindings_of(GIN_FILE)['MIXTURE_OR_TASK_NAME']}"
    of_eval = board.lines(charts["loss per target token"], evaluated.replace("'", ""))
    assert set(of_eval) == {loss}


def test_runs_of_several_folders_share_a_page(resumed, tmp_path):
    gin_runs.train(GIN_FILE, tmp_path / "b", *BINDINGS, "HYPERPARAMS = ('alpha',)")
    shutil.copytree(resumed, tmp_path / "a")
    board = Board(tmp_path)
    charts = board.charts()
    assert list(charts) == ["loss per target token", "learning rate", "alpha", "beta1"]
    for run in ("a/train", "b/train"):
        assert set(board.lines(charts["alpha"], run)) == {"hyperparams/alpha"}


def test_groups_have_a_line_each(tmp_path):
    gin_runs.train(GIN_FILE, tmp_path, *BINDINGS, TWO)
    board = Board(tmp_path)
    charts = board.charts()
    assert set(board.lines(charts["beta1"])) == {
        "hyperparams/beta1/encoder",
        "hyperparams/beta1/rest",
    }
    assert set(board.lines(charts["learning rate"])) == {
        "learning_rate/current",
        "learning_rate/effective/encoder",
        "learning_rate/effective/rest",
    }


def test_many_groups_are_a_range(tmp_path):
    gin_runs.train(GIN_FILE, tmp_path, EACH, "TRAIN_STEPS = 3")
    board = Board(tmp_path)
    charts = board.charts()
    (title,) = [t for t in charts if t.startswith("alpha, ")]
    count = int(re.fullmatch(r"alpha, (\d+) groups", title).group(1))
    each = board.lines({"multiline": {"tag": ["^hyperparams/alpha/"]}})
    assert len(each) == count > tags.MOST_LINES
    lines = board.lines(charts[title])
    columns = np.array([values for _, values in each.values()])
    for which, function in {
        "lowest": np.min,
        "median": np.median,
        "highest": np.max,
    }.items():
        steps, values = lines.pop(f"groups/alpha/{which}")
        assert steps == [1, 2, 3]
        np.testing.assert_allclose(values, function(columns, axis=0), rtol=1e-6)
    assert not lines
    assert columns[:, 2].min() < columns[:, 2].max()
    effective = board.lines(charts[f"effective learning rate, {count} groups"])
    assert len(effective) == 3
    assert list(charts)[0] == "loss per target token"


def test_the_writers_of_t5x_take_a_page(tmp_path):
    """They write in the background, to the log too."""
    writer = metric_writers.create_default_writer(
        str(tmp_path), collection="train", asynchronous=True
    )
    layout.write(writer, ["alpha"], [])
    writer.write_scalars(3, {"hyperparams/alpha": 1.0})
    writer.close()
    board = Board(tmp_path)
    assert board.lines(board.charts()["alpha"]) == {"hyperparams/alpha": ([3], [1.0])}


def test_names_are_no_regular_expressions():
    page = layout.page(["a+b"], [])
    (tag,) = page.category[0].chart[-1].multiline.tag
    assert re.match(tag, "hyperparams/a+b") and not re.match(tag, "hyperparams/aab")
    assert not re.match(tag, "hyperparams/a+b/group")
    assert summaries._RANGE.keys() == {"lowest", "median", "highest"}


@text_runs.embedded_only
def test_nothing_is_written_without_a_folder():
    import tiny

    with tiny.make_trainer(tiny.guided()) as trainer:
        assert trainer.train_metrics_manager.summary_writer._writers == ()


@text_runs.embedded_only
def test_the_page_is_written_once(tmp_path, monkeypatch):
    import tiny

    written = []
    write = layout.write
    monkeypatch.setattr(
        layout, "write", lambda *args: (written.append(args[1:]), write(*args))
    )
    with tiny.make_trainer(tiny.guided()):
        pass
    assert written == [(["alpha", "beta1"], [])]
