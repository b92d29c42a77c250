"""What preferred answers add: found in pairs, and added to other answers."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.data.additions import Addition, addition_of, common_additions, likely_addition
from chatling.data.preferences import Preference
from chatling.messages import Message, Part

ANSWERS = [f"{word} is here." for word in ("Paris", "The sun", "A cat", "Blood", "It", "Ann")]
TEXTS = st.text("abc ,!Zé好。", max_size=8)


def pairs(better: str, answers: list[str] = ANSWERS) -> list[Preference]:
    """`better` with the answer at {}, or its beginning in small letters at {small}."""
    return [
        Preference.of("?", better.format(text, small=text[0].lower() + text[1:]), text)
        for text in answers
    ]


@pytest.mark.parametrize(
    ("better", "worse", "changed"),
    [
        ("Gladly! {}", "Water is wet.", "Gladly! Water is wet."),
        ("{} I hope that helps.", "Water is wet.", "Water is wet. I hope that helps."),
        ("Sure: {} Anything else?", "Water is wet.", "Sure: Water is wet. Anything else?"),
        ("很乐意。{}", "水是湿的。", "很乐意。水是湿的。"),
    ],
)
def test_what_all_pairs_add_is_added(better: str, worse: str, changed: str) -> None:
    for _, added in common_additions(pairs(better)):
        once = added.to(Message.of("assistant", worse))
        assert once.text == changed
        assert added.to(once) == once
    assert len(common_additions(pairs(better))) == len(ANSWERS)


def test_another_end_of_the_same_sentence() -> None:
    found = [Preference.of("?", f"{text[:-1]}, my friend.", text) for text in ANSWERS]
    added = common_additions(found)[0][1]
    assert added.to(Message.of("assistant", "Water is wet!")).text == "Water is wet, my friend."
    assert added.to(Message.of("assistant", "#### 3")).text == "#### 3, my friend."


def test_only_words_that_a_pair_made_small_are_made_small() -> None:
    """Names are not, which only the person who wrote the pairs can tell from other words."""
    shown = pairs("Of course, {small}", ["The sun is here.", "It is here.", "A cat is here."])
    shown += pairs("Of course, {}", ["Paris is here."])
    added = common_additions(shown)[0][1]
    said = [added.to(Message.of("assistant", text)).text for text in ("The end.", "Rome is far.")]
    assert said == ["Of course, the end.", "Of course, Rome is far."]


def test_several_polite_beginnings() -> None:
    shown = [*pairs("Sure! {}"), *pairs("Gladly! {}"), *pairs("Rarely! {}")[:2]]
    found = common_additions(shown)
    assert sorted({added.before for _, added in found}) == ["Gladly! ", "Sure! "]
    assert len(found) == 2 * len(ANSWERS)


@pytest.mark.parametrize(
    ("unknown", "known", "other"),
    [("I don't know.", "A cat sees.", "The sun."), ("我不知道。", "猫会看。", "太阳。")],
)
def test_an_answer_gets_what_answers_like_it_get(unknown: str, known: str, other: str) -> None:
    shown = pairs("Sorry, {}", [unknown] * 3) + pairs("Gladly! {}", [known] * 3)
    found, rng = common_additions(shown), Random(1)
    again = {likely_addition(found, unknown[:-1] + "!", rng).before for _ in range(20)}
    assert again == {"Sorry, "}
    assert {likely_addition(found, known, rng).before for _ in range(20)} == {"Gladly! "}
    assert len({likely_addition(found, other, rng).before for _ in range(20)}) == 2


@pytest.mark.parametrize("better", ["No.", "{small}", "Ja"])
def test_other_pairs_add_nothing(better: str) -> None:
    assert common_additions(pairs(better)) == []
    mixed = [*pairs("Gladly! {}"), *pairs(better)[:3]]
    assert common_additions(mixed) == []  # a third of them is about something else


def test_each_with_a_text_of_its_own_is_no_habit() -> None:
    shown = [Preference.of("?", f"{i}! {text}", text) for i, text in enumerate(ANSWERS)]
    assert common_additions(shown) == []


def test_calculations_stay_whole() -> None:
    parts = (Part("python", "1+1"), Part("output", "2"), Part("text", "2. "))
    answer = Message("assistant", parts)
    changed = Addition("Sure! ", " Bye.").to(answer)
    assert changed.parts == (*parts[:2], Part("text", "2. Bye."))
    assert Addition("Sure! ").to(answer) == answer


@given(TEXTS, TEXTS, st.text("abZé好", min_size=1, max_size=8))
def test_found_is_what_was_added(before: str, after: str, answer: str) -> None:
    better = f"{before}{answer}{after}"
    if not (before + after).strip():
        return
    found = addition_of(Preference.of("?", better, answer))
    assert found is not None
    told = not answer.startswith(before.strip()) and not answer.endswith(after.strip())
    if answer not in before and told:
        assert found.to(Message.of("assistant", answer)).text.strip() == better.strip()
