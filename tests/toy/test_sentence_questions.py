"""What sentences may be asked for."""

from random import Random

from chatling.data.facts import Fact
from chatling.toy.packs import load_pack
from chatling.toy.sentence_questions import SentenceQuestions


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
    text = "In 2019 Ivo built the risers out of old pews."
    fact = Fact("", text, subject=text, kind="sentence")
    questions = SentenceQuestions([fact], load_pack("en"))
    asked = {" ".join(questions.for_a_part(fact, Random(i)).words).lower() for i in range(3000)}
    assert any(each.startswith("in 2019, who") for each in asked)
    fronted = [each.split(", ")[1].split() for each in asked if ", " in each]
    assert all({"it", "they", "them", "he", "she", "him"} & set(rest) for rest in fronted)
