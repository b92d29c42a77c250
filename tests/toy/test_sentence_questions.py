"""What sentences may be asked for."""

from random import Random

import pytest

from chatling.data.facts import Fact
from chatling.data.notes import note_facts
from chatling.toy.packs import LANGUAGES, load_pack
from chatling.toy.sentence_questions import SentenceQuestions
from chatling.toy.wordings import Wordings


def test_a_sentence_is_asked_for_a_part_in_the_words_around_it() -> None:
    text = "Nell leads the Swarm Evening, and it begins at 7 pm."
    facts = [
        Fact("", text, subject=text, kind="sentence"),
        Fact("", "Ivo leads the choir.", subject="Ivo leads the choir.", kind="sentence"),
    ]
    questions = SentenceQuestions(facts, load_pack("en"))
    asked = {
        " ".join(found.words)
        for i in range(400)
        if (found := questions.for_a_part(facts[0], Random(i)))
    }
    assert "who leads the Swarm Evening" in asked
    assert any(each.startswith("what time ") and "begins" in each for each in asked)
    told = [each for each in asked if "leads" in each]  # which is said of the choir, too
    assert all(
        "Swarm" in each or "Evening" in each or "begins" in each or "Nell" in each for each in told
    )


def test_what_stands_in_front_is_taken_up_again() -> None:
    text = "Ivo built the tall risers out of old pews."
    fact = Fact("", text, subject=text, kind="sentence")
    questions = SentenceQuestions([fact], load_pack("en"))
    found = (questions.for_a_part(fact, Random(i)) for i in range(2000))
    fronted = {" ".join(each.words) for each in found if each and "," in " ".join(each.words)}
    assert "the tall risers, who built it out of old pews" in fronted
    assert all(each.startswith("the tall risers, ") for each in fronted)


@pytest.mark.parametrize("note", ["# Conductor\n\nTobias Renwick.", "# Leitung\n\nTobias Renwick."])
@pytest.mark.parametrize("code", LANGUAGES)
def test_a_sentence_that_is_one_part_is_asked_for(note: str, code: str) -> None:
    pack = load_pack(code)
    words = Wordings(note_facts(note, "x", pack.grammar), pack)
    for fact in words.facts:
        assert all(words.ask(fact, Random(i)).strip() for i in range(300))


def test_only_what_holds_a_part_of_the_kind_is_another_answer() -> None:
    """ "what time" asks the first, although others have "tea break", too."""
    note = (
        "# Rehearsals\n\n- tea break: 8.25 pm, a quarter of an hour\n\n# Tea break\n\nMara runs it."
    )
    pack = load_pack("en")
    facts = [f for f in note_facts(note, "x", pack.grammar) if f.kind == "sentence"]
    found = (SentenceQuestions(facts, pack).for_a_part(facts[0], Random(i)) for i in range(600))
    asked = {" ".join(each.words) for each in found if each}
    assert {"what time is tea break", "what time tea break"} & asked
    assert not {"who tea break", "who is tea break"} & asked
