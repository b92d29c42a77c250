"""The report in a browser: nothing fetched, no message, readable on a phone and on a wide screen,
light and dark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatling.pipeline.stages import STAGES as REGISTRY
from chatling.report.collect import collect
from chatling.report.document import compose
from chatling.report.render import write_report
from chatling.run_dir import STAGES

from ..report.conftest import Make, make_run  # noqa: F401 - a fixture

pytestmark = pytest.mark.browser
SMALLEST = (
    "() => Math.min(...[...document.querySelectorAll('svg text')].map(t =>"
    " t.getBoundingClientRect().height))"
)


@pytest.fixture
def folder(make_run: Make, tmp_path: Path) -> Path:  # noqa: F811
    write_report(compose([collect(make_run("all", STAGES), REGISTRY)]), tmp_path / "one")
    write_report(
        compose([collect(make_run(name, STAGES), REGISTRY) for name in ("a", "b", "c")]),
        tmp_path / "several",
    )
    return tmp_path


@pytest.mark.parametrize("report", ["one", "several"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_is_readable_and_asks_for_nothing(
    chromium: Any, folder: Path, report: str, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith("file:") else troubles.append(request.url),
    )
    page.goto((folder / report / "report.html").as_uri())
    assert page.evaluate(
        "document.documentElement.scrollWidth <= innerWidth"
    )  # what is wider scrolls by itself
    assert page.evaluate(SMALLEST) >= 9
    dark = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(part => part < 100)"
    )
    assert dark == (scheme == "dark")
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa"]})
    assert [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found.response["violations"]
    ] == []
    page.close()
    assert troubles == []


def test_figures_follow_the_readers_setting_also_as_files(chromium: Any, folder: Path) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page = chromium.new_page(color_scheme=scheme)
        page.goto(next((folder / "one/figures").glob("*-loss.svg")).as_uri())
        colours.append(page.evaluate("getComputedStyle(document.querySelector('text')).fill"))
        page.close()
    assert colours[0] != colours[1]
