"""The site that `make docs` builds: it loads nothing from other hosts, and both languages, the
search index and the pages that links name are there.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("material", reason="pip install -e '.[docs]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs/site"))
        return importlib.import_module("hooks")


def build_site(target: Path, **extra: str) -> Path:
    """The whole site, built as `make docs` does: a broken link ends the build."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config: Any = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(target))
    config.extra.update(extra)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return target


@pytest.fixture(scope="module")
def site(hooks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("site"))


def test_every_page_is_built_in_its_language(site: Path) -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        uri = page.relative_to(ROOT / "docs").with_suffix(".html")
        built = (site / uri.parent / uri.name.replace("README", "index")).read_text("utf-8")
        assert f'<html lang="{"zh" if uri.parts[0] == "zh" else "en"}"' in built, uri
        assert "```" not in re.sub(r"<pre.*?</pre>", "", built, flags=re.DOTALL), uri
    assert "gpt.py" in (site / "code/src/chatling/model/gpt.py.html").read_text("utf-8")
    assert (site / "search/search_index.js").stat().st_size > 100_000
    assert (site / "site/temml.min.js").exists()


def test_every_link_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    """Also those of the theme, such as to the page in the other language."""
    found = (path for path in site.rglob("*.html") if path.name != "404.html")
    pages = {path: path.read_text("utf-8") for path in found}
    places = {path: set(re.findall(r' id="([^"]+)"', text)) for path, text in pages.items()}
    broken = set()
    for path, text in pages.items():
        for target, place in re.findall(r'<a [^>]*href="(?!\w+:)([^"#?]*)#?([^"]*)"', text):
            end = (path.parent / unquote(target)).resolve() if target else path
            if not end.is_file() or (place and unquote(place) not in places.get(end, ())):
                broken.add(f"{path.relative_to(site)}: {target}#{place}")
    assert len(pages) > 60
    assert not broken


def test_the_site_loads_nothing_from_other_hosts(site: Path, hooks: ModuleType) -> None:
    pages = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(pages) > 30
    assert not [p.name for p in pages if hooks.foreign_loads(p.read_text("utf-8"))]


DIAGRAMS = {
    page.name: diagram
    for page in sorted((ROOT / "docs").glob("*.md"))
    for diagram in re.findall(r"^```mermaid\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
}


@pytest.mark.parametrize("name", DIAGRAMS)
def test_a_diagram_shows_each_of_its_words_inside_of_its_picture(
    hooks: ModuleType, name: str
) -> None:
    svg = ElementTree.fromstring(hooks.drawn_diagram(DIAGRAMS[name]))
    shown = " ".join("".join(text.itertext()) for text in svg.iter("text"))
    said = re.findall(r"[\[{|]\"?([^\[\]{}|\"]+)\"?[\]}|]|(?:: |loop | as )(.*)", DIAGRAMS[name])
    words = {
        word for pair in said for text in pair for word in re.sub(r"<br/>|[()]", " ", text).split()
    }
    words -= {"*"}
    assert len(words) > 5
    assert not [word for word in words if word not in re.sub(r"[()]", " ", shown)]
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    for text in svg.iter("text"):
        x, y = (float(text.attrib[axis]) for axis in "xy")
        half = 3 * len("".join(text.itertext()))
        assert left <= x - half < x + half <= left + width
        assert top <= y <= top + height
    assert " → " in svg.attrib["aria-label"]


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ('<script src="https://a.test/x.js"></script>', True),
        ("<img alt='x' src=//a.test/x.png>", True),
        ('<link rel="stylesheet" href="https://a.test/x.css">', True),
        ('<link href="https://a.test/" rel=preconnect>', True),
        ("@font-face { src: url('https://a.test/x.woff2') }", True),
        ('@import "https://a.test/x.css";', True),
        ('<a href="https://a.test/">a link</a> <img src="x.png">', False),
        ('<link rel="canonical" href="https://a.test/">', False),
        ('<pre>&lt;script src="https://a.test/x.js"&gt; url(https://a.test)</pre>', False),
    ],
)
def test_what_is_loaded_from_elsewhere_is_found(hooks: ModuleType, text: str, loads: bool) -> None:
    assert bool(hooks.foreign_loads(text)) == loads
