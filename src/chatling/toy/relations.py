"""What can be asked about the facts: each relation with its answer and the many phrasings that
training text uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from chatling.toy import facts
from chatling.toy.facts import with_article
from chatling.toy.phrasing import (
    ABOUT,
    AFTER,
    AMOUNT,
    BEFORE,
    CAPITAL,
    CATEGORY,
    COLOUR,
    COMPARE,
    CONTINENT,
    COUNTRY_OF,
    EATS,
    JOB,
    KIND,
    LEGS,
    LIVES,
    MONTH_LENGTH,
    OPPOSITE,
    ORDER,
    SOUND,
    SUPERLATIVE,
    SYNTHETIC_TASKS,
    USE,
    YOUNG,
    Phrasings,
)


@dataclass(frozen=True)
class Fact:
    """One true sentence: the slots of its templates, the key words of its answer (any one will do),
    and what it is about.
    """

    slots: dict[str, str]
    keys: tuple[str, ...]
    topic: str

    @property
    def key(self) -> str:
        return self.keys[0]


@dataclass(frozen=True)
class Relation:
    """`answer` is a template over the slots; `unknown` says what a made-up subject of this
    relation would be ("" when it has none).
    """

    name: str
    answer: str
    facts: tuple[Fact, ...]
    phrasings: Phrasings
    unknown: str = ""

    def reply(self, fact: Fact) -> str:
        return capitalised(self.answer.format(**fact.slots))


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def possessive(name: str) -> str:
    return name + ("'" if name.endswith("s") else "'s")


def country_slots(name: str, capital: str = "", continent: str = "") -> dict[str, str]:
    return {"c": name, "cs": possessive(name), "city": capital, "continent": continent}


def animal_slots(name: str, plural: str) -> dict[str, str]:
    return {"s": name, "an": with_article(name), "pl": plural}


def thing_slots(name: str) -> dict[str, str]:
    return {"x": name, "bare": name.split(" ", 1)[-1]}


NUMBERS = {
    "no": "0",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "eleven": "11",
    "twelve": "12",
}
UNCOUNTED = {"furniture"}


def _country_relations() -> list[Relation]:
    rows = facts.countries()
    made = [(c, country_slots(c.name, c.capital, c.continent)) for c in rows]
    return [
        Relation(
            "capital",
            "the capital of {c} is {city}.",
            tuple(Fact(s, (c.capital,), c.name) for c, s in made),
            CAPITAL,
            "country",
        ),
        Relation(
            "continent",
            "{c} is in {continent}.",
            tuple(Fact(s, (c.continent,), c.name) for c, s in made),
            CONTINENT,
            "country",
        ),
        Relation(
            "country_of",
            "{city} is the capital of {c}.",
            tuple(Fact(s, (c.name.removeprefix("the "),), c.capital) for c, s in made),
            COUNTRY_OF,
            "city",
        ),
    ]


def _animal_relations() -> list[Relation]:
    rows = facts.animals()

    def relation(
        name: str, answer: str, field: str, phrasings: Phrasings, number: bool = False
    ) -> Relation:
        found = []
        for animal in rows:
            value = getattr(animal, field)
            if value:
                keys = (
                    (f"{value} legs", f"{NUMBERS[value]} legs")
                    if number
                    else (value.split(" ", 1)[1] if field == "lives" else value,)
                )
                shown = with_article(value) if field in ("young", "kind", "sound") else value
                found.append(
                    Fact(
                        animal_slots(animal.name, animal.plural) | {field: shown},
                        keys,
                        animal.plural,
                    )
                )
        return Relation(name, answer, tuple(found), phrasings, "animal")

    return [
        relation("eats", "{an} eats {eats}.", "eats", EATS),
        relation("lives", "{an} lives {lives}.", "lives", LIVES),
        relation("sound", "the sound of {an} is {sound}.", "sound", SOUND),
        relation("legs", "{an} has {legs} legs.", "legs", LEGS, number=True),
        relation("young", "a young {s} is called {young}.", "young", YOUNG),
        relation("kind", "{an} is {kind}.", "kind", KIND),
    ]


def _table_relation(
    name: str, answer: str, table: str, phrasings: Phrasings, unknown: str = ""
) -> Relation:
    return Relation(
        name,
        answer,
        tuple(Fact(thing_slots(x) | {"a": a}, (a,), x) for x, a in facts.pairs(table)),
        phrasings,
        unknown,
    )


def _opposite_relation() -> Relation:
    both = [pair for x, y in facts.pairs(facts.OPPOSITES) for pair in ((x, y), (y, x))]
    return Relation(
        "opposite",
        "the opposite of {x} is {a}.",
        tuple(Fact({"x": x, "a": a}, (a,), x) for x, a in both),
        OPPOSITE,
        "word",
    )


def _calendar_relations() -> list[Relation]:
    after, before, order = [], [], []
    for unit, names in (("day", facts.DAYS), ("month", facts.MONTHS)):
        for x, a in pairwise((*names, names[0])):
            after.append(Fact({"unit": unit, "x": x, "a": a}, (a,), x))
            before.append(Fact({"unit": unit, "x": a, "a": x}, (x,), a))
    ordered = (
        ("day", "of the week", facts.DAYS),
        ("month", "of the year", facts.MONTHS),
        ("planet", "from the sun", facts.PLANETS),
    )
    for unit, of, row in ordered:
        for n, a in zip(facts.ORDINALS, row, strict=False):
            order.append(Fact({"unit": unit, "of": of, "n": n, "a": a}, (a,), f"the {n} {unit}"))
    length = [
        Fact({"x": x, "a": a}, (a,), x) for x, a in zip(facts.MONTHS, facts.MONTH_DAYS, strict=True)
    ]
    return [
        Relation("after", "after {x} comes {a}.", tuple(after), AFTER),
        Relation("before", "before {x} comes {a}.", tuple(before), BEFORE),
        Relation("order", "the {n} {unit} {of} is {a}.", tuple(order), ORDER),
        Relation("month_length", "{x} has {a} days.", tuple(length), MONTH_LENGTH),
    ]


def _thing_relations() -> list[Relation]:
    category = [
        Fact(thing_slots(x) | {"a": a if a in UNCOUNTED else with_article(a)}, (a,), x)
        for x, a in facts.pairs(facts.CATEGORIES)
    ]
    jobs = [
        Fact(animal_slots(x, plural(x)) | {"does": a}, (a,), with_article(x))
        for x, a in facts.pairs(facts.JOBS)
    ]
    uses = [
        Fact(animal_slots(x, plural(x)) | {"use": a}, (a,), with_article(x))
        for x, a in facts.pairs(facts.USES)
    ]
    amounts = []
    for phrase, a in facts.pairs(facts.AMOUNTS):
        at = max(phrase.find(" in "), phrase.find(" on "), phrase.find(" around "))
        amounts.append(
            Fact(
                {"part": phrase[:at], "whole": phrase[at + 1 :], "a": a},
                (a, NUMBERS.get(a, a)),
                phrase,
            )
        )
    return [
        Relation("category", "{x} is {a}.", tuple(category), CATEGORY, "thing"),
        Relation("job", "{an} {does}.", tuple(jobs), JOB, "thing"),
        Relation("use", "you use {an} to {use}.", tuple(uses), USE, "thing"),
        Relation("amount", "there are {a} {part} {whole}.", tuple(amounts), AMOUNT),
        _table_relation("superlative", "{x} is {a}.", facts.SUPERLATIVES, SUPERLATIVE),
    ]


def plural(noun: str) -> str:
    """Regular English plurals, and "postmen"."""
    if noun.endswith("man"):
        return noun[:-3] + "men"
    if noun.endswith("y"):
        return noun[:-1] + "ies"
    return noun[:-2] + "ves" if noun.endswith("fe") else noun + "s"


def _compare_relation() -> Relation:
    groups = facts.sizes()
    found = []
    for i, smaller in enumerate(groups):
        for larger in groups[i + 1 :]:
            for a in smaller:
                for b in larger:
                    for x, y in ((a, b), (b, a)):
                        found.append(
                            Fact({"x": x, "y": y, "a": b, "other": a, "more": "bigger"}, (b,), x)
                        )
                        found.append(
                            Fact({"x": x, "y": y, "a": a, "other": b, "more": "smaller"}, (a,), x)
                        )
    return Relation("compare", "{a} is {more}.", tuple(found), COMPARE)


def _about_relation() -> Relation:
    countries = [
        Fact(
            country_slots(c.name, c.capital, c.continent)
            | {
                "topic": c.name,
                "text": f"{c.name} is a country in {c.continent}. Its capital is {c.capital}.",
            },
            (c.capital,),
            c.name,
        )
        for c in facts.countries()
    ]
    beasts = [
        Fact(
            animal_slots(b.name, b.plural)
            | {
                "topic": b.plural,
                "text": (
                    f"{with_article(b.name)} is {with_article(b.kind)}. "
                    f"It lives {b.lives} and eats {b.eats}."
                ),
            },
            (b.eats,),
            b.plural,
        )
        for b in facts.animals()
    ]
    return Relation("about", "{text}", tuple(countries + beasts), ABOUT)


@cache
def relations() -> dict[str, Relation]:
    """All relations by name, in a fixed order."""
    found = [
        *_country_relations(),
        *_animal_relations(),
        _table_relation("colour", "{x} is {a}.", facts.COLOURS, COLOUR, "thing"),
        _table_relation(
            "made_of", "{x} is made from {a}.", facts.MADE_OF, SYNTHETIC_TASKS, "thing"
        ),
        _opposite_relation(),
        *_calendar_relations(),
        *_thing_relations(),
        _compare_relation(),
        _about_relation(),
    ]
    return {relation.name: relation for relation in found}
