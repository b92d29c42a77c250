"""What files say in one word is asked in words that they do not use."""

from __future__ import annotations

from random import Random

import pytest

from chatling.data.facts import Fact
from chatling.toy.own_world import OwnWorld
from chatling.toy.packs import LANGUAGES, load_pack
from chatling.toy.synonyms import Synonyms

GROUPS = [("mends", "fixes"), ("price", "cost", "fee"), ("looks after", "minds")]


def said(synonyms: Synonyms, text: str) -> set[str]:
    return {synonyms.other(text, Random(seed)) for seed in range(30)}


def test_words_that_the_texts_use_are_exchanged() -> None:
    synonyms = Synonyms(GROUPS, ["Who mends the oar?", "Who looks after the Swan?"])
    assert said(synonyms, "Who mends the oar?") == {"Who fixes the oar?"}
    assert said(synonyms, "who LOOKS AFTER it") == {"who MINDS it"}
    assert said(synonyms, "Mends who?") == {"Fixes who?"}
    assert said(synonyms, "the price, the amends") == {"the price, the amends"}


def test_two_words_of_a_group_may_mean_two_things() -> None:
    synonyms = Synonyms(GROUPS, ["the price of tea", "the cost of tea"])
    assert said(synonyms, "the price of tea") == {"the price of tea"}


def test_names_stay() -> None:
    names = ("price", "Mends & Co")
    synonyms = Synonyms(GROUPS, ["Where is price?", "Who is Mends & Co?", "mends"], names)
    assert said(synonyms, "Where is price?") == {"Where is price?"}
    assert said(synonyms, "Mends & Co mends") == {"Mends & Co fixes"}
    wide = Synonyms([("旧", "老旧"), ("放在", "收在")], ["旧书放在哪里"], ("旧书",), wide=True)
    assert said(wide, "旧书放在哪里") == {"旧书收在哪里"}


@pytest.mark.parametrize("code", LANGUAGES)
def test_groups_of_the_packs(code: str) -> None:
    pack = load_pack(code)
    assert len(pack.synonyms) > 70
    for group in pack.synonyms:
        assert len(group) == len({word.lower() for word in group}) > 1


def test_a_fact_is_asked_in_other_words() -> None:
    facts = [Fact(f"Who looks after the {name}?", "Mara") for name in ("Swan", "Wren", "Finch")]
    made, rng = OwnWorld(facts, load_pack("en"), "Ada"), Random(1)
    asked = [made.words.ask(facts[0], rng).lower() for _ in range(300)]
    others = ("takes care of", "cares for", "minds", "is in charge of")
    assert all(any(other in text for text in asked) for other in others)
    assert sum("after" in text for text in asked) > 150
    strange = [made.unanswered.one(rng)[0].lower() for _ in range(300)]
    assert any("takes care of" in text for text in strange)
