"""What figures show, and how."""

import re

from gbt_t5x.studies import figures, panels, seeds
from written_runs import write_run


def of_seeds(folder, losses, learned=()):
    """Seeds of one final loss each, and a learned value for each of the names."""
    for seed, loss in enumerate(losses):
        hyperparams = {name: [1.0, value + seed] for name, value in dict(learned).items()}
        write_run(
            folder / str(seed),
            {20: 4.0, 40: loss},
            [1.0, 1.0],
            hyperparams,
            learning_rate=0.5,
        )
    return seeds.read(folder.name, folder)


def axes_of(fig):
    return {axes.get_title(): axes for axes in fig.axes if axes.get_title()}


def test_losses_differences_and_schedules_are_side_by_side(tmp_path, drawn):
    baseline = of_seeds(tmp_path / "baseline", (3.0, 2.0))
    guided = of_seeds(tmp_path / "guided", (2.5, 1.0), {"alpha": 0.5})
    panels.draw([baseline, guided], tmp_path / "a.png")
    axes = axes_of(drawn[0])
    assert list(axes) == [
        "Development loss",
        "Difference to baseline",
        "Learning rate, times alpha",
        "alpha, learned",
    ]
    of = {
        title: [list(line.get_ydata()) for line in a.lines] for title, a in axes.items()
    }
    assert of["Development loss"] == [[4.0, 2.5], [4.0, 1.75]]
    assert of["Difference to baseline"] == [[0.0, 0.0], [0.0, -0.75]]
    assert of["Learning rate, times alpha"] == [[0.5, 0.5], [0.5, 0.5]]
    assert of["alpha, learned"] == [[1.0, 1.0], [1, 1]]  # the mean, and the level
    # The band of the differences is that of each seed to its own baseline.
    band = axes["Difference to baseline"].collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (-1.0, 0.0)


def test_a_run_has_one_colour_and_one_place_in_the_legend(tmp_path, drawn):
    compared = [
        of_seeds(tmp_path / name, (2.0,), {"alpha": 0.5} if name != "base" else {})
        for name in ("base", "one", "two")
    ]
    panels.draw(compared, tmp_path / "a.png")
    (fig,) = drawn
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["base", "one", "two"]
    axes = axes_of(fig)
    for title in ("Development loss", "Learning rate, times alpha"):
        assert [line.get_color() for line in axes[title].lines] == [*figures.COLORS[:3]]
    assert axes["alpha, learned"].lines[0].get_color() == figures.COLORS[1]


def test_groups_are_a_median_and_a_range(tmp_path, drawn):
    learned = {f"alpha/layer_{i}": i / 4 for i in range(9)}
    guided = of_seeds(tmp_path / "guided", (2.0,), learned)
    panels.draw([guided], tmp_path / "a.png")
    axes = axes_of(drawn[0])["alpha, learned\nmedian and range of 9 groups"]
    (line,) = axes.lines
    assert list(line.get_ydata()) == [1.0, 1.0]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0.0, 2.0)


def test_what_is_replayed_has_no_rate_without_alpha_and_no_level(tmp_path, drawn):
    guided = of_seeds(tmp_path / "guided", (2.0,), {"alpha": 0.25})
    of_seeds(tmp_path / "replayed", (2.0,))
    (tmp_path / "replayed" / "0" / "config.gin").write_text("SCHEDULE = 'a.csv'\n")
    replayed = seeds.read("replayed", tmp_path / "replayed")
    panels.draw([guided, replayed], tmp_path / "a.png")
    axes = axes_of(drawn[0])
    for title in ("Learning rate, times alpha", "alpha, learned"):
        assert len(axes[title].lines) == 1
    assert len(axes["Development loss"].lines) == 2


def test_a_few_groups_of_one_run_have_lines_and_names(tmp_path, drawn):
    guided = of_seeds(tmp_path / "guided", (2.0,), {"alpha/a": 0.5, "alpha/b": 0.51})
    panels.draw([of_seeds(tmp_path / "base", (2.0,)), guided], tmp_path / "a.png")
    axes = axes_of(drawn[0])
    for title, number in {"alpha, learned": 2, "Learning rate, times alpha": 3}.items():
        lines = axes[title].lines[:number]
        assert len({str(line.get_linestyle()) for line in lines[-2:]}) == 2, title
        notes = axes[title].texts
        assert [note.get_text() for note in notes] == ["a", "b"]
        assert notes[1].get_position()[1] - notes[0].get_position()[1] > 0.05
    other = of_seeds(tmp_path / "other", (2.0,), {"alpha/a": 0.5, "alpha/b": 0.75})
    panels.draw([guided, other], tmp_path / "b.png")
    axes = axes_of(drawn[1])["alpha, learned\nmedians and ranges of groups"]
    assert (len(axes.lines), len(axes.collections)) == (2, 2)


def test_many_lines_differ_by_colour_or_dashes():
    looks = {
        str(figures.style(index).values()) for index in range(3 * len(figures.COLORS))
    }
    assert len(looks) == 3 * len(figures.COLORS)
    assert figures.style(8)["color"] == figures.COLORS[1]


def test_values_of_several_orders_are_logarithmic(tmp_path, drawn):
    few, many = {0: 1.0, 9: 2.0}, {0: 1e-6, 9: 1e-3}
    shown = [
        figures.Panel(name, [figures.Line(0, curve, name)])
        for name, curve in {"few": few, "many": many}.items()
    ]
    figures.draw(shown, tmp_path / "new" / "a.svg", title="Title")
    assert [axes.get_yscale() for axes in drawn[0].axes] == ["linear", "log"]


def test_what_is_not_shown_does_not_choose_the_scale(tmp_path, drawn):
    line = figures.Line(0, {1: 4.0, 2: 2.0, 3: 900.0}, "diverged")
    for limits, scale in ((None, "log"), ((1.5, 4.5), "linear")):
        figures.draw([figures.Panel("", [line], limits=limits)], tmp_path / "a.png")
        assert drawn[-1].axes[0].get_yscale() == scale


def test_two_drawings_are_the_same_file(tmp_path):
    panel = figures.Panel("title", [figures.Line(0, {0: 1.0, 9: 2.0}, "run")])
    for name in ("a.svg", "b.svg"):
        figures.draw([panel], tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert not re.search(r"20\d\d-\d\d-\d\d", text)
