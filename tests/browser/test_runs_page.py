"""The dashboard, while a training writes its run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chatling.run_dir import RunFolder

from ..serve.conftest import Running
from .conftest import until

pytestmark = pytest.mark.browser


@pytest.fixture
def live(server: Running) -> RunFolder:
    run = RunFolder(server.models.runs / "tiny")
    run.write_state(
        {
            "stages": {
                "tokenizer": {"status": "done", "seconds": 2.0, "resumes": 0},
                "base": {"status": "running", "seconds": 0.0, "resumes": 1, "steps": 200},
            },
            "execution": {},
        }
    )
    write(run, range(50))
    run.evals.mkdir()
    values = {
        "results": [
            {"name": "facts", "accuracy": 0.5, "correct": 1, "total": 2, "interval": [0.2, 0.8]}
        ]
    }
    (run.evals / "base-chat.json").write_text(json.dumps(values))
    core = {
        "core": 0.123,
        "cut": False,
        "tasks": {"arc_easy": {"accuracy": 0.625, "centered": 0.5, "count": 8, "baseline": 0.25}},
    }
    (run.evals / "base-core.json").write_text(
        json.dumps({"stage": "base", "eval": "core", "limit": 8, "results": core})
    )
    (run.evals / "base-samples.jsonl").write_text(
        json.dumps({"step": 20, "samples": [{"prompt": "The", "text": "<b>end</b>"}]}) + "\n"
    )
    return run


def write(run: RunFolder, steps: range) -> None:
    with open(run.stage("base") / "metrics.jsonl", "a") as file:
        for step in steps:
            file.write(
                json.dumps({"step": step, "loss": 5 - step / 100, "tokens": 100, "seconds": 0.5})
                + "\n"
            )


def test_it_follows_a_live_run(open_page: Callable[..., Any], live: RunFolder) -> None:
    with live.lock():
        page = open_page("/runs")
        page.wait_for_selector(".badge.alive")
        assert page.locator(".stage[aria-pressed=true]").inner_text().split("\n")[0] == "base"
        assert "step 50 of 200" in page.inner_text("#stages")
        assert "1 min 15 s left" in page.inner_text("#stages")
        loss = page.locator(".chart", has_text="Training loss").locator("output")
        assert loss.inner_text() == "4.51"
        assert page.inner_text(".sample dd") == "<b>end</b>"
        assert "50.0 %" in page.inner_text(".eval:has-text('base-chat')")
        assert page.inner_text(".eval:has-text('base-core')").split() == [
            "base-core",
            "core",
            "0.123",
            "arc_easy",
            "62.5",
            "%",
            "(0.5)",
        ]
        write(live, range(50, 100))
        until(
            page,
            "[...document.querySelectorAll('.chart output')].some(node => node.textContent ==="
            " '4.01')",
        )
        assert "step 100 of 200" in page.inner_text("#stages")
        page.locator(".chart svg").first.hover(position={"x": 60, "y": 60})
        assert "step" in loss.inner_text()
    until(page, "!document.querySelector('.badge.alive')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_looks_and_accessibility(
    open_page: Callable[..., Any], live: RunFolder, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page("/runs", color_scheme=scheme, viewport={"width": width, "height": 740})
    page.wait_for_selector(".chart")
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("#language")
    assert "训练损失" in page.inner_text("#charts")
