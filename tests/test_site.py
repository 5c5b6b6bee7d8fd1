"""The documentation site: whole, without dead links, and readable from disk."""

import html.parser
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest

import gin_runs


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "html"
    done = subprocess.run(
        ["scripts/site.sh", os.fspath(folder)],
        cwd=gin_runs.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"open {folder}/index.html\n"
    assert not done.stderr
    return folder


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.ids = set(), set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a":
            self.links.add(found.get("href") or "")
        elif tag in ("link", "script", "img"):
            self.loaded |= {found[key] for key in ("href", "src") if found.get(key)}


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_links_lead_somewhere(site, pages):
    """Within the site; a link to another starts with its scheme."""
    dead = []
    for path, page in pages.items():
        for link in page.links | page.loaded:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or not link or link == "#":
                continue
            file = urllib.parse.unquote(parts.path) or path.name
            target = pathlib.Path(os.path.normpath(path.parent / file))
            anchor = urllib.parse.unquote(parts.fragment)
            known = pages[target].ids if target in pages else set()
            if not target.exists() or (anchor and anchor not in known):
                dead.append(f"{path.relative_to(site)} -> {link}")
    assert not dead


def test_nothing_is_loaded_from_elsewhere(pages):
    for page in pages.values():
        assert not [x for x in page.loaded if urllib.parse.urlsplit(x).netloc]


def test_every_document_and_module_has_a_page(site, pages):
    documents = (gin_runs.ROOT / "docs").rglob("*.md")
    names = {str(p.relative_to(gin_runs.ROOT / "docs"))[:-3] for p in documents}
    linked = {urllib.parse.urlsplit(x).path for x in pages[site / "index.html"].links}
    for name in names - {"index"}:
        assert f"{name}.html" in linked, f"{name} is in no contents of docs/index.md"
    for module in ("trainer", "optimizers", "studies.rivals"):
        assert site / f"api/gbt_t5x.{module}.html" in pages
    trainer = (site / "api/gbt_t5x.trainer.html").read_text()
    assert "max_skipped" in trainer and "guidance_period" in trainer


def test_it_has_a_search_and_is_for_phones(site):
    index = (site / "searchindex.js").read_text()
    assert "meta_learning_rate" in index and "sensitivity_dtype" in index
    text = (site / "index.html").read_text()
    assert re.search(r'<meta name="viewport" content="width=device-width', text)


def test_a_dead_link_ends_the_build(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    text = (gin_runs.ROOT / "docs/conf.py").read_text()
    (docs / "conf.py").write_text(text.replace('    "sphinx.ext.apidoc",\n', ""))
    (docs / "index.md").write_text("# Title\n\n[gone](gone.md)\n")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-qW", docs, tmp_path / "html"],
        capture_output=True,
        text=True,
    )
    assert done.returncode and "gone.md" in done.stderr
