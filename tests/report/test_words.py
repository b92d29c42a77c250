"""A report speaks the language of its run, whole: each sentence of the code is in every language,
with the same values in it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Formatter

import pytest

from chatling.pipeline.stages import STAGES
from chatling.report.collect import collect
from chatling.report.document import compose
from chatling.report.render import to_html
from chatling.report.words import ENGLISH, Words, load_words
from chatling.run_dir import RunFolder
from chatling.train.charts import MACHINE

SOURCE = Path(__file__).resolve().parents[2] / "src/chatling/report"
LANGUAGES = ("zh", "de")
ASKED = {
    "en": ("What is the capital of France?", "It is Paris."),
    "zh": ("法国的首都是哪里？", "法国的首都是巴黎。"),
    "de": ("Was ist die Hauptstadt von Frankreich?", "Die Hauptstadt von Frankreich ist Paris."),
}


def said_in_the_code() -> Iterator[str]:
    """What is passed to `words(…)` and `words.missing(…)`."""
    for path in SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = ast.unparse(node.func)
            first = node.args[0]
            if name in ("words", "self", "words.missing") and isinstance(first, ast.Constant):
                yield first.value
    for stage in STAGES:
        for chart in (*stage.charts, *MACHINE):
            yield from (chart.title, *chart.metrics.values())


def values_in(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in Formatter().parse(text) if name)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_sentence_is_said_in_every_language(code: str) -> None:
    said = load_words(code).said
    english = set(said_in_the_code())
    assert len(english) > 100
    assert not english - said.keys()
    assert said.keys() == load_words(LANGUAGES[0]).said.keys()
    assert not [text for text, other in said.items() if values_in(other) != values_in(text)]


@pytest.mark.parametrize(("code", "shown"), [("en", "English"), ("fr", "English"), (None, "")])
def test_where_there_is_no_translation_it_is_english(code: str | None, shown: str) -> None:
    assert load_words(code) is ENGLISH
    assert ENGLISH("{a} of it", a=3) == "3 of it"


def speaking(make_run: Callable[..., RunFolder], code: str, name: str = "run") -> RunFolder:
    run, (prompt, text) = make_run(name), ASKED[code]
    line = {"step": 40, "samples": [{"topic": "facts", "prompt": prompt, "text": text}]}
    (run.evals / "sft-samples.jsonl").write_text(json.dumps(line) + "\n")
    return run


@pytest.mark.parametrize("code", ASKED)
def test_a_report_speaks_the_language_of_its_run(
    code: str, make_run: Callable[..., RunFolder]
) -> None:
    report = compose([collect(speaking(make_run, code), STAGES)])
    titles = re.findall(r"^## .*", report.markdown, re.M)
    assert titles[0] == load_words(code)("## How good it is")
    assert f'<html lang="{code}">' in to_html(report)
    if code != "en":
        left = [text for text in ENGLISH_SENTENCES if text in report.markdown]
        assert not left


ENGLISH_SENTENCES = ("trained from nothing", "not measured", "right of", "Notes", "validation")


def test_runs_of_two_languages_are_compared_in_english(
    make_run: Callable[..., RunFolder],
) -> None:
    runs = [speaking(make_run, code, code) for code in ("de", "zh")]
    assert compose([collect(run, STAGES) for run in runs]).words is ENGLISH


@pytest.mark.parametrize(
    ("value", "english", "chinese"),
    [
        (1_310_720, "1.31 million", "131 万"),
        (99_960_000, "100 million", "10,000 万"),
        (999_600_000, "1,000 million", "10 亿"),
        (561e6, "561 million", "5.61 亿"),
        (900, "900", "900"),
        (None, "not measured", "没有测"),
    ],
)
def test_large_numbers_are_told_as_a_language_does(
    value: float | None, english: str, chinese: str
) -> None:
    assert ENGLISH.large(value) == english
    assert load_words("zh").large(value) == chinese


def test_what_is_enumerated() -> None:
    words: Words = load_words("de")
    assert [words.enumerated(list(items)) for items in ("a", "ab", "abc")] == [
        "a",
        "a und b",
        "a, b und c",
    ]
