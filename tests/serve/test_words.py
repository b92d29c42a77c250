"""The pages say everything in every language, with the same values in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

UI = Path(__file__).resolve().parents[2] / "src/chatling/serve/ui"


def table(code: str) -> dict[str, str]:
    text = (UI / f"words/{code}.js").read_text("utf-8")
    return dict(re.findall(r'\b(\w+): "((?:[^"\\]|\\.)*)"', text))


def values_in(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w+\}", text))


def test_the_page_knows_every_language() -> None:
    words = (UI / "words.js").read_text("utf-8")
    codes = {path.stem for path in (UI / "words").glob("*.js")}
    assert codes == set(re.findall(r"^import (\w+) from", words, re.M)) == {"en", "zh", "de"}
    assert len({table(code)["own"] for code in codes}) == 3


@pytest.mark.parametrize("code", ["zh", "de"])
def test_every_name_is_said_in_every_language(code: str) -> None:
    english, other = table("en"), table(code)
    assert other.keys() == english.keys()
    assert not [name for name in english if values_in(other[name]) != values_in(english[name])]


def test_what_the_pages_ask_for_is_there() -> None:
    english, missing = table("en"), set()
    for path in (*UI.glob("*.js"), *UI.glob("*.html")):
        text = path.read_text("utf-8")
        asked = re.findall(r'\bt\("(\w+)"|data-(?:t|label|placeholder)="(\w+)"', text)
        missing |= {name for pair in asked for name in pair if name} - english.keys()
    assert not missing
