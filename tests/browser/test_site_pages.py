"""The documentation's site, opened from disk: axe finds nothing in any page, nothing is loaded from
elsewhere, no page is wider than the window, and the page that chats answers inside of another.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chatling.export import html

from ..export.conftest import CONVERSATIONS, make_learned
from ..test_site import ROOT, build_site, hooks  # noqa: F401 - a fixture

pytestmark = pytest.mark.browser
PAGES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))
SCHEMES = ("light", "dark")
# the theme puts each button that copies code into a landmark of its own, without a name
RULES = {"rules": {"landmark-unique": {"enabled": False}}}


@pytest.fixture(scope="module")
def site(hooks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    live = tmp_path_factory.mktemp("live")
    html.write(make_learned("classic", 2, 100, 32), live, "f32")
    next(live.glob("*.html")).rename(live / "pocket.html")
    return build_site(tmp_path_factory.mktemp("site"), live=str(live))


def address(site: Path, page: Path) -> str:
    return (site / page.parent / f"{page.stem.replace('README', 'index')}.html").as_uri()


def opened(chromium: Any, troubles: list[str], **options: Any) -> Any:
    """A page whose errors and requests of other hosts are noted. The console is not looked at: the
    theme asks for a site map, which a browser refuses to a page from disk.
    """
    page = chromium.new_page(**options)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else troubles.append(request.url)
        ),
    )
    return page


@pytest.mark.parametrize(
    ("number", "page"), list(enumerate(PAGES)), ids=[str(page) for page in PAGES]
)
def test_a_page_is_accessible_and_asks_for_nothing(
    chromium: Any, site: Path, number: int, page: Path
) -> None:
    """Every other page light, the others dark; a phone's width last."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    troubles: list[str] = []
    shown = opened(chromium, troubles, color_scheme=SCHEMES[number % 2])
    shown.goto(address(site, page))
    assert not troubles
    found = axe.run(shown, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    shown.set_viewport_size({"width": 390, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shown.close()


@pytest.mark.parametrize("language", ["", "zh/"])
def test_the_model_answers_inside_of_the_page(chromium: Any, site: Path, language: str) -> None:
    question, answer = (message.text for message in CONVERSATIONS[-2].messages)
    troubles: list[str] = []
    shown = opened(chromium, troubles)
    shown.goto(address(site, Path(f"{language}path/11-answers.md")))
    frame = shown.frame_locator("iframe.live")
    frame.locator("input").fill(question)
    frame.locator("input").press("Enter")
    frame.get_by_text(answer).wait_for(timeout=60_000)
    assert not troubles
    shown.close()


def test_the_search_finds_words_in_both_languages(chromium: Any, site: Path) -> None:
    troubles: list[str] = []
    shown = opened(chromium, troubles)
    shown.goto(address(site, Path("README.md")))
    for words in ("advantage", "分词器"):
        shown.locator("input.md-search__input").fill(words)
        shown.locator(".md-search-result__item").first.wait_for(timeout=60_000)
    assert not troubles
    shown.close()
