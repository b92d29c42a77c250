"""The dashboard, while a training writes its run folder."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatling.pipeline.stages import STAGES
from chatling.run_dir import RunFolder
from chatling.train.charts import MACHINE

from ..e2e.conftest import short_recipe, tiny_command
from ..serve.conftest import Running, save_run
from .conftest import until

pytestmark = pytest.mark.browser
Open = Callable[..., Any]
PRESSED = "document.querySelector('.stage[aria-pressed=true] span')?.textContent"


@pytest.fixture
def live(server: Running) -> RunFolder:
    run = RunFolder(server.models.runs / "tiny")
    state(run, tokenizer="done", base="running")
    write(run, "base", range(50))
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
    sample(run, "base", {"topic": "a text", "prompt": "The", "text": "<b>end</b>"})
    return run


def state(run: RunFolder, **statuses: str) -> None:
    entries = {
        stage: {"status": status, "seconds": 2.0, "resumes": 0, "steps": 200}
        for stage, status in statuses.items()
    }
    run.write_state({"stages": entries, "execution": {}})


def write(run: RunFolder, stage: str, steps: range, **more: float) -> None:
    run.stage(stage).mkdir(exist_ok=True)
    with open(run.stage(stage) / "metrics.jsonl", "a") as file:
        for step in steps:
            line = {"step": step, "loss": 5 - step / 100, "tokens": 100, "seconds": 0.5}
            file.write(json.dumps(line | more) + "\n")


def sample(run: RunFolder, stage: str, *samples: dict[str, str]) -> None:
    (run.evals / f"{stage}-samples.jsonl").write_text(
        json.dumps({"step": 20, "samples": samples}) + "\n"
    )


def chart(page: Any, title: str) -> Any:
    return page.locator(".chart", has=page.locator(f"strong:text-is('{title}')"))


def steps(page: Any) -> list[str]:
    """The first and the last step that the first chart shows."""
    return chart(page, "Loss, nats a token").locator("svg text").all_text_contents()[-2:]


def test_it_follows_a_live_run(open_page: Open, live: RunFolder) -> None:
    with live.lock():
        page = open_page("/runs")
        page.wait_for_selector(".badge.alive")
        assert page.evaluate(PRESSED) == "base"
        assert "step 50 of 200" in page.inner_text("#stages")
        assert "1 min 15 s left" in page.inner_text("#stages")
        loss = chart(page, "Loss, nats a token")
        assert loss.locator("li").inner_text().split() == ["training", "4.51"]
        assert page.inner_text(".sample dd") == "<b>end</b>"
        assert "50.0 %" in page.inner_text(".eval:has-text('base · questions')")
        assert page.inner_text(".eval:has-text('base · CORE')").split() == [
            *("base", "·", "CORE", "CORE", "0.123", "arc", "easy", "62.5", "%", "(0.5)"),
        ]
        write(live, "base", range(50, 100))
        until(page, "document.querySelector('.legend b').textContent === '4.01'")
        assert "step 100 of 200" in page.inner_text("#stages")
        loss.locator("svg").hover(position={"x": 60, "y": 60})
        assert re.fullmatch(r"step \d", loss.locator(".hint").inner_text())
    until(page, "!document.querySelector('.badge.alive')")


def test_it_goes_with_the_training_unless_a_stage_was_chosen(
    open_page: Open, live: RunFolder
) -> None:
    with live.lock():
        page = open_page("/runs")
        until(page, f"{PRESSED} === 'base'")
        state(live, tokenizer="done", base="done", mid="running")
        write(live, "mid", range(20))
        until(page, f"{PRESSED} === 'mid'")
        page.click(".stage:has-text('base')")
        until(page, f"{PRESSED} === 'base'")
        state(live, tokenizer="done", base="done", mid="done", sft="running")
        write(live, "sft", range(20))
        page.wait_for_selector("button.stage:has-text('sft')")
        assert page.evaluate(PRESSED) == "base"
        page.click("text=Follow the training")
        until(page, f"{PRESSED} === 'sft'")
        state(live, tokenizer="done", base="done", mid="done", sft="done", dpo="running")
        write(live, "dpo", range(20))
        until(page, f"{PRESSED} === 'dpo'")


def test_no_metric_is_shown_by_its_raw_name(open_page: Open, live: RunFolder) -> None:
    """Each stage's metrics have the labels of its own charts, in the order of these."""
    trained = [stage for stage in STAGES if stage.charts]
    state(live, **{stage.name: "done" for stage in trained})
    raw = {name for stage in trained for each in stage.charts for name in each.metrics}
    for stage in trained:
        (live.stage(stage.name) / "metrics.jsonl").unlink(missing_ok=True)
        write(
            live, stage.name, range(9), memory_gb=0.5, other_metric=1.0, **dict.fromkeys(raw, 1.0)
        )
    page = open_page("/runs")
    wanted = {"dpo": "pair accuracy", "rl": "question accuracy", "sft": "token accuracy"}
    for stage in trained:
        page.click(f".stage:has-text('{stage.name}')")
        until(page, f"{PRESSED} === '{stage.name}'")
        titles = [each.title for each in stage.charts] + [MACHINE[0].title]
        assert page.locator(".chart strong").all_inner_texts() == titles
        labels = [label for each in stage.charts for label in each.metrics.values()]
        shown = page.locator(".legend span").all_inner_texts()
        assert shown == [*labels, "memory of the process"]
        assert wanted.get(stage.name, "share of the peak rate") in shown
        text = page.inner_text("main")
        assert not re.search(r"val_|_norm|pass@|other_metric|memory_gb|tokens_per", text)


def test_a_chart_keeps_the_focus_when_another_goes(open_page: Open, live: RunFolder) -> None:
    """One of which nothing was measured in the steps that are shown."""
    write(live, "base", range(50, 60), gradient_norm=0.1)
    page = open_page("/runs")
    drawing = chart(page, "Loss, nats a token").locator("svg")
    drawing.wait_for()
    before = page.locator(".chart").count()
    drawing.focus()
    for key in ("Home", "+"):
        page.keyboard.press(key)
    until(page, f"document.querySelectorAll('.chart').length < {before}")
    page.keyboard.press("0")
    assert steps(page) == ["0", "59"]


def test_zoom_smoothing_and_a_logarithmic_axis(open_page: Open, live: RunFolder) -> None:
    page = open_page("/runs")
    drawing = chart(page, "Loss, nats a token").locator("svg")
    drawing.wait_for()
    assert steps(page) == ["0", "49"]
    box = drawing.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=4)
    page.mouse.up()
    until(page, "!document.querySelector('#whole').disabled")
    first, last = map(int, steps(page))
    assert 10 < first < 20 < last < 33
    shown = drawing.locator(".curve").get_attribute("d").count("L") + 1
    assert shown == last - first + 1
    drawing.dblclick()
    assert steps(page) == ["0", "49"]
    drawing.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    output = chart(page, "Loss, nats a token").locator("output")
    assert output.inner_text() == "step 1: training 4.99"
    for key in ("End", "+"):
        page.keyboard.press(key)
    until(page, "!document.querySelector('#whole').disabled")
    assert int(steps(page)[0]) > 20
    page.keyboard.press("0")
    assert steps(page) == ["0", "49"]
    plain = drawing.locator(".curve").get_attribute("d")
    page.fill("#smoothing", "0.9")
    shapes = [drawing.locator(each).get_attribute("d") for each in (".raw", ".curve")]
    assert shapes[0] != shapes[1]  # a straight line, and one that lags behind it
    assert [shape.count("L") for shape in shapes] == [plain.count("L")] * 2
    page.fill("#smoothing", "0")
    page.click("#log-axis")
    assert drawing.locator(".curve").get_attribute("d") != plain
    assert page.get_attribute("#log-axis", "aria-pressed") == "true"
    write(live, "base", range(50, 52), gradient_norm=0.0)
    page.reload()  # what was chosen is kept
    norm = chart(page, "Gradient norm")
    assert norm.locator(".hint").inner_text() == "not logarithmic: values of 0 or less"


def test_other_runs_are_laid_over_and_saved_as_a_table(
    open_page: Open, server: Running, live: RunFolder
) -> None:
    other = save_run(server.models.runs / "=other", "base")
    state(other, base="done")
    write(other, "base", range(0, 80, 2), val_bpb=1.5)
    page = open_page("/runs#tiny")
    page.click("#overlay summary")
    page.check("#others input")
    until(page, "document.querySelectorAll('.chart .curve.s1').length > 0")
    legend = chart(page, "Loss, nats a token").locator("li").all_inner_texts()
    assert [each.split() for each in legend] == [["tiny", "4.51"], ["=other", "4.22"]]
    assert chart(page, "Bits per byte, validation").locator("li").all_inner_texts() == [
        "=other\n1.5"
    ]
    assert steps(page) == ["0", "78"]
    with page.expect_download() as saving:
        page.click("#csv")
    assert saving.value.suggested_filename == "tiny-base.csv"
    rows = list(csv.reader(Path(saving.value.path()).read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["run", "stage", "chart", "curve", "step", "value"]
    loss = [row for row in rows if row[2] == "Loss, nats a token"]
    assert loss[7] == ["tiny", "base", "Loss, nats a token", "training", "7", "4.93"]
    assert [row[4] for row in loss if row[0] == "'=other"] == [str(i) for i in range(0, 80, 2)]
    page.uncheck("#others input")
    until(page, "document.querySelectorAll('.chart .curve.s1').length === 0")


def test_samples_of_all_stages_stand_side_by_side(open_page: Open, live: RunFolder) -> None:
    for stage, prompt in (("rl", "Who?"), ("sft", "Who?"), ("base", "I am")):
        sample(live, stage, {"topic": "who it is", "prompt": prompt, "text": f" of {stage}"})
    page = open_page("/runs")
    page.wait_for_selector(".sample")
    assert page.locator(".sample").count() == 1
    heads = page.locator(".sample dt").all_inner_texts()
    assert [head.split(" ")[0] for head in heads] == ["base", "sft", "rl"]
    assert page.locator(".sample dd").all_inner_texts()[1] == "Who?\nof sft"
    tops = {round(each.bounding_box()["y"]) for each in page.locator(".sample dt").all()}
    assert len(tops) == 1


def test_the_report_opens_from_the_run(open_page: Open, live: RunFolder) -> None:
    page = open_page("/runs")
    page.wait_for_selector(".chart")
    assert page.locator("#title a").count() == 0
    live.report.mkdir()
    (live.report / "report.html").write_text("<!doctype html><style>p{color:red}</style><p>Good.")
    page.reload()
    page.click("#title a")
    page.wait_for_url("**/runs/tiny/report")
    assert page.inner_text("p") == "Good."


def test_a_real_run_is_followed_from_base_to_sft(
    open_page: Open, server: Running, tmp_path: Path
) -> None:
    """The command itself trains beside the server; nobody touches the page."""
    command = tiny_command(
        *("fresh", "--base.steps", "240", "--sft.mixture.0.count", "300"),
        *("--loop.evaluate-every", "30", "--loop.save-every", "1000"),
        recipe=short_recipe(tmp_path),
        aligned=False,
    )
    environment = {**os.environ, "CHATLING_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    page = open_page("/runs")
    page.wait_for_selector("#stages")
    with open(tmp_path / "log", "wb") as log:
        training = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    seen: list[str] = []
    left = False
    ends = time.monotonic() + 300
    try:
        while seen[-1:] != ["sft"]:
            assert time.monotonic() < ends, (seen, (tmp_path / "log").read_text())
            shown = page.evaluate(
                f"document.querySelector('h1')?.textContent === 'fresh' ? {PRESSED} : null"
            )
            if shown and shown not in seen:
                seen.append(shown)
            left = left or "of the whole run" in page.inner_text("#title")
            time.sleep(0.05)
        assert training.wait(100) == 0, (tmp_path / "log").read_text()
    finally:
        training.kill()
        training.wait()
    assert seen == ["base", "mid", "sft"]
    assert left
    page.wait_for_selector("#title a")
    until(page, "!document.querySelector('.badge.alive')")
    assert chart(page, "Peak memory, GB").locator("b").inner_text() > "0.1"
    assert page.locator(".sample").count() >= 10
    assert page.inner_text("#title a") == "Report"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 720, 1440])
def test_looks_and_accessibility(
    open_page: Open, server: Running, live: RunFolder, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    other = save_run(server.models.runs / f"other-{'x' * 60}", "base")
    state(other, base="failed")
    write(other, "base", range(80))
    page = open_page("/runs#tiny", color_scheme=scheme, viewport={"width": width, "height": 740})
    page.wait_for_selector(".chart")
    page.click("#overlay summary")
    page.check("#others input")
    page.wait_for_selector(".chart .s1")
    page.fill("#smoothing", "0.5")
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("#language")
    until(page, "document.querySelector('#charts').innerText.includes('损失')")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
