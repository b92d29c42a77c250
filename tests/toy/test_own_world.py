"""A user's facts as conversations: what stays the same in every wording, and what is never said."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice, product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data.facts import Fact, thing
from chatling.messages import Conversation
from chatling.toy.own_world import OwnWorld
from chatling.toy.packs import (
    LANGUAGES,
    guess_language,
    load_pack,
    own_words,
)
from chatling.toy.rephrase import content, moved, one_of, rephrase, split
from chatling.toy.wordings import Wordings

QUESTIONS = {
    "en": "When does the orchestra rehearse in the school hall?",
    "de": "Wann öffnet die Werkstatt am Samstag?",
    "zh": "奶奶的生日蛋糕放在哪里？",
}
THINGS = [
    thing(name, attribute, value)
    for name, row in {"Mara Lindt": ("flute", "1999"), "Kofi Ray": ("tuba", "2004")}.items()
    for attribute, value in zip(("Instrument", "Joined"), row, strict=True)
]


@cache
def world(code: str) -> OwnWorld:
    first = Fact(QUESTIONS[code], "Yes.")
    later = Fact("Why?", "So.", before=(first.question, first.answer))
    return OwnWorld([first, later, *THINGS], load_pack(code), "Ada")


def all_of(texts: Sequence[str]) -> Iterator[str]:
    """Each `[one|other]` with each of its parts."""
    for text in texts:
        pieces = [piece.split("|") for piece in re.split(r"[][]", text)]
        yield from map("".join, product(*pieces))


@pytest.mark.parametrize("code", LANGUAGES)
def test_parts_of_a_phrasing_are_chosen_one_by_one(code: str) -> None:
    """Everything that can come of it does, and nothing else; such texts come up more often."""
    assert {one_of(["[a|b] c [d|]"], Random(i)) for i in range(99)} == set(all_of(["[a|b] c [d|]"]))
    texts, rng = load_pack(code).smalltalk["name"]["training"], Random(5)
    whole = {text for text in texts if "[" not in text}
    found = [one_of(texts, rng) for _ in range(3000)]
    assert set(found) <= set(all_of(texts))
    assert 0.1 < sum(text not in whole for text in found) / len(found) < 0.4


@pytest.mark.parametrize("code", LANGUAGES)
def test_packs_are_complete(code: str) -> None:
    pack, english = load_pack(code), load_pack("en")
    assert pack.smalltalk.keys() == english.smalltalk.keys()
    for table in ("words", "frames", "things", "notes", "unknown"):
        assert getattr(pack, table).keys() == getattr(english, table).keys()
    assert all(pack.is_unknown(reply) for reply in pack.unknown["replies"])
    assert not set(pack.frames["training"]) & set(pack.frames["held_out"])
    assert not set(pack.things["training"]) & set(pack.things["held_out"])
    for intent in pack.smalltalk.values():
        assert not set(all_of(intent["training"])) & set(intent["held_out"])
        assert intent["key"].lower() in intent["answer"].lower()
        assert not pack.is_unknown(intent["answer"])


@pytest.mark.parametrize("code", LANGUAGES)
def test_what_only_one_thing_has_is_asked_for_without_it(code: str) -> None:
    facts = [thing("Club", "Chair", "Bo"), thing("Club", "Fee", "9"), thing("Hall", "Fee", "3")]
    words, alone = Wordings(facts, load_pack(code)), dict[str, int]()
    for fact in facts:
        asked = [words.ask(fact, Random(i)).lower() for i in range(300)]
        alone[fact.answer] = sum(fact.subject.lower() not in text for text in asked)
    assert alone["Bo"] > max(alone["9"], alone["3"]) + 30  # where a slip may hide the name


@pytest.mark.parametrize("code", LANGUAGES)
def test_direct_questions_leave_the_attribute_to_their_question_word(code: str) -> None:
    attributes = {"en": ("Day", "Place"), "de": ("Tag", "Ort"), "zh": ("日期", "地点")}[code]
    first = {"en": "when is gala", "de": "wann ist gala", "zh": "gala是哪天"}[code]
    facts = [thing("Gala", each, "9") for each in attributes] + [thing("Ball", "Age", "3")]

    def asked(facts: list[Fact]) -> str:
        words = Wordings(facts, load_pack(code))
        found = [words.about("Gala", attributes[0], Random(i), False) for i in range(2000)]
        return "\n".join(found).lower()

    assert first in asked(facts)
    twice = [*facts, thing("Gala", {"en": "Time", "de": "Zeit", "zh": "时间"}[code], "8 pm")]
    assert first not in asked(twice)


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_language_is_told_by_its_little_words(code: str) -> None:
    assert guess_language([QUESTIONS[code]] * 3) == code
    assert guess_language(["Kde je klíč od dílny?", "Kdy máme zkoušku?"]) is None


@given(st.sampled_from(LANGUAGES), st.integers(0, 10**9), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_rephrasing_adds_no_content(code: str, seed: int, held_out: bool) -> None:
    """But for typos, of which there is one at most, every content word is one of the question's,
    of the frames' or of small talk's, in Chinese written in signs of things as well.
    """
    pack = load_pack(code)
    asked = rephrase(QUESTIONS[code], pack, Random(seed), held_out)
    assert asked.strip()
    frames = (
        pack.frames["held_out" if held_out else "training"]
        + pack.frames["topic"]
        + pack.frames["stories"]
    )
    beside = [text for intent in pack.smalltalk.values() for text in intent["training"]]
    things = pack.unknown["things"] if pack.wide else []
    allowed = own_words([QUESTIONS[code], *frames, *beside, *things])
    new = own_words([asked]) - allowed
    assert len(new) <= 2  # a slip may part a word


@given(st.lists(st.text("abc", min_size=1), min_size=3, max_size=8), st.integers(0, 10**6))
def test_a_word_that_moves_leaves_the_others_in_order(words: list[str], seed: int) -> None:
    found = moved(" ".join(words), Random(seed)).split()
    without = [[*each[:i], *each[i + 1 :]] for each in (words, found) for i in range(len(words))]
    assert sorted(found) == sorted(words)
    assert any(each in without[len(words) :] for each in without[: len(words)])


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_fact_comes_up_equally_often(code: str) -> None:
    made = world(code)
    talks = list(islice(made.conversations(1, 256), 600))
    answers = [m.text for talk in talks for m in talk.messages[1::2]]
    counts = [answers.count(made.words.answer(fact)) for fact in made.facts if fact.kind != "thing"]
    assert min(counts) > 30
    assert talks == list(islice(made.conversations(1, 256), 600))


@pytest.mark.parametrize(
    ("code", "first", "later", "whole"),
    [
        ("en", "Who bought the loom?", "When does it break?", "When does {} break?"),
        ("de", "Wer kaufte den Webstuhl?", "Wann geht er kaputt?", "Wann geht {} kaputt?"),
        ("zh", "织布机是谁买的？", "它什么时候坏？", "{}什么时候坏？"),
    ],
)
def test_what_followed_another_question_is_asked_by_itself(
    code: str, first: str, later: str, whole: str
) -> None:
    pack = load_pack(code)
    fact = Fact(later, "So.", before=(first, "Yes."))
    made = OwnWorld([Fact(first, "Yes."), fact], pack, "Ada")
    found = {made.by_itself(fact, Random(i)).lower() for i in range(900)}
    about = pack.joiner.join(p.text for p in split(first, pack) if p.kind == "content")
    assert whole.format(about).lower() in found
    talks = islice(made.conversations(1, 256), 300)
    alone = [t for t in talks for a, b in pairs(t) if b == "So." and a is t.messages[0].text]
    assert len(alone) > 20


def pairs(talk: Conversation) -> list[tuple[str, str]]:
    texts = [message.text for message in talk.messages]
    return list(zip(texts[::2], texts[1::2], strict=True))


def test_an_answer_to_a_thing_names_it() -> None:
    made = world("en")
    assert made.words.answer(THINGS[0]) == "The instrument of Mara Lindt is flute."
    asked = {made.words.ask(THINGS[0], Random(seed)) for seed in range(200)}
    assert len(asked) > 60


def test_held_out_questions_tell_their_key_and_name() -> None:
    held = world("de").held_out(1)
    assert {each.skill for each in held} == {
        *("rephrased", "second turn", "follow-up", "unknown", "small talk")
    }
    assert all(each.key.lower() in each.conversation.messages[-1].text.lower() for each in held)
    assert any("Ada" in each.key for each in held)


def test_without_a_pack_questions_stay_as_they_are() -> None:
    made = OwnWorld([Fact("Kde je klíč?", "V šuplíku."), *THINGS], load_pack("cs"), "Ada")
    talks = list(islice(made.conversations(1, 256), 50))
    assert all(len(talk.messages) % 2 == 0 for talk in talks)
    assert {each.skill for each in made.held_out(1)} == {"rephrased", "second turn"}


def test_content_words_are_told_from_little_ones() -> None:
    assert content(QUESTIONS["en"], load_pack("en")) == {"orchestra", "rehearse", "school", "hall"}
    assert content(QUESTIONS["de"], load_pack("de")) == {"öffnet", "werkstatt", "samstag"}
