"""How a fact is asked: of one thing or several, by another name, and from the answer back only
where that means one thing.
"""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.toy.follow_ups import random_fact
from chatling.toy.language import CHINESE, ENGLISH, Language, Random
from chatling.toy.relations import Fact, Relation, relations
from chatling.toy.templates import ask


def about(relation: str, **slots: str) -> tuple[Relation, Fact]:
    found = relations()[relation]
    (fact,) = (each for each in found.facts if slots.items() <= each.slots.items())
    return found, fact


def asked(relation: str, **slots: str) -> list[str]:
    found, fact = about(relation, **slots)
    return [ask(found, fact, Random(seed)) for seed in range(600)]


@pytest.mark.parametrize("animal", ["cow", "giraffe", "whale"])
def test_what_several_have_is_asked_of_none_alone(animal: str) -> None:
    """A calf is the young of five animals: who asks for its mother has to name her."""
    questions = [text.lower() for text in asked("young", s=animal)]
    assert any("calf" in text for text in questions)  # as a choice
    assert all(animal in text for text in questions)


def test_what_one_thing_has_is_asked_from_the_answer_back() -> None:
    questions = [text.lower() for text in asked("young", s="kangaroo")]
    assert sum("kangaroo" not in text for text in questions) > 50
    assert all("joey" in text or "kangaroo" in text for text in questions)


def test_of_several_things_the_sentence_is_about_several() -> None:
    questions = [text.lower() for text in asked("made_of", x="a window")]
    several = [text for text in questions if "windows" in text]
    assert 60 < len(several) < 240
    assert not [text for text in several if re.search(r"\b(is|does|has|a) windows\b", text)]
    assert any("leaves" in text for text in asked("colour", x="a leaf"))
    assert not any("breads" in text for text in asked("made_of", x="bread"))


def test_things_have_other_names_and_their_answers_do_not() -> None:
    relation, fact = about("capital", c="the United States")
    questions = [ask(relation, fact, Random(seed)).lower() for seed in range(600)]
    assert {"usa", "us"} <= {word for text in questions for word in re.findall("[a-z]+", text)}
    assert relation.reply(fact) == "The capital of the United States is Washington."


def test_another_name_is_no_other_thing() -> None:
    said = {
        text.lower()
        for relation in relations().values()
        for fact in relation.facts
        for name, text in fact.slots.items()
        if name in ("c", "city", "s", "pl", "x")
    }
    assert not {form.lower() for _, form in ENGLISH.table("typed")["names"]} & said


@given(st.integers())
def test_what_is_asked_is_drawn_from_the_seed(seed: int) -> None:
    relation, fact = random_fact(Random(seed))
    assert ask(relation, fact, Random(seed)) == ask(relation, fact, Random(seed))


@pytest.mark.parametrize("language", [ENGLISH, CHINESE])
def test_small_relations_come_up_as_often_as_the_language_says(language: Language) -> None:
    rng, fewest = Random(0, language), language.table("grammar")["fewest"]
    drawn = Counter(random_fact(rng, fewest)[0].name for _ in range(40_000))
    large, small = "capital", "month_length"
    wanted = max(fewest, 12) / len(relations(language)[large].facts)
    assert drawn[small] / drawn[large] == pytest.approx(wanted, rel=0.15)
