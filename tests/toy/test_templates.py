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
from chatling.toy.templates import ask, of_several, utterance
from chatling.toy.unknown import unknown_question


def about(relation: str, **slots: str) -> tuple[Relation, Fact]:
    found = relations()[relation]
    (fact,) = (each for each in found.facts if slots.items() <= each.slots.items())
    return found, fact


def asked(relation: str, **slots: str) -> list[str]:
    found, fact = about(relation, **slots)
    return [ask(found, fact, Random(seed)) for seed in range(600)]


@pytest.mark.parametrize("animal", ["cow", "giraffe", "whale"])
def test_what_several_have_is_asked_of_none_alone(animal: str) -> None:
    """A calf is the young of six animals: who asks for its mother has to name her."""
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
    assert 30 < len(several) < 240
    assert any("leaves" in text for text in asked("colour", x="a leaf"))
    assert not any("breads" in text for text in asked("made_of", x="bread"))


def test_things_have_other_names_and_their_answers_do_not() -> None:
    relation, fact = about("capital", c="the United States")
    questions = [ask(relation, fact, Random(seed)).lower() for seed in range(600)]
    assert any("usa" in text for text in questions)
    assert any("america" in text for text in questions)
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
def test_a_sentence_about_several_is_about_several_only(seed: int) -> None:
    rng = Random(seed)
    relation, fact = random_fact(rng)
    question = utterance(relation, fact.slots, rng)
    found = of_several(question, fact.slots, rng)
    if found == question:
        return
    many = re.escape(fact.slots["several"])
    wrong = (
        rf"\b(?:is|does|has|was|a|an|it are|mother are|as|of a) {many}\b",
        rf"(?i)\b(?:of|for|on|to|from|by|like) {many} (?:are|do|have)\b",
        rf"(?i){many} (?:eats|lives|makes|says|spends|belongs)\b",
        r"(?i)\b(?:it|its|he|she|his|her)\b",
    )
    assert not [pattern for pattern in wrong if re.search(pattern, found)], found


def test_several_strangers_are_unknown_as_well() -> None:
    questions = [unknown_question(Random(seed), False) for seed in range(3_000)]
    assert sum(bool(re.search(r"\b(?:are|do|have) \w+s\b", text)) for text in questions) > 20


@pytest.mark.parametrize("name", relations())
def test_every_phrasing_says_what_it_is_about(name: str) -> None:
    """Of each two facts no question is the same, but where their answers are."""
    relation = relations()[name]
    for way in ("direct", "indirect", "nouns", "stems", "telegrams"):
        for phrase in relation.phrasings.get(way, ()):
            asked: dict[str, set[str]] = {}
            for fact in relation.facts:
                asked.setdefault(phrase.format(**fact.slots), set()).add(relation.reply(fact))
            assert all(len(replies) == 1 for replies in asked.values()), phrase


@pytest.mark.parametrize("language", [ENGLISH, CHINESE])
def test_small_relations_come_up_as_often_as_the_language_says(language: Language) -> None:
    rng, fewest = Random(0, language), language.table("grammar")["fewest"]
    drawn = Counter(random_fact(rng, fewest)[0].name for _ in range(40_000))
    large, small = "capital", "month_length"
    wanted = max(fewest, 12) / len(relations(language)[large].facts)
    assert drawn[small] / drawn[large] == pytest.approx(wanted, rel=0.15)
