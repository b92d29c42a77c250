"""What the pocket world says is true: against lists written here by hand, and against itself."""

import re

import pytest

from chatling.toy.facts import tables
from chatling.toy.relations import relations

TRUE_SENTENCES = """
The capital of France is Paris.
The capital of Australia is Canberra.
The capital of Canada is Ottawa.
The capital of Switzerland is Bern.
The capital of Nigeria is Abuja.
The capital of Morocco is Rabat.
The capital of Pakistan is Islamabad.
The capital of Brazil is Brasilia.
The capital of New Zealand is Wellington.
The capital of the United States is Washington.
The capital of the Philippines is Manila.
Kyiv is the capital of Ukraine.
Kampala is the capital of Uganda.
Nepal is in Asia.
Egypt is in Africa.
Mexico is in North America.
Fiji is in Oceania.
Iceland is in Europe.
A panda eats bamboo.
A camel lives in the desert.
The sound of a cow is a moo.
The sound of an owl is a hoot.
A spider has eight legs.
A snake has no legs.
A bee has six legs.
A young kangaroo is called a joey.
A young goose is called a gosling.
A young sheep is called a lamb.
A whale is a mammal.
A frog is an amphibian.
A spider is an arachnid.
A lemon is yellow.
Cheese is made from milk.
The opposite of night is day.
The opposite of sell is buy.
After Saturday comes Sunday.
After December comes January.
Before Monday comes Sunday.
Before March comes February.
The third planet from the sun is Earth.
The sixth planet from the sun is Saturn.
The ninth month of the year is September.
February has 28 days.
April has 30 days.
August has 31 days.
A violin is an instrument.
A dentist looks after teeth.
You use an umbrella to keep off the rain.
There are 26 letters in the alphabet.
There are seven colours in a rainbow.
There are 365 days in a year.
The hottest planet is Venus.
The largest ocean is the Pacific.
France is a country in Europe. Its capital is Paris.
""".strip().split("\n")


@pytest.fixture(scope="module")
def told() -> set[str]:
    return {relation.reply(fact) for relation in relations().values() for fact in relation.facts}


@pytest.mark.parametrize("sentence", TRUE_SENTENCES)
def test_it_says_what_is_true(sentence: str, told: set[str]) -> None:
    assert sentence in told


def test_a_thing_has_one_answer_in_each_relation() -> None:
    for relation in relations().values():
        asked = [relation.phrasings["direct"][0].format(**fact.slots) for fact in relation.facts]
        assert len(asked) == len(set(asked)), relation.name


def test_counts() -> None:
    countries, animals = tables()["countries"], tables()["animals"]
    names, capitals = ({country[slot] for country in countries} for slot in ("c", "city"))
    assert len(names) == len(capitals) == len(countries) >= 60
    assert len(animals) >= 35
    assert (
        sum(
            len(relation.facts)
            for relation in relations().values()
            if relation.name not in ("compare", "about")
        )
        > 600
    )


def test_sizes_are_in_order() -> None:
    """Lengths in metres, written by hand."""
    metres = {
        "an ant": 0.005,
        "a bee": 0.015,
        "a mouse": 0.08,
        "a cat": 0.45,
        "a rabbit": 0.4,
        "a wolf": 1.4,
        "a sheep": 1.3,
        "a horse": 2.4,
        "a cow": 2.4,
        "an elephant": 6,
        "a whale": 15,
        "a mountain": 3e3,
        "the moon": 3.5e6,
        "the earth": 1.3e7,
        "the sun": 1.4e9,
    }
    for fact in relations()["compare"].facts:
        x, y, answer = metres[fact.slots["x"]], metres[fact.slots["y"]], metres[fact.slots["a"]]
        assert answer == (max if fact.slots["more"] == "bigger" else min)(x, y)


def test_sentences_are_well_formed(told: set[str]) -> None:
    for sentence in told:
        assert re.fullmatch(r"[A-Z][^{}]*\.", sentence), sentence
        assert not re.search(
            r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou\W]|  |\bthe the\b", sentence.replace("an hour", "")
        ), sentence


def test_keys_are_in_the_answer() -> None:
    for relation in relations().values():
        for fact in relation.facts:
            assert any(key.lower() in relation.reply(fact).lower() for key in fact.keys), (
                relation.name,
                fact,
            )


@pytest.mark.parametrize("name", relations())
def test_every_relation_is_asked_in_many_ways(name: str) -> None:
    ways = {
        phrasing
        for way, phrasings in relations()[name].phrasings.items()
        if way != "statements"
        for phrasing in phrasings
    }
    assert len(ways) >= 13
