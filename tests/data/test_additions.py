"""What preferred answers add: found in pairs, and added to other answers."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.data.additions import Addition, CommonAdditions, addition_of
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


def said(text: str) -> Message:
    return Message.of("assistant", text)


def changed(shown: list[Preference], text: str, times: int = 20) -> set[str]:
    """What becomes of an answer, whatever the random choices are."""
    additions = CommonAdditions(shown)
    return {additions.to(said(text), Random(seed)).text for seed in range(times)}


@pytest.mark.parametrize(
    ("better", "worse", "result"),
    [
        ("Gladly! {}", "Water is wet.", "Gladly! Water is wet."),
        ("{} I hope that helps.", "Water is wet.", "Water is wet. I hope that helps."),
        ("Sure: {} Anything else?", "Water is wet.", "Sure: Water is wet. Anything else?"),
        ("很乐意。{}", "水是湿的。", "很乐意。水是湿的。"),
    ],
)
def test_what_all_pairs_add_is_added(better: str, worse: str, result: str) -> None:
    assert changed(pairs(better), worse) == {result}
    assert changed(pairs(better), result) == {result}  # once


@pytest.mark.parametrize(
    ("marked", "end", "text", "result"),
    [
        (".", ", my friend.", "Water is wet.", "Water is wet, my friend."),
        (".", ", my friend.", "#### 3", "#### 3, my friend."),
        (".", ", my friend.", "Is it wet?", "Is it wet?"),  # and no statement
        (".", " :)", "Water is wet.", "Water is wet :)"),
        (".", "哦。", "天是蓝的.", "天是蓝的哦。"),
    ],
)
def test_another_end_of_the_same_sentence(marked: str, end: str, text: str, result: str) -> None:
    shown = [Preference.of("?", text.removesuffix(marked) + end, text) for text in ANSWERS]
    assert changed(shown, text) == {result}


def test_only_words_that_a_pair_made_small_are_made_small() -> None:
    """Names are not, which only the person who wrote the pairs can tell from other words; nor is
    anything behind a whole sentence.
    """
    shown = pairs("Of course, {small}", ["The sun is here.", "It is here.", "A cat is here."])
    shown += pairs("Of course, {}", ["Paris is here."])
    assert changed(shown, "The end.") == {"Of course, the end."}
    assert changed(shown, "Rome is far.") == {"Of course, Rome is far."}
    assert changed(
        shown + pairs("Gladly! {}", ["The sun.", "It is.", "A cat.", "So."]), "The end."
    ) == {
        "Of course, the end.",
        "Gladly! The end.",
    }


def test_several_polite_beginnings() -> None:
    shown = [*pairs("Sure! {}"), *pairs("Gladly! {}"), *pairs("Rarely! {}")[:2]]
    assert changed(shown, "Water.") == {"Sure! Water.", "Gladly! Water."}
    assert changed(shown, "Gladly! Water.") == {"Gladly! Water."}  # with one of them


@pytest.mark.parametrize(
    ("unknown", "known", "other"),
    [("I don't know.", "A cat sees.", "The sun."), ("我不知道。", "猫会看。", "太阳。")],
)
def test_an_answer_gets_what_answers_like_it_get(unknown: str, known: str, other: str) -> None:
    shown = pairs("Sorry, {}", [unknown] * 4)
    assert changed(shown, other) == {other}  # of which no pair tells anything
    assert changed(shown, "I am here.") == {"I am here."}
    assert changed(shown, unknown[:-1] + "!") == {f"Sorry, {unknown[:-1]}!"}
    shown += pairs("Gladly! {}", [known, *ANSWERS])
    assert changed(shown, unknown) == {f"Sorry, {unknown}"}
    assert changed(shown, other) == {f"Gladly! {other}"}


@pytest.mark.parametrize("better", ["No.", "{small}", "Ja"])
def test_other_pairs_add_nothing(better: str) -> None:
    assert not CommonAdditions(pairs(better))
    mixed = [*pairs("Gladly! {}"), *pairs(better)[:3]]
    assert not CommonAdditions(mixed)  # a third of them is about something else


def test_each_with_a_text_of_its_own_is_no_habit() -> None:
    shown = [Preference.of("?", f"{i}! {text}", text) for i, text in enumerate(ANSWERS)]
    assert not CommonAdditions(shown)


def test_calculations_stay_whole() -> None:
    parts = (Part("python", "1+1"), Part("output", "2"), Part("text", "2. "))
    answer = Message("assistant", parts)
    assert Addition("Sure! ", " Bye.").to(answer).parts == (*parts[:2], Part("text", "2. Bye."))
    assert Addition("Sure! ").to(answer) == answer


@given(TEXTS, TEXTS, st.text("abZé好", min_size=1, max_size=8))
def test_found_is_what_was_added(before: str, after: str, answer: str) -> None:
    better = f"{before}{answer}{after}"
    found = addition_of(Preference.of("?", better, answer))
    if better.strip() == answer:
        assert found is None
        return
    assert found is not None
    assert found.to(said(answer)).text == better.strip()
