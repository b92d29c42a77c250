"""Talks that lean on what was said: each turn's answer is right by what came before it."""

import re

import pytest

from chatling.messages import Conversation
from chatling.toy.arithmetic import in_words
from chatling.toy.heldout import refuses
from chatling.toy.language import Random
from chatling.toy.relations import relations
from chatling.toy.talks import KINDS, training_talk
from chatling.toy.words import spelled, words

from .shared import calculator_calls


@pytest.fixture(scope="module")
def talks() -> list[Conversation]:
    rng = Random(1)
    return [training_talk(rng) for _ in range(1_500)]


def test_every_calculator_call_gives_the_stated_output(talks: list[Conversation]) -> None:
    assert calculator_calls(talks) > 500


def test_a_further_step_begins_with_the_last_result(talks: list[Conversation]) -> None:
    steps = 0
    for talk in talks:
        if len(talk.messages) != 4 or not all("####" in m.text for m in talk.messages[1::2]):
            continue
        first, second = talk.messages[1], talk.messages[3]
        calls = [part.text for part in second.parts if part.kind == "python"]
        if calls and re.fullmatch(r"\d+[-+*/]\d+", calls[0]):
            result = first.text.rsplit("#### ", 1)[1]
            steps += calls[0].startswith(result)
    assert steps > 200


def test_what_is_spelled_was_in_the_talk(talks: list[Conversation]) -> None:
    spellings = 0
    for talk in talks:
        if match := re.fullmatch(r"(\w+) is spelled ([\w-]+)\.", talk.messages[-1].text):
            word, letters = match.groups()
            assert letters == spelled(word)
            assert word in words()
            before = " ".join(m.text.lower() for m in talk.messages[:-1])
            assert re.search(rf"\b{word}\b", before)
            spellings += 1
    assert spellings > 100


def test_answers_about_facts_are_facts_and_strangers_are_refused(talks: list[Conversation]) -> None:
    replies = {relation.reply(fact) for relation in relations().values() for fact in relation.facts}
    told = [
        message.text
        for talk in talks
        for message in talk.messages[1::2]
        if "####" not in message.text and " is spelled " not in message.text
    ]
    assert all(text in replies or refuses(text) for text in told)
    assert 50 < sum(map(refuses, told)) < len(told) // 4


def test_all_kinds_come_and_none_is_long(talks: list[Conversation]) -> None:
    assert {len(talk.messages) for talk in talks} == {4, 6}
    assert sum(KINDS.values()) == pytest.approx(1.0)
    assert max(sum(len(m.text) for m in talk.messages) for talk in talks) < 500


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "zero"), (13, "thirteen"), (20, "twenty"), (42, "forty-two"), (99, "ninety-nine")],
)
def test_numbers_in_words(number: int, text: str) -> None:
    assert in_words(number) == text
    assert in_words(100) == "100"
