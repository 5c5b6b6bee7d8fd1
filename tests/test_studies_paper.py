"""The paper's claims: their verdicts of results, and the page."""

import dataclasses
import html.parser

from paper_findings import findings, sentences
import pytest

from gbt_t5x.studies import macros
from gbt_t5x.studies.paper import (
    __main__ as paper,
    claims,
    experiments,
    measured,
    webpage,
)

SEEDS = (0, 1, 2)
STEPS = (100, 200, 300, 400)
RUNS = {"base_tuned": 100, "guided_tuned": 25}
SECONDS = {"base": 70.0, "base_tuned": 6000.0, "guided": 80.0, "guided_tuned": 2250.0}
SIZE = dataclasses.replace(
    experiments.WHOLE, translation=STEPS[-1], pretraining=STEPS[-1], trial=STEPS[-1]
)


def rows_of(learned, eta, beta1, curves, run=None):
    """`curves`: quantity -> the values at STEPS, to which each seed adds a thousandth."""
    name = run or f"{learned}_{eta}_{beta1}"
    return [
        {
            **{"run": name, "learned": learned, "eta": eta, "beta1": beta1},
            **{"seed": seed, "quantity": quantity, "step": step},
            "value": value + 0.001 * seed,
        }
        for quantity, values in curves.items()
        for seed in SEEDS
        for step, value in zip(STEPS, values, strict=True)
    ]


def loss(last):
    return [5.0, 4.0, 3.0, last]


def as_in_the_paper():
    """File -> rows with which all claims hold."""
    base = rows_of("", None, None, {"loss": loss(2.0)})
    falls, rises, meets = [1.0, 0.9, 0.8], [1.0, 1.5, 1.2, 0.8], [0.6, 0.5, 0.45, 0.3]
    both = {"alpha": rises, "beta1": meets, "loss": [2.0, 1.9, 1.8, 1.5]}
    seeded = [(seed, 0.1 * seed) for seed in SEEDS]
    files = {
        "figure_1": [*base],
        "figure_2": [*base],
        "figure_3": [*base, *rows_of("alpha+beta1", 0.01, None, both)],
        "figure_F2": [*base],
        "figure_F3": [*base, *rows_of("", None, 0.9, {"loss": loss(2.01)})],
        "figure_E1": [],
        "why_alpha_rises": [],
        "table_1": [
            {
                **{"corpus": "templates", "direction": direction, "learned": learned},
                **{"seed": seed, "bleu": bleu + more, "chrf": 50.0, "loss": 1.0},
            }
            for direction in experiments.DIRECTIONS
            for learned, bleu in zip(claims.SYMBOLS, (30, 31, 32, 33), strict=True)
            for seed, more in seeded
        ],
        "table_2": [
            {
                **{"corpus": "templates", "learned": learned, "direction": "de_en"},
                "row": row,
                **{"seed": seed, "bleu": bleu + more},
                **{"runs": RUNS.get(row, 1), "loss": 1.0, "settings": ""},
                "seconds": SECONDS[row],
            }
            for learned in claims.LEARNED
            for row, bleu in zip(webpage._ROWS, (30, 31, 33, 34), strict=True)
            for seed, more in seeded
        ],
        "table_3": [
            {
                **{"pretrained": name, "task": task, "metric": "accuracy"},
                **{"seed": seed, "value": value + more},
            }
            for name, value in (("base", 50), ("alpha_beta1", 52))
            for task in experiments.TASKS
            for seed, more in seeded
        ],
        "trials": [
            {
                **{"corpus": "templates", "learned": "alpha", "direction": "de_en"},
                **{"row": "base", "trial": 1, "settings": ""},
                **{"loss": None, "seconds": 60.0, "problem": "loss is not finite"},
            }
        ],
        "size": [
            {"name": name, "value": value}
            for name, value in (
                *SIZE.texts().items(),
                ("hours figure_1", "7.5"),
                ("hours figure_2", "0.25"),
                ("hours figure_3", "0.5"),  # of claim 5, beside what is not there
            )
        ],
    }
    for eta, end in ((0.001, 0.7), (0.01, 0.2)):
        curves = {"alpha": [*falls, end], "loss": loss(1.9)}
        files["figure_1"] += rows_of("alpha", eta, None, curves)
    for start in (0.1, 0.9):
        curves = {"beta1": meets, "loss": loss(1.9)}
        files["figure_2"] += rows_of("beta1", 0.03, start, curves)
    curves = {"alpha": [*falls, 0.2], "loss": loss(2.1)}
    files["figure_F2"] += rows_of("alpha", 0.01, 0.0, curves)
    curves = {"beta1": meets, "loss": loss(1.99)}
    files["figure_F3"] += rows_of("beta1", 0.01, 0.1, curves)
    for run in webpage._ROWS:
        curves = {"loss": loss(2.0)} | ({"beta1": meets} if "guided" in run else {})
        learned = "beta1" if "guided" in run else ""
        files["figure_E1"] += rows_of(learned, None, None, curves, run)
    for run, alpha in (("rate_inside", rises), ("rate_outside", [*falls, 0.2])):
        curves = both | {"alpha": alpha}
        files["why_alpha_rises"] += rows_of("alpha+beta1", 0.01, None, curves, run)
    curves = {"alpha": rises, "loss": loss(1.9)}
    files["why_alpha_rises"] += rows_of("alpha", 0.01, 0.9, curves)
    return files


def written(folder, files):
    for name, rows in files.items():
        measured.write(folder, name, rows)
    return folder


def test_with_the_papers_results_all_claims_hold(tmp_path):
    found = findings(written(tmp_path, as_in_the_paper()))
    assert [f.verdict for f in found] == ["holds"] * len(claims.CLAIMS)
    assert sentences(found[0]) == [
        "α stays below 1.05, and ends within 5% of its lowest, in 6 of 6 runs.",
        "The larger η̂, the lower α ends, from 3 of 3 seeds. By η̂: 0.001: 0.701; "
        "0.01: 0.201.",
        "2 of 2 settings end below the baseline's loss.",
        "Final losses: baseline 2.001; by η̂, 0.001: 1.901; 0.01: 1.901.",
    ]
    assert sentences(found[2]) == [
        "templates: 18 of 18 cells have more BLEU than the baseline; on average "
        "α +1.0; β1 +2.0; α+β1 +3.0.",
        "templates: the two together against β1 alone: de_en +1.0 ± 0.0; en_de +1.0 ± "
        "0.0; fi_en +1.0 ± 0.0; en_fi +1.0 ± 0.0; lt_en +1.0 ± 0.0; en_lt +1.0 ± 0.0.",
    ]
    assert sentences(found[3])[0] == (
        "templates, α: one guided run has +2.0 ± 0.0 BLEU, and a loss +0.0000 ± 0.0000, "
        "against the best of 100 trials."
    )
    assert sentences(found[3])[-1] == (
        "templates: the best of 25 η̂ gives α +1.0 ± 0.0; β1 +1.0 ± 0.0; α+β1 +1.0 ± 0.0 "
        "BLEU over the one that no search tuned. Time of a guided run over that of a "
        "baseline: α 1.50; β1 1.50; α+β1 1.50."
    )
    assert sentences(found[4])[1:3] == [
        "Of α alone, 0 of 1 settings end below the baseline's loss. Differences: +0.1000 "
        "± 0.0000.",
        "β1 alone, learned or fixed, changes the loss by -0.0100 ± 0.0000 to +0.0100 ± "
        "0.0000, and both together by -0.5000 ± 0.0000: little is less than half of the "
        "best.",
    ]
    assert sentences(found[5])[1].endswith("is reached, at best, in 0.25 of its steps.")
    assert sentences(found[6]) == [
        "On average +2.0 ± 0.0 after guided pre-training.",
        "3 of 3 tasks are better: offline_kind +2.0 ± 0.0, offline_module +2.0 ± 0.0, "
        "offline_questions +2.0 ± 0.0.",
    ]


def changed(files, name, change, /, **chosen):
    """The files, with the values of some rows changed."""
    rows = [
        {**row, **change(row)} if all(row[k] == v for k, v in chosen.items()) else row
        for row in files[name]
    ]
    return files | {name: rows}


LOSES = {"row": "guided", "learned": "beta1"}
WINS = {"run": "alpha_0.01_0.0", "quantity": "loss"}
ALPHA, LOSS = {"quantity": "alpha"}, {"quantity": "loss"}
LAST = [{"quantity": "loss", "learned": "alpha+beta1", "step": s} for s in STEPS]


def noisy(column, mean):
    """Differences from seed to seed that are larger than their mean."""
    return lambda row: {column: mean + 20.0 * (row["seed"] - 1)}


WORSE = [
    # claim, file, change, rows, verdict
    (0, "figure_1", lambda r: {"value": 1.2}, {**ALPHA, "step": 200}, "part"),
    (0, "figure_1", lambda r: {"value": 0.1}, {"eta": 0.001, "step": 400}, "part"),
    # It has risen before the first summary.
    (0, "figure_1", lambda r: {"value": 1.9 - r["step"] / 500}, ALPHA, "part"),
    (1, "figure_2", lambda r: {"value": 0.9}, {"beta1": 0.9, "step": 400}, "part"),
    (1, "figure_2", lambda r: {"value": 2.0}, {"beta1": 0.9, **LOSS}, "part"),
    (2, "table_1", lambda r: {"bleu": 29.0}, {"learned": "alpha"}, "part"),
    (2, "table_1", lambda r: {"bleu": 40.0}, {"learned": ""}, "not"),
    (2, "table_1", noisy("bleu", 31.0), {"learned": "alpha"}, "part"),
    (3, "table_2", lambda r: {"bleu": 40.0}, {"row": "base_tuned"}, "not"),
    (3, "table_2", lambda r: {"bleu": 9.0}, LOSES, "part"),
    (3, "table_2", noisy("bleu", 33.0), LOSES, "part"),
    (4, "figure_F2", lambda r: {"value": 1.0}, WINS, "part"),
    (4, "figure_F3", lambda r: {"value": 1.5}, {"beta1": 0.9}, "part"),
    # Both together are worse: no gain that one alone could be small beside.
    (4, "figure_3", lambda r: {"value": 9.0}, LAST[-1], "part"),
    (5, "figure_3", lambda r: {"value": 1.0}, ALPHA, "part"),
    (5, "figure_3", lambda r: {"value": 3.0}, LAST[0], "part"),
    (6, "table_3", lambda r: {"value": 10.0}, {"pretrained": "alpha_beta1"}, "not"),
    (6, "table_3", noisy("value", 52.0), {"pretrained": "alpha_beta1"}, "not"),
    (7, "why_alpha_rises", lambda r: {"value": 1.3}, {"run": "rate_outside"}, "part"),
    (7, "why_alpha_rises", lambda r: {"value": 1.9}, {"run": "rate_outside"}, "part"),
    (7, "why_alpha_rises", lambda r: {"value": 0.9}, {"run": "rate_inside"}, "part"),
]  # fmt: skip
VERDICTS = {"part": claims.PART, "not": claims.NOT}


@pytest.mark.parametrize("index", range(len(WORSE)))
def test_where_a_claim_does_not_hold(tmp_path, index):
    claim, name, change, chosen, verdict = WORSE[index]
    files = changed(as_in_the_paper(), name, change, **chosen)
    found = findings(written(tmp_path, files))
    assert found[claim].verdict == VERDICTS[verdict], found[claim]


def test_no_setting_may_reach_the_baselines_loss(tmp_path):
    files = as_in_the_paper()
    for chosen in LAST:
        files = changed(files, "figure_3", lambda row: {"value": 9.0}, **chosen)
    found = findings(written(tmp_path, files))[5]
    assert sentences(found)[1] == (
        "No setting reaches the baseline's final loss from every seed."
    )


def test_what_was_not_run_says_so(tmp_path):
    files = as_in_the_paper()
    del files["table_2"], files["figure_3"]
    found = findings(written(tmp_path, files))
    missing = {i for i, f in enumerate(found) if f.verdict == claims.MISSING}
    assert missing == {3, 4, 5}
    assert sentences(found[3]) == ["No numbers of table_2."]


def test_what_a_table_lacks_is_named(tmp_path):
    files = as_in_the_paper()
    for name, column, kept in (
        ("table_1", "direction", ("de_en", "fi_en", "en_fi")),
        ("table_2", "learned", ("alpha", "alpha+beta1")),
    ):
        files[name] = [row for row in files[name] if row[column] in kept]
    found = findings(written(tmp_path / "results", files))
    directions, against_search = sentences(found[2]), sentences(found[3])
    assert directions[0] == "templates: no numbers of en_de, lt_en, en_lt."
    assert directions[1].startswith("templates: 9 of 9 cells have more BLEU than the ")
    assert found[2].verdict == found[3].verdict == claims.PART
    assert [s.split(":")[0] for s in against_search] == [
        "templates, α",
        "templates, β1",
        "templates, α+β1",
        "templates",
    ]
    assert against_search[1] == "templates, β1: no numbers."
    page = tmp_path / "paper.html"
    webpage.make(tmp_path / "results", page)
    assert "<th>α</th><th>α+β1</th></tr>" in page.read_text()


def test_the_caption_of_fine_tuning_has_its_settings(tmp_path):
    source = written(tmp_path / "results", as_in_the_paper())
    webpage.make(source, tmp_path / "paper.html")
    variant = experiments.finetuning("base", experiments.TASKS[0], "", SIZE)
    bound = macros.read(variant.gin_files, variant.bindings)
    assert (bound["LEARNING_RATE"], bound["DROPOUT_RATE"]) == (1e-2, 0.0)
    settings = "at a rate of 1e-2 (T5's is 1e-3), no dropout, in batches of "
    assert f"{settings}{bound['BATCH_SIZE']};" in Page(tmp_path / "paper.html").text


def test_directions_are_in_the_papers_order(tmp_path):
    """Whichever was measured first."""
    files = as_in_the_paper()
    files["table_1"].sort(key=lambda row: row["direction"], reverse=True)
    assert files["table_1"][0]["direction"] != "de_en"
    source = written(tmp_path / "results", files)
    webpage.make(source, tmp_path / "paper.html")
    text = Page(tmp_path / "paper.html").text
    assert "Table 1: BLEU, templates de-en en-de fi-en en-fi lt-en en-lt base" in text
    assert "against β1 alone: de_en +1.0 ± 0.0; en_de +1.0 ± 0.0; fi_en" in text


def elsewhere(bleu=33, directions=experiments.DIRECTIONS[1:]):
    """Rows of Table 2 on the catalogues: the paper's direction, and others."""
    papers = [{**r, "corpus": "catalogues"} for r in as_in_the_paper()["table_2"]]
    shorter = {"runs": SIZE.other_trials, "bleu": 31.0}
    of_row = {"base": {}, "base_tuned": shorter, "guided": {"bleu": float(bleu)}}
    return papers + [
        {**row, "direction": direction, **of_row[row["row"]]}
        for direction in directions
        for row in papers
        if row["learned"] == "beta1" and row["row"] in of_row
    ]


def test_shorter_searches_in_other_directions(tmp_path):
    files = as_in_the_paper()
    files["table_2"] += elsewhere()
    found = findings(written(tmp_path / "results", files))[3]
    assert found.verdict == claims.HOLDS
    assert sentences(found)[6] == (
        "catalogues, β1, other directions: one guided run against the best of 12 trials: "
        "en_de +2.0 ± 0.0 BLEU, and a loss +0.0000 ± 0.0000; "
        "fi_en +2.0 ± 0.0 BLEU, and a loss +0.0000 ± 0.0000; "
        "en_fi +2.0 ± 0.0 BLEU, and a loss +0.0000 ± 0.0000; "
        "lt_en +2.0 ± 0.0 BLEU, and a loss +0.0000 ± 0.0000; "
        "en_lt +2.0 ± 0.0 BLEU, and a loss +0.0000 ± 0.0000."
    )
    webpage.make(tmp_path / "results", tmp_path / "paper.html")
    text = Page(tmp_path / "paper.html").text
    assert (
        "Table 2 in other directions: BLEU and development loss, catalogues, of β1. "
        "Searches have 12 trials, runs 400 steps en-de fi-en en-fi lt-en en-lt base "
    ) in text
    assert "base, tuned 31.0 ± 0.0 31.0 ± 0.0" in text
    assert "guided, loss 1.000 ± 0.000" in text


def test_other_directions_may_differ_or_be_missing(tmp_path):
    files = as_in_the_paper()
    files["table_2"] += elsewhere(bleu=30)
    assert findings(written(tmp_path / "less", files))[3].verdict == claims.PART
    files = as_in_the_paper()
    files["table_2"] += elsewhere(directions=("lt_en", "en_de"))
    found = findings(written(tmp_path / "some", files))[3]
    assert found.verdict == claims.PART
    assert sentences(found)[6] == "catalogues, β1: no numbers of fi_en, en_fi, en_lt."
    assert sentences(found)[7].startswith(
        "catalogues, β1, other directions: one guided run against the best of 12 trials: "
        "en_de +2.0 ± 0.0 BLEU"
    )
    files = changed(files, "size", lambda row: {"value": "0"}, name="other_trials")
    files["table_2"] = [r for r in files["table_2"] if r["direction"] == "de_en"]
    found = findings(written(tmp_path / "none", files))[3]
    assert found.verdict == claims.HOLDS
    assert not any("other directions" in sentence for sentence in sentences(found))


def test_a_column_that_a_study_leaves_out_is_not_missing(tmp_path):
    files = as_in_the_paper()
    files["table_2"] = [r for r in files["table_2"] if r["learned"] == "beta1"]
    (row,) = (row for row in files["size"] if row["name"] == "columns")
    row["value"] = "beta1"
    found = findings(written(tmp_path, files))[3]
    assert [s.split(":")[0] for s in sentences(found)] == ["templates, β1", "templates"]
    assert found.verdict == claims.HOLDS


def test_a_difference_counts_beyond_two_standard_errors():
    assert claims.is_below([-0.1])
    assert not claims.is_below([0.0])
    assert claims.is_below([-0.3, -0.2, -0.1])
    assert not claims.is_below([-0.4, 0.1, -0.1])


class Page(html.parser.HTMLParser):
    """What a page links to, and its text."""

    def __init__(self, page):
        super().__init__()
        self.links, self.ids, self.words = [], [], []
        self.feed(page.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        of_tag = dict(attrs)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if "id" in of_tag:
            self.ids.append(of_tag["id"])

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_the_same_again(tmp_path):
    source = written(tmp_path / "results", as_in_the_paper())
    page = tmp_path / "docs" / "paper.html"
    page.parent.mkdir()
    webpage.make(source, page)
    found = Page(page)
    assert "http" not in page.read_text().replace("http-equiv", "")
    for link in found.links:
        there = (
            link[1:] in found.ids if link[0] == "#" else (page.parent / link).is_file()
        )
        assert there, link
    for claim in claims.CLAIMS:
        assert f"{claim.title} {claim.where}. Here: holds" in found.text
    command = "one after the other: python -m gbt_t5x.studies.paper --only"
    for part, time in {"figure_1": "7.5 hours", "figure_2": "15 minutes"}.items():
        assert f"Again, in {time} of runs, {command} {part} " in found.text
    assert "To measure it: python -m gbt_t5x.studies.paper --only figure_F2" in found.text
    assert found.text.count("--corpora") == 0
    assert "CPU cores: 8 of 8 claims so far." in found.text
    assert len(found.ids) == len(claims.CLAIMS)
    captions = [*(caption for caption, _ in webpage.FIGURES.values())]
    for caption in [*captions, "Table 1: BLEU, templates", "Table 2: BLEU", "Table 3: "]:
        assert found.text.count(caption) == 1, caption
    assert "base 30.1 ± 0.1 30.1 ± 0.1" in found.text  # Table 1
    assert "base, tuned 100 100 31.1 ± 0.1" in found.text  # Table 2
    assert "α+β1 52.1 ± 0.1 52.1 ± 0.1 52.1 ± 0.1 52.1 ± 0.1" in found.text  # Table 3
    drawn = {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    assert sum(path.suffix == ".svg" for path in drawn) == 16
    paper.main(["--from", str(page.parent / "paper")])
    assert {path: path.read_bytes() for path in drawn} == drawn


def test_a_command_of_the_page_names_the_corpora(tmp_path):
    files = as_in_the_paper()
    files["table_1"] += [row | {"corpus": "catalogues"} for row in files["table_1"]]
    page = tmp_path / "paper.html"
    webpage.make(written(tmp_path / "results", files), page)
    text = Page(page).text
    assert "--only table_1 --corpora templates catalogues 4." in text
    assert text.count("--corpora") == 1


def test_a_page_has_no_numbers_of_the_one_before(tmp_path):
    files, page = as_in_the_paper(), tmp_path / "paper.html"
    webpage.make(written(tmp_path / "all", files), page)
    own = tmp_path / "paper" / "own.csv"
    own.write_text("a user's")
    fewer = {name: files[name] for name in ("figure_1", "size")}
    webpage.make(written(tmp_path / "fewer", fewer), page)
    found = {path.name for path in own.parent.iterdir()}
    drawn = {"figure_1_alpha.svg", "figure_1_loss.svg"}
    assert found == {"figure_1.csv", "size.csv", own.name} | drawn
    assert "CPU cores: 1 of 8 claims so far." in Page(page).text


def test_a_run_that_diverged_does_not_hide_the_others(tmp_path):
    files = changed(
        as_in_the_paper(), "figure_F2", lambda row: {"value": 300.0}, step=400, **WINS
    )
    webpage.make(written(tmp_path / "results", files), tmp_path / "paper.html")
    assert "loss, below 5" in (tmp_path / "paper/figure_F2_loss.svg").read_text()
    assert "below" not in (tmp_path / "paper/figure_1_loss.svg").read_text()


def error_of(folder, capsys):
    """The one line with which no page is made of a folder."""
    with pytest.raises(SystemExit, match="1"):
        paper.main(["--from", str(folder), "--page", f"{folder}_page/paper.html"])
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def test_results_in_another_form_are_refused(tmp_path, capsys):
    folder = written(tmp_path, as_in_the_paper())
    file = folder / "table_1.csv"
    before = file.read_text()
    first, second, *others = before.splitlines(keepends=True)
    for text, message in {
        before.replace("chrf", "ter"): "has the columns corpus,direction,learned,seed,"
        "bleu,ter,loss, and this version writes corpus,direction,learned,seed,bleu,chrf,",
        before.replace("30.1", "thirty"): "has 'thirty' as bleu, which is no finite",
        before.replace("30.1", "nan"): "has 'nan' as bleu, which is no finite number",
        before.replace("30.1", ""): "has '' as bleu, which is no finite number",
        "".join([first, "templates,de_en,,0\n", *others]): "has None as bleu, which is",
        "".join([first, second, second, *others]): "has two rows of corpus 'templates', "
        "direction 'de_en', learned '', seed 0: remove it, and make it again",
        "".join([first, *others]): "has the seeds 1, 2 of corpus 'templates', direction "
        "'de_en', learned '' and the seeds 0, 1, 2 of corpus 'templates', direction",
        "".join(x for x in before.splitlines(keepends=True) if "en_lt,alpha," not in x): (
            "has no rows of learned 'alpha', corpus 'templates', direction 'en_lt'"
        ),
    }.items():
        file.write_text(text)
        assert error_of(folder, capsys).startswith(f"{file} {message}")
    file.write_text(before)
    figure = folder / "figure_F2.csv"
    lines = figure.read_text().splitlines(keepends=True)
    figure.write_text("".join(line for line in lines if not line.startswith("_None")))
    assert error_of(folder, capsys) == (
        f"{figure} has the runs alpha_0.01_0.0: there must be one that learns nothing, "
        "and others"
    )
    last = max(i for i, line in enumerate(lines) if ",loss," in line)
    for text, message in {
        "".join(
            [*lines[:last], *lines[last + 1 :]]
        ): "has losses of _None_None from seed 0",
        "".join(
            line for line in lines if line.split(",")[5] != "alpha"
        ): "the CSV file has no alp",
        "".join(
            line for line in lines if ",2,alpha,400," not in line
        ): "has alpha of alpha_0.01_0.0 from seed 0 to step 400, of alpha_0.01_0.0 from "
        "seed 2 to 300: remove it",
        "".join(
            line.replace("alpha,0.01,", "alpha,,") for line in lines
        ): f"{figure} has no eta of alpha_0.01_0.0",
    }.items():
        figure.write_text(text)
        assert message in error_of(folder, capsys)
    figure.write_text("".join(lines))
    size = folder / "size.csv"
    before = size.read_text()
    for text, message in {
        before.replace("7.5", "seven"): (
            "has hours figure_1 'seven': remove it, and make it again"
        ),
        before.replace("\ntrials,", "\ntries,"): "with trials: name the folder",
    }.items():
        size.write_text(text)
        assert message in error_of(folder, capsys)
    size.write_text(before)
    for name, old, new, message in [
        (
            "trials",
            "templates,alpha,",
            "templates,gamma,",
            "has 'gamma' as learned, which",
        ),
        (
            "table_2",
            ",guided,",
            ",led,",
            "has 'led' as row, which is none of 'base', 'ba",
        ),
        ("table_3", "50.0\n", "50.0,1\n", "has more cells than columns: 1: remove it"),
        ("table_1", "templates", "t" * 140_000, "is no CSV file: field larger than"),
    ]:
        file = folder / f"{name}.csv"
        before = file.read_text()
        file.write_text(before.replace(old, new, 1))
        assert error_of(folder, capsys).startswith(f"{file} {message}")
        file.write_text(before)
    file.write_bytes(b"corpus,\xff")
    assert error_of(folder, capsys).startswith(f"{file} is no CSV file: 'utf-8' codec")
    with pytest.raises(SystemExit, match="1"):
        paper.main(["--from", str(tmp_path / "none")])
    assert "none has no size.csv with seeds, directions, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "size", "there", "here"),
    [
        ("figure_F2", "pretraining", "400", "1500"),
        ("figure_1", "translation", "400", "600"),
        ("figure_E1", "trial", "400", "200"),
        ("table_2", "trials", "100", "3"),
        ("table_2", "guided_trials", "25", "3"),
        ("table_2", "other_trials", "12", "3"),
        ("figure_1", "seeds", "0 1 2", "0 1"),
        ("table_3", "seeds", "0 1 2", "0 1"),
    ],
)
def test_numbers_of_two_studies_are_refused(tmp_path, capsys, name, size, there, here):
    files = changed(as_in_the_paper(), "size", lambda row: {"value": here}, name=size)
    files["table_2"] += elsewhere()
    kept = {other: files[other] for other in (name, "size")}
    folder = written(tmp_path / "results", kept)
    assert error_of(folder, capsys) == (
        f"{folder / name}.csv has {size} {there}, and {folder / 'size'}.csv {here}: they "
        "are of two studies"
    )


def test_a_column_that_no_table_has_is_refused(tmp_path, capsys):
    files = changed(
        as_in_the_paper(), "size", lambda row: {"value": "alpha gamma"}, name="columns"
    )
    folder = written(tmp_path / "results", files)
    assert error_of(folder, capsys) == (
        f"{folder / 'size'}.csv has the columns gamma, and Table 2 has alpha, beta1, "
        "alpha+beta1"
    )


def test_a_page_says_what_a_difference_is_of_its_seeds(tmp_path):
    files = as_in_the_paper()
    webpage.make(written(tmp_path / "three", files), tmp_path / "paper.html")
    assert "of three seeds chance alone" in Page(tmp_path / "paper.html").text
    one = {
        name: [row for row in rows if row.get("seed", 0) == 0]
        for name, rows in files.items()
    }
    one = changed(one, "size", lambda row: {"value": "0"}, name="seeds")
    webpage.make(written(tmp_path / "one", one), tmp_path / "paper.html")
    text = Page(tmp_path / "paper.html").text
    assert "Of one seed every difference counts" in text
    assert "three seeds" not in text


def test_a_page_says_what_of_its_time_is_shown(tmp_path):
    files = as_in_the_paper()
    files["table_2"] = [row for row in files["table_2"] if row["learned"] == "alpha"]
    files["size"].append({"name": "hours table_2", "value": "3.0"})
    webpage.make(written(tmp_path / "results", files), tmp_path / "paper.html")
    text = Page(tmp_path / "paper.html").text
    assert (
        "What is shown took 3.0 hours of runs, one after the other; what is missing too: "
        "python -m gbt_t5x.studies.paper --only table_2"
    ) in text
    assert "Runs have 400 steps" in text
    assert "In the paper: 18 of 18 cells have; on average α +0.92;" in text


def test_a_page_says_that_two_machines_runs_differ(tmp_path):
    files, page = as_in_the_paper(), tmp_path / "paper.html"
    webpage.make(written(tmp_path / "one", files), page)
    assert "machines" not in Page(page).text
    last = {"step": 400, "quantity": "loss", "seed": 1, "learned": ""}
    files = changed(files, "figure_2", lambda row: {"value": 2.026}, **last)
    webpage.make(written(tmp_path / "two", files), page)
    assert (
        "A run that Figure 1 and Figure 2 share ends 0.025 apart in them: they are of "
        "two machines."
    ) in Page(page).text
