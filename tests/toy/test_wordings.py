"""A user's facts as questions."""

from random import Random

import pytest

from chatling.data.facts import Fact, thing
from chatling.toy.packs import load_pack
from chatling.toy.wordings import Wordings


def questions(fact: Fact, others: tuple[Fact, ...] = ()) -> set[str]:
    words = Wordings((fact, *others), load_pack("en"))
    return {words.ask(fact, Random(i)).lower() for i in range(3000)}


def test_a_value_is_asked_for_by_its_kind_as_one_asks() -> None:
    asked = questions(thing("Rehearsals", "tea break", "8.25 pm, a quarter of an hour"))
    assert {"what time is the tea break?", "when is the tea break?"} & asked


def test_a_heading_that_asks_is_the_question() -> None:
    asked = questions(Fact("", "Ask for Mara.", subject="How do I join?", kind="about"))
    assert "how do i join?" in asked
    assert not any("who is" in each or "tell me about" in each for each in asked)


def test_what_is_an_attribute_too_is_asked_for_when_there_only() -> None:
    about = Fact("", "Winifred runs the urn.", subject="Tea break", kind="about")
    alone = questions(about)
    assert any("when is tea break" in each for each in alone)
    beside = questions(about, (thing("Rehearsals", "tea break", "8.25 pm"),))
    assert not any("when is tea break" in each for each in beside)
    assert any("what is tea break" in each for each in beside)


def test_attributes_that_differ_in_a_little_word_stay_apart() -> None:
    by, of = thing("Chair", "made by", "Ivo"), thing("Chair", "made in", "Wales")
    assert any("the made of chair" in each for each in questions(by))
    assert not any("the made of chair" in each for each in questions(by, (of,)))


def test_a_language_without_a_pack_is_asked_as_it_stands() -> None:
    facts = (thing("Coro", "precio", "12"), thing("Teatro", "sala", "3"))
    words = Wordings(facts, load_pack(None))
    assert all(words.ask(fact, Random(i)).strip() for fact in facts for i in range(200))


@pytest.mark.parametrize(
    ("heading", "asks"),
    [("Can I bring a dog?", True), ("Who we are", True), ("Many hands", False)],
)
def test_headings_that_are_questions(heading: str, asks: bool) -> None:
    asked = questions(Fact("", "Yes.", subject=heading, kind="about"))
    assert any("tell me about" in each for each in asked) is not asks


def test_a_question_of_little_words_is_not_asked_by_its_topic() -> None:
    asked = questions(Fact("Who are we?", "A choir."))
    assert not any(each.startswith((",", " -", ":")) for each in asked)


def test_somebody_is_asked_for_by_who_is_that() -> None:
    asked = questions(Fact("Who is our conductor?", "Tobias."))
    assert any(each.endswith("- who is that?") for each in asked)
