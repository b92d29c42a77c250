"""What the chat page makes of an answer: Markdown, formulas, calls, probabilities, judgements."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from chatling.config.recipe import load_recipe, to_toml

from ..serve.conftest import Running, save_run, serving
from .conftest import CONTEXT, answers, send, until

pytestmark = pytest.mark.browser
Open = Callable[..., Any]
TINY_IMPROVEMENT = (
    *("--dpo.watch-questions", "10", "--dpo.batch-pairs", "256"),
    *("--base.batch-tokens", str(CONTEXT)),
    *("--machine.threads", "1", "--machine.compile", "off", "--machine.kernel", "plain"),
)


def rows(server: Running, run: str, name: str) -> list[Any]:
    path = server.models.runs / run / "feedback" / name
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_marks_become_pairs_that_are_downloaded(open_page: Open, server: Running) -> None:
    page = open_page()
    send(page, "hello")
    first = answers(page)[0]
    bad = page.get_by_role("button", name="Bad answer")
    bad.click()
    page.wait_for_selector("#pairs:has-text('pairs of tiny: 0')")
    assert bad.get_attribute("aria-pressed") == "true"
    assert rows(server, "tiny", "marks.jsonl")[0]["mark"] == "bad"
    assert "kept on this machine only, with the run tiny" in page.inner_text("#notice")
    page.get_by_role("button", name="Regenerate").click()
    page.wait_for_selector(".versions:has-text('2 / 2')")
    page.get_by_role("button", name="Good answer").click()
    page.wait_for_selector("#pairs:has-text('pairs of tiny: 1')")
    (pair,) = rows(server, "tiny", "pairs.jsonl")
    assert pair["prompt"] == [{"role": "user", "content": "hello"}]
    assert pair["rejected"][0]["content"].split() == first.split()
    with page.expect_download() as download:
        page.click("#pairs")
    assert json.loads(download.value.path().read_text()) == pair
    page.reload()
    good = page.get_by_role("button", name="Good answer")
    assert good.get_attribute("aria-pressed") == "true"
    good.click()  # taken back
    page.wait_for_selector("#pairs:has-text('pairs of tiny: 0')")


def test_the_better_of_two_is_kept_and_continued(open_page: Open, server: Running) -> None:
    save_run(server.models.runs / "other", "mid", context=CONTEXT)
    page = open_page()
    page.click("#compare")
    assert page.input_value("#model-1") == "other/mid"
    send(page, "hello")
    page.get_by_role("button", name="This one is better").nth(1).click()
    page.wait_for_selector("#pairs:has-text('pairs of other: 1')")
    for name in ("tiny", "other"):
        (pair,) = rows(server, name, "pairs.jsonl")
        assert pair["chosen"][0]["content"].startswith("I am mid")
        assert pair["rejected"][0]["content"].startswith("I am sft")
    with page.expect_request("**/v1/chat/completions") as request:
        send(page, "more")
    said = request.value.post_data_json["messages"][1]["content"][0]["text"]
    assert said.startswith("I am mid")  # both continue from it
    assert page.get_by_role("button", name="This one is better").nth(1).is_disabled()


def test_a_better_answer_is_written(open_page: Open, server: Running) -> None:
    page = open_page()
    send(page, "hello")
    write = page.get_by_role("button", name="Write a better answer")
    write.click()
    area = page.locator(".answer textarea")
    assert area.input_value() == answers(page)[0]
    area.fill("never")
    area.press("Escape")
    assert page.locator(".correction").is_hidden()
    assert not page.locator("#improve").is_visible()
    write.click()
    area.fill("Hello.")
    area.press("Enter")
    page.wait_for_selector("#pairs:has-text('pairs of tiny: 1')")
    (pair,) = rows(server, "tiny", "pairs.jsonl")
    assert pair["chosen"][0]["content"] == "Hello."
    (talk,) = rows(server, "tiny", "corrections.jsonl")
    assert talk["messages"][-1]["content"] == "Hello."
    page.reload()
    assert page.inner_text(".correction") == "Hello."
    page.click("#improve")
    assert "chatling improve tiny" in page.inner_text("#ask-text")
    page.click("#ask-yes")
    page.wait_for_selector("#notice:has-text('Copied: chatling improve tiny')")
    write.click()
    area.fill("")
    page.get_by_role("button", name="Save").click()  # taken back
    page.wait_for_selector("#pairs:has-text('pairs of tiny: 0')")


def test_talk_mark_improve_compare_keep(open_page: Open, server: Running) -> None:
    """The whole loop; what the page says to type is typed."""
    home = server.models.runs.parent
    recipe = to_toml(load_recipe("pocket", ["--name", "tiny", *TINY_IMPROVEMENT]))
    (server.models.runs / "tiny/recipe.toml").write_text(recipe)
    page = open_page()
    for i in range(8):
        send(page, f"What is {i}?")
        page.get_by_role("button", name="Write a better answer").last.click()
        page.locator(".answer textarea").fill(f"{i}.")
        page.locator(".answer textarea").press("Enter")
        page.wait_for_selector(f"#pairs:has-text('pairs of tiny: {i + 1}')")
    page.click("#improve")
    (command,) = re.findall("chatling improve [a-z]+", page.inner_text("#ask-text"))
    page.click("#ask .buttons button")  # cancel
    environment = {**os.environ, "CHATLING_HOME": str(home), "OMP_NUM_THREADS": "1"}

    def typed(*more: str) -> str:
        words = [sys.executable, "-m", *command.split(), *more]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Held-out questions of yours" in typed()
    page.reload()
    page.click("#new")
    page.click("#compare")
    page.select_option("#model-1", "tiny-improved-1/dpo")
    send(page, "hello")
    old, new = answers(page)
    assert "sft" in old
    assert "dpo" in new
    page.get_by_role("button", name="This one is better").nth(1).click()
    page.wait_for_selector("#pairs:has-text('pairs of tiny-improved-1: 1')")
    assert "Kept. Talk to it: chatling chat tiny-improved-1" in typed("--keep")


def test_a_judgement_that_fails_is_told(open_page: Open, server: Running) -> None:
    page = open_page()
    send(page, "hello")
    (server.models.runs / "tiny/feedback").write_text("in the way")
    page.get_by_role("button", name="Good answer").click()
    page.wait_for_selector("#notice:has-text('That did not work')")
    assert page.get_by_role("button", name="Good answer").get_attribute("aria-pressed") == "false"
    open_page.troubles.clear()  # type: ignore[attr-defined]


def test_hostile_markdown_and_html_stay_inert(open_page: Open) -> None:
    page = open_page()
    send(page, "hostile")
    page.wait_for_selector(".answer .body h1")
    body = page.locator(".answer .body")
    assert page.evaluate("window.pwned") is None
    assert body.locator("script, img, style, iframe, [onclick], [onerror], [style]").count() == 0
    assert body.locator("a").evaluate_all("links => links.map(link => link.protocol)") == ["http:"]
    assert "<script>window.pwned = 1</script>" in body.inner_text()
    assert body.locator("td.right").count() == 1
    send(page, "<img src=x onerror=window.pwned=6><script>window.pwned=7</script>")
    page.click("#probabilities")
    page.locator("#conversations li").first.hover()
    page.get_by_role("button", name="Rename").first.click()
    page.fill("#ask-input", "<img src=x onerror=window.pwned=8>")
    page.click("#ask-yes")
    page.reload()
    page.wait_for_selector(".turn")
    assert page.locator("#conversations img, .turn img").count() == 0
    assert page.evaluate("window.pwned") is None


def test_a_base_model_continues_texts(open_page: Open) -> None:
    page = open_page()
    page.select_option("#model-0", "tiny/base")
    assert "How does the text begin?" in page.inner_text(".welcome")
    assert page.get_attribute("#prompt", "placeholder") == "Write the beginning of a text"
    page.click("#probabilities")
    with page.expect_request("**/v1/completions") as request:
        send(page, "Once")
    asked = request.value.post_data_json
    assert (asked["prompt"], asked["max_tokens"], asked["logprobs"]) == ("Once", 64, 8)
    written = "".join(page.locator(".token").all_inner_texts())
    assert written.startswith("I am base, you said Once")
    assert answers(page)[0] == f"Once{written}"
    page.locator(".token").first.hover()
    chosen = [row.inner_text().split() for row in page.locator("#alternatives .alternative").all()]
    assert chosen[:2] == [["I", "78", "%"], ["x", "14", "%"]]
    with page.expect_request("**/v1/completions") as request:
        page.get_by_role("button", name="Write more").click()
    until(page, "!document.querySelector('[aria-busy=true]')")
    assert request.value.post_data_json["prompt"] == f"Once{written}"
    assert answers(page)[0].startswith(f"Once{written}I am base")
    assert page.get_by_role("button", name="Good answer").count() == 0
    kept = answers(page)
    page.reload()
    page.wait_for_selector(".given")
    assert answers(page) == kept
    page.locator("#conversations li").hover()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export: Once").click()
    assert json.loads(download.value.path().read_text())["text"] == kept[0]


def test_probabilities_of_a_text_lengthened_without_them_are_not_shown(open_page: Open) -> None:
    page = open_page()
    page.select_option("#model-0", "tiny/base")
    page.click("#probabilities")
    send(page, "Once")
    assert page.locator(".token").count() > 20
    page.click("#probabilities")
    page.get_by_role("button", name="Write more").click()
    until(page, "!document.querySelector('[aria-busy=true]')")
    page.click("#probabilities")
    assert answers(page)[0].count("I am base") >= 2
    assert page.locator(".token").count() == 0


def test_real_models_write_with_probabilities(chromium: Any, server: Running) -> None:
    """Random ones, whose bytes are often no characters."""
    with serving(server.models.runs) as real:
        page = chromium.new_page()
        page.goto(real.url)
        page.click("#probabilities")
        for stage in ("base", "sft"):
            page.select_option("#model-0", f"tiny/{stage}")
            send(page, "Once")
            last = page.locator(".turn").last
            assert last.locator(".token").count() > 5
            assert re.match(r"\d+ tokens · [\d.,]+ a second", last.locator(".stats").inner_text())
        page.close()


def test_formulas_are_set_and_hostile_ones_are_inert(open_page: Open) -> None:
    page = open_page()
    send(page, "formulas")
    page.wait_for_selector(".math math")
    body = page.locator(".answer .body")
    assert body.locator(".math math").count() >= 3
    assert body.locator(".display math mfrac").count() == 1
    assert "costs $5, and $3 more;" in body.inner_text()
    assert r"\href{javascript:alert(1)}{a}" in body.inner_text()
    assert body.locator("a, img, [href], [src], h4").count() == 0
    assert "#### 27" in body.inner_text()
    assert page.evaluate("window.pwned") is None
    assert body.bounding_box()["height"] < 2000
    elsewhere = page.locator("mtext:has-text('elsewhere')").bounding_box()
    assert elsewhere["x"] < 0  # where it would stand, if it were not cut off
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    before = body.locator("math").count()
    page.click("#probabilities")  # drawn again
    page.click("#probabilities")
    until(page, f"document.querySelectorAll('.body math').length === {before}")


def test_counts_and_speed_stand_below_an_answer(open_page: Open) -> None:
    page = open_page()
    send(page, "hello")
    text = page.inner_text(".stats")
    assert re.fullmatch(r"\d\d tokens · [\d.,]+ a second", text), text
    assert "tokens were read" in (page.get_attribute(".stats", "title") or "")


def test_calculator_calls_show(open_page: Open) -> None:
    page = open_page()
    send(page, "calculate")
    assert page.locator(".tool").inner_text().split() == ["12+7", "=", "19"]
    assert page.locator(".tool").get_attribute("aria-label") == "Calculator: 12+7 = 19"
    page.wait_for_selector(".body p .tool")  # after Markdown, too
    send(page, "more")  # the call goes back to the model as a call
    page.reload()
    page.wait_for_selector(".tool")


def test_token_probabilities(open_page: Open) -> None:
    page = open_page()
    page.click("#probabilities")
    send(page, "calculate")
    tokens = page.locator(".token")
    assert "".join(tokens.all_inner_texts()) == "so  it is."
    assert page.locator(".tool").count() == 1
    tokens.first.hover()
    rows = [row.inner_text().split() for row in page.locator("#alternatives .alternative").all()]
    assert rows[0] == ["s", "78", "%"]
    assert rows[1] == ["x", "14", "%"]
    assert rows[2][0] == "bytes:\\xc3"
    page.mouse.move(0, 0)
    page.wait_for_selector("#alternatives", state="hidden")
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "o"
    assert page.locator("#alternatives .chosen code").inner_text() == "o"


def test_two_models_side_by_side(open_page: Open) -> None:
    page = open_page()
    page.click("#compare")
    assert page.input_value("#model-0") == "tiny/sft"
    assert page.input_value("#model-1") == "tiny/base"
    send(page, "hello")
    assert [text[:15] for text in answers(page)] == ["I am sft, you s", "helloI am base,"]
    boxes = [answer.bounding_box() for answer in page.locator(".answer").all()]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]
    page.get_by_role("button", name="Regenerate").nth(1).click()
    until(page, "!document.querySelector('[aria-busy=true]')")
    assert answers(page)[0].startswith("I am sft")
    page.reload()
    until(page, "document.querySelectorAll('.answer').length === 2")
