"""scripts/download_catalogues.py, on wheels that are made here, and the tasks."""

import fcntl
import hashlib
import io
import pathlib
import zipfile

from babel.messages import catalog, mofile, pofile
import pytest
import seqio

import download_catalogues as download
from gbt_t5x.tasks import catalogues, translation

NOUNS = "apple bridge candle dragon engine forest garden harbour island jungle".split()
VERBS = "Paint Sell Move Open Lock Follow Visit Measure Wash Forget Copy Lend".split()
MANY = {f"{v} the {n}": f"{n[::-1]} {v[::-1].lower()}" for v in VERBS for n in NOUNS}


def wheel(folder, name, languages, kind="po"):
    """Writes a wheel with a catalogue of each language; returns its path."""
    path = pathlib.Path(folder, name)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/__init__.py", "")
        for language, found in languages.items():
            messages = catalog.Catalog(locale=language)
            for message in found:
                messages.add(**message)
            data = io.BytesIO()
            {"po": pofile.write_po, "mo": mofile.write_mo}[kind](data, messages)
            file = f"package/locale/{language}/LC_MESSAGES/django.{kind}"
            archive.writestr(file, data.getvalue())
    return path


def pairs(texts):
    return [{"id": english, "string": other} for english, other in texts.items()]


@pytest.mark.parametrize(
    ("english", "other", "expected"),
    [
        ("_Open  the\nfile", "Datei _öffnen", ("Open the file", "Datei öffnen")),
        ("100%% of %s", "100%% von %s", ("100% of {1}", "100% von {1}")),
        ("%(a)s of %(b)d", "%(b)d und %(a)s", ("{1} of {2}", "{2} und {1}")),
        ("${n} of {all}", "Aus {all} ${n}", ("{1} of {2}", "Aus {2} {1}")),
        ("At 50% power", "Mit 50% Kraft", ("At 50% power", "Mit 50% Kraft")),
        ("snake_case here", "snake_case da", ("snake_case here", "snake_case da")),
        ("U\u0308ber", "About", ("Über", "About")),
        ("<b>Bold</b>", "<b>Fett</b>", "markup"),
        ("Q&amp;A", "Fragen", "markup"),
        ("%s files", "Dateien", "other placeholders"),
        ("%(a)s", "%(b)s", "other placeholders"),
        ("E-Mail", "e-mail", "not translated"),
        ("label_title", "Titel", "not translated"),
        ("%s: %s", "%s, %s", "no words"),
        ("word " * 80, "Wort", "too long"),
    ],
)
def test_a_message_becomes_a_pair_or_says_why_not(english, other, expected):
    assert download.clean(download.Message(english, other)) == expected


@pytest.mark.parametrize("kind", ["po", "mo"])
def test_a_wheel_is_read(tmp_path, kind):
    found = [
        {"id": "Close", "string": "Schließen", "context": "door"},
        {"id": ("a cat", "%d cats"), "string": ("eine Katze", "%d Katzen")},
        {"id": "Empty", "string": ""},
        {"id": "Unsure", "string": "Unsicher", "flags": ["fuzzy"]},
        {"id": "help_x", "string": "Hilfe", "auto_comments": ['Default: "Some help"']},
    ]
    path = wheel(tmp_path, "a.whl", {"de": found, "fi": pairs(MANY)}, kind)
    named = "Some help" if kind == "po" else "help_x"  # the other has no comments
    assert sorted(download.messages(path, "de")) == [
        ("Close", "Schließen"),
        *sorted([(named, "Hilfe"), ("a cat", "eine Katze")]),
    ]


def test_the_dates_of_a_template_are_read(tmp_path):
    path = wheel(tmp_path, "a.whl", {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "p/locale/de/LC_MESSAGES/plone.po",
            'msgid ""\nmsgstr ""\n"POT-Creation-Date: YEAR-MO-DA HO:MI +ZONE\\n"\n'
            '"Content-Type: text/plain; charset=utf-8\\n"\n\n'
            'msgid "Sea"\nmsgstr "Meer"\n',
        )
    assert download.messages(path, "de") == [("Sea", "Meer")]


def test_splits_are_disjoint_and_not_alike():
    texts = {**MANY, "Sell the apples!": "lles elppa", "SELL THE APPLE (2)": "new"}
    splits, dropped = download.divide([download.Message(*pair) for pair in texts.items()])
    assert dropped + sum(map(len, splits.values())) == len(texts)
    assert all(splits.values())
    for split, found in splits.items():
        others = [x for name, x in splits.items() if name != split]
        seen = {text.casefold() for x in others for pair in x for text in pair}
        assert not seen & {text.casefold() for pair in found for text in pair}
    # The three are one message, to whom knows the words alone.
    (split,) = {download.split_of(x) for x in ("Sell the apple", "SELL THE APPLE (2)")}
    evaluated = [pair.english for name in download.SHARES for pair in splits[name]]
    trained = [pair.english for pair in splits["train"]]
    assert ("Sell the apple" in trained) == (split == "train")
    assert not ("Sell the apples!" in trained and "Sell the apple" in evaluated)


def test_what_is_alike_is_not_trained_on():
    known = [download.Message("Delete the selected files", "Poista valitut tiedostot")]
    found = download.alike(
        [
            download.Message("Delete the selected file?", "Jotain muuta"),
            download.Message("Another thing", "Poista valitut tiedostot (2)"),
            download.Message("Select a colour", "Valitse väri"),
        ],
        known,
    )
    assert found.tolist() == [True, True, False]


@pytest.fixture(autouse=True)
def _one_at_a_time(data_dir):
    """The processes of xdist share the folder that the tasks read."""
    with open(data_dir / "catalogues.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The corpus of two wheels, in the folder that the tasks read."""
    languages = dict.fromkeys(catalogues.LANGUAGES, pairs(MANY))
    files = [wheel(tmp_path, f"{n}-1-py3-none-any.whl", languages) for n in "ab"]
    pinned = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    monkeypatch.setattr(download, "WHEELS", pinned)
    yield lambda: download.main([f"--wheels={tmp_path}"])
    for language in catalogues.LANGUAGES:
        for split in translation.SPLITS:
            pathlib.Path(catalogues.folder(language), f"{split}.tsv").unlink(True)


def test_tasks_read_what_the_script_writes(written, capsys):
    written()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 * 5
    assert f"{len(MANY)} repeats" in printed[4]  # the second wheel's
    source = seqio.TaskRegistry.get("catalogues_de_en").source
    read = []
    for split in translation.SPLITS:
        rows = list(source.get_dataset(split, shuffle=False).as_numpy_iterator())
        assert rows, split
        read += [(row["en"].decode(), row["de"].decode()) for row in rows]
    assert set(read) <= set(MANY.items()) and len(set(read)) == len(read)
    before = {f: f.read_bytes() for f in pathlib.Path(catalogues.folder("de")).iterdir()}
    written()
    assert before == {f: f.read_bytes() for f in before}


def test_without_files_the_script_is_named():
    source = seqio.TaskRegistry.get("catalogues_lt_en").source
    with pytest.raises(ValueError, match="no file .*scripts/download_catalogues.py"):
        source.get_dataset("train")


def test_a_changed_wheel_is_refused(written, tmp_path):
    wheel(tmp_path, "b-1-py3-none-any.whl", {"de": pairs({"Sea": "Meer"})})
    with pytest.raises(SystemExit, match="b-1-py3-none-any.whl has SHA-256 .* is pinned"):
        written()


def test_a_missing_language_is_refused(tmp_path):
    path = wheel(tmp_path, "a-1-py3-none-any.whl", {"de": pairs(MANY)})
    with pytest.raises(ValueError, match=r"a-1-py3-none-any.whl has no .* 'fi'"):
        download.messages(path, "fi")


def test_pip_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ValueError) as error:
        download.wheels(tmp_path, {"no_such_package-1-py3-none-any.whl": ""})
    assert "pip did not download no_such_package-1" in str(error.value)
    assert "\n" not in str(error.value)
