"""The chat page, driven as a person would."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from chatling.data.shard_writer import write_conversation_shards
from chatling.messages import Conversation
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render

from ..serve.conftest import Running, serving
from .conftest import answers, send, until

pytestmark = pytest.mark.browser
Open = Callable[..., Any]


def test_a_model_that_cannot_be_loaded_is_a_sentence(open_page: Open, server: Running) -> None:
    while not server.models.loaded:
        time.sleep(0.01)
    server.models.failures["tiny/sft"] = "Model 'tiny/sft' cannot be loaded: <b>no</b> memory"
    alert = open_page("/").locator(".welcome [role=alert]")
    assert alert.inner_text() == "Model 'tiny/sft' cannot be loaded: <b>no</b> memory"


def test_no_blank_is_lost_while_an_answer_is_written(open_page: Open) -> None:
    """Markdown has no blank at a paragraph's end, where the rest is put."""
    page = open_page()
    send(page, "letters", wait=False)
    page.wait_for_selector(".answer .body")
    seen = ""
    while seen.count("x") < 50:
        seen = page.locator(".answer .body").inner_text()
        assert "xx" not in seen
    page.get_by_role("button", name="Stop").click()


def test_send_regenerate_edit_and_keep(open_page: Open) -> None:
    page = open_page()
    page.wait_for_selector(".welcome")
    send(page, "one")
    send(page, "two")
    assert [text[:22] for text in answers(page)] == [
        "I am sft, you said one",
        "I am sft, you said two",
    ]
    before = answers(page)[1]
    page.get_by_role("button", name="Regenerate").click()
    until(
        page,
        "text => document.querySelectorAll('.answer .body')[1].innerText.length > 20 && "
        "document.querySelectorAll('.answer .body')[1].innerText !== text",
        before,
    )
    page.get_by_role("button", name="Edit").first.click()
    page.fill(".editing", "three")
    page.press(".editing", "Enter")
    until(
        page,
        "document.querySelectorAll('.turn').length === 1 &&"
        " !document.querySelector('[aria-busy=true]')",
    )
    assert answers(page)[0].startswith("I am sft, you said three")
    kept = answers(page)
    page.reload()
    page.wait_for_selector(".turn")
    until(page, "document.querySelector('.answer .body p')")  # Markdown again
    assert answers(page) == kept
    assert page.input_value("#prompt") == ""


def test_edits_and_regenerations_are_versions(open_page: Open) -> None:
    page = open_page()
    send(page, "one")
    send(page, "two")
    first = answers(page)[1]
    page.get_by_role("button", name="Regenerate").click()
    page.wait_for_selector(".versions:has-text('2 / 2')")
    until(page, "!document.querySelector('[aria-busy=true]')")
    second = answers(page)[1]
    assert second != first
    page.locator(".turn").first.get_by_role("button", name="Edit").click()
    page.fill(".editing", "three")
    page.press(".editing", "Enter")
    until(page, "document.querySelector('.turn:only-child .answer[aria-busy=false]')")
    messages = page.get_by_role("group", name="Versions of the message")
    assert messages.inner_text().split() == ["‹", "2", "/", "2", "›"]
    page.reload()
    messages.get_by_role("button", name="Previous version").press("Enter")
    assert page.locator(".bubble").all_inner_texts() == ["one", "two"]
    assert page.evaluate("document.activeElement.title") == "Previous version"
    until(page, "text => document.querySelectorAll('.body')[1].innerText === text", second)
    given = page.get_by_role("group", name="Versions of the answer")
    given.get_by_role("button", name="Previous version").click()
    until(page, "text => document.querySelectorAll('.body')[1].innerText === text", first)
    assert given.inner_text().split() == ["‹", "1", "/", "2", "›"]
    send(page, "after the first")
    given.get_by_role("button", name="Next version").click()
    assert page.locator(".bubble").all_inner_texts() == ["one", "two"]


def test_nothing_typed_is_lost(open_page: Open) -> None:
    page = open_page()
    send(page, "slowly", wait=False)
    page.fill("#prompt", "a thought")
    until(page, "(document.querySelector('.body')?.innerText.match(/word/g) ?? []).length >= 3")
    page.reload()
    assert page.input_value("#prompt") == "a thought"
    assert page.locator(".bubble").inner_text() == "slowly"
    assert answers(page)[0].count("word") >= 3
    assert "before the answer's end" in page.inner_text(".note")
    send(page, "next")
    page.locator(".turn").first.get_by_role("button", name="Edit").click()
    page.fill(".editing", "half an edit")
    page.click("#probabilities")
    assert page.input_value(".editing") == "half an edit"
    page.get_by_role("button", name="Cancel").click()
    assert page.locator(".bubble").first.inner_text() == "slowly"


def test_what_was_rendered_is_not_asked_for_again(open_page: Open) -> None:
    page = open_page()
    send(page, "one")
    page.wait_for_selector(".body p")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("#theme")
    page.click("#language")
    page.wait_for_selector("text=新对话")
    assert page.locator(".body p").count() == 1
    assert asked == []


def test_a_deletion_can_be_undone(open_page: Open) -> None:
    page = open_page()
    send(page, "one")
    page.locator("#conversations li").hover()
    page.get_by_role("button", name="Delete: one").click()
    page.wait_for_selector(".welcome")
    assert "“one” is deleted." in page.inner_text("#notice")
    page.get_by_role("button", name="Undo").click()
    assert page.locator(".bubble").inner_text() == "one"
    page.reload()
    page.wait_for_selector("#conversations li")
    assert page.locator(".bubble").inner_text() == "one"


def test_two_tabs_keep_each_others_words(open_page: Open) -> None:
    page = open_page()
    send(page, "one")
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector(".bubble")
    send(page, "slowly", wait=False)
    send(other, "from the other")
    until(page, "document.querySelectorAll('.body')[1].innerText.includes('word')")
    page.press("#prompt", "Escape")
    page.wait_for_selector(".note:has-text('Stopped.')")
    page.reload()
    page.wait_for_selector(".turn")
    assert page.locator(".bubble").all_inner_texts() == ["one", "slowly", "from the other"]
    assert "word" in answers(page)[1]


def test_a_full_storage_is_told(open_page: Open) -> None:
    page = open_page()
    page.evaluate(
        "for (let size = 1 << 22; size; size >>= 1)"
        " try { while (true) localStorage.setItem(`fill${Math.random()}`, 'x'.repeat(size)); }"
        " catch { /* full */ }"
    )
    send(page, "hello")
    assert "storage is full" in page.inner_text("#notice")


def test_streaming_and_stop(open_page: Open, server: Running) -> None:
    page = open_page()
    send(page, "slowly", wait=False)
    until(
        page,
        "(document.querySelector('.answer .body')?.innerText.match(/word/g) ?? []).length >= 3",
    )
    assert page.locator("#send").is_hidden()
    page.keyboard.press("Escape")
    page.wait_for_selector(".note:has-text('Stopped.')")
    assert 3 <= answers(page)[0].count("word") < 60
    assert server.idle()  # the server stopped, too
    assert page.locator("#send").is_visible()
    send(page, "again")
    assert "you said again" in answers(page)[1]


def test_examples_are_the_runs_own(open_page: Open, server: Running) -> None:
    page = open_page()
    page.wait_for_selector(".welcome")
    assert page.locator(".example").count() == 0
    run = RunFolder(server.models.runs / "tiny")
    tokenizer = Tokenizer.load(run.tokenizer)
    talks = [Conversation.of(f"第{i}个问题是什么？", "是的。") for i in range(9)]
    talks = [render(tokenizer, talk) for talk in talks]
    write_conversation_shards(
        run.data / "sft-validation", talks, tokenizer.vocab_size, fingerprint="x"
    )
    page.reload()
    page.wait_for_selector(".example")
    assert page.locator(".example").count() == 4
    first = page.locator(".example").first
    text = first.inner_text()
    assert "个问题是什么？" in text
    first.click()
    page.wait_for_selector(".turn .answer .stats")
    assert page.inner_text(".bubble") == text


def test_rename_export_and_delete(open_page: Open) -> None:
    page = open_page()
    send(page, "calculate")
    item = page.locator("#conversations li").first
    item.hover()
    item.get_by_role("button", name="Rename").click()
    page.fill("#ask-input", "Sums")
    page.press("#ask-input", "Enter")
    page.wait_for_selector("#conversations .title:has-text('Sums')")
    item.hover()
    with page.expect_download() as download:
        item.get_by_role("button", name="Export").click()
    exported = json.loads(download.value.path().read_text())
    assert exported["messages"][0] == {"role": "user", "content": "calculate"}
    assert [part["type"] for part in exported["messages"][1]["content"]] == [
        "text",
        "python",
        "output",
        "text",
    ]
    page.click("#new")
    send(page, "second")
    with page.expect_download() as download:
        page.click("#export-all")
    assert len(download.value.path().read_text().splitlines()) == 2
    page.locator("#conversations li").nth(1).hover()
    page.locator("#conversations li").nth(1).get_by_role("button", name="Delete").click()
    until(page, "document.querySelectorAll('#conversations li').length === 1")
    page.reload()
    page.wait_for_selector("#conversations li")
    assert page.locator("#conversations .title").all_inner_texts() == ["second"]


def test_settings_reach_the_server(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Alt+KeyS")
    page.fill("#system", "Be kind.")
    page.fill("#sampling-seed", "77")
    page.fill("#sampling-max_tokens", "12")
    page.evaluate(
        "const t = document.getElementById('sampling-temperature'); t.value = 1.5;"
        " t.dispatchEvent(new Event('input'))"
    )
    page.keyboard.press("Escape")
    with page.expect_request("**/v1/chat/completions") as request:
        send(page, "hello")
    body = request.value.post_data_json
    assert (body["seed"], body["max_tokens"], body["temperature"]) == (77, 12, 1.5)
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hello"},
    ]
    assert page.locator(".note").inner_text() == "The answer reached its longest length."
    page.reload()
    page.wait_for_selector(".turn")
    assert page.input_value("#system") == "Be kind."


def test_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    page.wait_for_selector(".welcome")
    page.keyboard.type("hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn:last-child .answer .actions button")
    assert page.locator(".bubble").inner_text() == "hello\nthere"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Control+a")
    page.keyboard.type("changed")
    page.keyboard.press("Enter")
    until(
        page,
        "document.querySelector('.bubble').innerText === 'changed' &&"
        " !document.querySelector('[aria-busy=true]')",
    )
    page.keyboard.press("Alt+KeyC")
    assert page.get_attribute("#compare", "aria-pressed") == "true"
    page.keyboard.press("Alt+KeyN")
    page.wait_for_selector(".welcome")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_the_oldest_turns_fall_out(open_page: Open) -> None:
    page = open_page()
    for _ in range(6):
        send(page, "a rather long question " * 4)
    assert "no longer sees the first" in page.locator(".turn:last-child .note").inner_text()


def test_errors_are_shown_where_they_happen(open_page: Open) -> None:
    page = open_page()
    send(page, "x" * 800)
    assert "maximum context length" in page.locator(".note.error").inner_text()
    assert open_page.troubles == [
        "error: Failed to load resource: the server responded with a status of 400 (Bad Request)"
    ]  # type: ignore[attr-defined]
    open_page.troubles.clear()  # type: ignore[attr-defined]
    send(page, "short")
    assert "you said short" in answers(page)[-1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_looks_and_accessibility(open_page: Open, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(
        color_scheme=scheme, viewport={"width": width, "height": 740}, reduced_motion="reduce"
    )

    def clean(what: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), what
        found = axe.run(page)
        assert found.violations_count == 0, f"{what}: {found.generate_report()}"

    page.wait_for_selector(".welcome")
    dark = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(part => part < 80)"
    )
    assert dark == (scheme == "dark")
    clean("welcome")
    page.click("#compare")
    page.click("#probabilities")
    send(page, "hello")
    send(page, "calculate")
    page.locator(".token").first.focus()
    clean("comparing with probabilities")
    page.click("#probabilities")
    page.click("#compare")
    send(page, "hostile")
    page.wait_for_selector(".body h1")
    clean("Markdown")
    page.click("#settings-open")
    clean("settings")
    page.keyboard.press("Escape")
    if width < 800:
        page.click("#open-sidebar")
        page.wait_for_timeout(300)
        clean("sidebar")
        page.click("#close-sidebar")
    else:
        page.click("#shortcuts-open")
        clean("shortcuts")


def test_chinese_and_theme_are_kept(open_page: Open) -> None:
    page = open_page()
    page.click("#language")
    assert page.get_attribute("#prompt", "placeholder") == "输入消息"
    assert page.get_attribute("html", "lang") == "zh"
    page.click("#theme")
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.reload()
    page.wait_for_selector(".welcome")
    assert page.locator("#new").inner_text() == "新对话"
    assert page.get_attribute("html", "data-theme") == "dark"
    assert open_page(locale="zh-CN").locator("#new").inner_text() == "新对话"


def test_a_key_is_asked_for_and_kept(chromium: Any, server: Running) -> None:
    with serving(server.models.runs, load=server.models.load, key="open sesame") as locked:
        page = chromium.new_page()
        page.goto(locked.url)
        page.fill("#ask-input", "open sesame")
        page.press("#ask-input", "Enter")
        page.wait_for_selector("h2:has-text('What would you like to ask?')")
        send(page, "hello")
        assert "you said hello" in answers(page)[0]
        page.reload()
        page.wait_for_selector(".turn")
        page.close()
