"""The API's page: examples to copy, in each language, at each width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser
Open = Callable[..., Any]


def test_an_example_is_copied(open_page: Open) -> None:
    page = open_page("/v1", permissions=["clipboard-read", "clipboard-write"])
    copied = page.locator("pre").nth(2)
    copied.get_by_role("button").click()
    page.wait_for_selector("#notice:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == copied.locator("code").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 720, 1440])
def test_looks_and_accessibility(open_page: Open, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page("/v1", color_scheme=scheme, viewport={"width": width, "height": 740})
    page.wait_for_selector(".copy-code")
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    for title in ("API", "Die API"):
        page.click("#language")
        page.wait_for_selector(f"h1:text-is('{title}')")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    left = page.locator("pre").first.bounding_box()["x"]
    assert left >= 16
