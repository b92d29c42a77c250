"""What typing does to a question: little, by itself, and never to a name."""

import re

from hypothesis import given
from hypothesis import strategies as st

from chatling.toy.language import CHINESE, Random
from chatling.toy.relations import relations
from chatling.toy.typed import common_words, idle_words, surrounded, typed, typed_about, typo
from chatling.toy.unknown import made_up

QUESTION = "What is the capital of Pakistan?"


def plain(text: str) -> str:
    return re.sub(r"[^a-z ]", "", text.lower())


def test_half_of_what_is_asked_stays_in_its_words() -> None:
    rng = Random(0)
    texts = [typed(QUESTION, rng) for _ in range(2_000)]
    same = sum(plain(text) == plain(QUESTION) for text in texts)
    assert 0.5 < same / 2_000 < 0.75
    assert sum(text == QUESTION for text in texts) > 300
    assert 0.35 < sum(text == text.lower() for text in texts) / 2_000 < 0.55
    assert sum("?" not in text for text in texts) > 600


@given(st.integers())
def test_a_name_is_never_changed(seed: int) -> None:
    rng = Random(seed)
    name = made_up("country", rng, held_out=False)
    relation = rng.choice(list(relations().values()))
    fact = rng.choice(relation.facts)
    keys = [word for word in fact.keys[0].split() if len(word) > 3 and word != "your"]  # "ur"
    for named in (name, *keys):
        assert named.lower() in typed(f"What do you know about {named}?", rng).lower()


@given(st.integers())
def test_a_slip_is_one_slip(seed: int) -> None:
    text = typo(QUESTION, Random(seed))
    assert abs(len(text) - len(QUESTION)) <= 1
    assert text.split()[-1] == QUESTION.split()[-1]
    assert sum(a != b for a, b in zip(text.split(), QUESTION.split(), strict=True)) <= 1


@given(st.integers())
def test_what_is_spelled_is_whole(seed: int) -> None:
    text = typed_about("How many {l} are in {w}?", Random(seed), w="capital", l="q")
    assert "capital" in text.lower()
    assert re.search(r"\bq\b", text.lower())


@given(st.integers())
def test_what_is_said_around_a_question_leaves_it_whole(seed: int) -> None:
    text = surrounded(QUESTION, Random(seed))
    assert len(text) > len(QUESTION)
    assert plain(QUESTION) in plain(text)


@given(st.integers())
def test_what_is_said_beside_a_chinese_question_leaves_it_whole(seed: int) -> None:
    text = "法国的首都是哪里？"
    said = typed(text, Random(seed, CHINESE)).replace(",", "，")
    parts = said.rstrip("？?").split("，")
    assert len(parts) <= 2
    assert "法国的首都是哪里" in parts
    assert typed(text, Random(seed, CHINESE), alone=True).rstrip("？?") == "法国的首都是哪里"


def test_words_of_questions_are_known() -> None:
    assert {"what", "capital", "tell", "please", "young"} <= common_words()
    assert not {"paris", "france", "oink"} & common_words()


def test_words_at_random_ask_for_nothing() -> None:
    idle = set(idle_words())
    assert len(idle) > 300
    assert {"hiya", "wonderful"} <= idle
    assert not {"capital", "eat", "color", "paris", "cow", "opposite", "bigger"} & idle
    said = " ".join(surrounded(QUESTION, Random(seed)).lower() for seed in range(900))
    assert len(idle & set(said.split())) > 250
