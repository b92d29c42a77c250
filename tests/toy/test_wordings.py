"""A user's facts as questions."""

from random import Random

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


def test_somebody_is_asked_for_by_who_is_that() -> None:
    asked = questions(Fact("Who is our conductor?", "Tobias."))
    assert any(each.endswith("- who is that?") for each in asked)
