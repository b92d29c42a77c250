"""Turns templates into what a person asks: a phrasing of a fact, in a wrapper of its kind."""

import re

from chatling.toy.facts import Slots, capitalized
from chatling.toy.language import Random
from chatling.toy.relations import Fact, Relation
from chatling.toy.typed import renamed, typed

# how often each way of asking is taken, added up; where a relation lacks one, the next is
WAYS = {
    "telegrams": 0.09,
    "indirect": 0.22,
    "nouns": 0.34,
    "stems": 0.41,
    "pronoun": 0.50,
    "direct": 1.0,
}
# of questions where two answers can be named, those that name two, or one that may be wrong
CHOICES, CLAIMS = 0.09, 0.03
SEVERAL = 0.4  # of questions about a thing that allow it, those about several
VERBS = {"is": "are", "does": "do", "has": "have", "was": "were"}
# what keeps a sentence about one: words for it, another verb behind it, another subject before it
SINGULAR = re.compile(
    r"\b(?:its?|itself|some(?:body|one) who|he|she|his|hers?|him|that (?:person|animal|thing)|one"
    r"|total|mother is|am)\b",
    re.IGNORECASE,
)
ONE, FIRST = "\0", "\1"  # stand for the thing, and for it with a capital letter
UNLESS = re.compile(
    r"\b(?:as|into|becoming|becomes?|became|every|each|this|that|not|isn't|(?:is|was) called) {0}"
    r"|{0} (?!is\b|has\b|does\b|was\b)[a-z]+s\b"
    r"|\b(?:of|for|on|to|from|by|like|with|in|about|under|at|that|between|than) {0}"
    r" (?:is|has|does|was)\b|\b[a-z]+'s {0}|{0}'s".replace("{0}", f"[{ONE}{FIRST}]"),
    re.IGNORECASE,
)
CHANGES = tuple(
    (re.compile(pattern), text)
    for verb, verbs in VERBS.items()
    for pattern, text in (
        (rf"\b{verb} {ONE}", f"{verbs} {ONE}"),
        (rf"\b{capitalized(verb)} {ONE}", f"{capitalized(verbs)} {ONE}"),
        (rf"{ONE} {verb}\b", f"{ONE} {verbs}"),
        (rf"{FIRST} {verb}\b", f"{FIRST} {verbs}"),
    )
)
REVERSED = 0.2  # of questions that can be asked from the answer back


def fill(wrapper: str, phrase: str, topic: str = "") -> str:
    """A whole utterance from a wrapper and a phrase, with its first letter capitalized."""
    return capitalized(wrapper.format(q=phrase, Q=capitalized(phrase), t=topic))


def ask(relation: Relation, fact: Fact, rng: Random) -> str:
    """One of the many training questions for a fact."""
    question = renamed(_question(relation, fact, rng), rng)
    return typed(renamed(question, rng, "ordinals") if "n" in fact.slots else question, rng)


def _question(relation: Relation, fact: Fact, rng: Random) -> str:
    if relation.value and rng.random() < CHOICES + CLAIMS:
        return choice(relation, fact.slots, rng, fact.slots[relation.value])
    backward = relation.phrasings.get("reversed")
    if backward and rng.random() < REVERSED:
        asked = rng.choice(backward)
        if _asks_for(asked, fact, relation) == [fact]:
            return fill(_direct(rng), asked.format(**fact.slots))
    return of_several(utterance(relation, fact.slots, rng), fact.slots, rng)


def of_several(question: str, slots: Slots, rng: Random) -> str:
    """Now and then about windows instead of a window, where the sentence allows it."""
    if "several" not in slots or rng.random() >= SEVERAL:
        return question
    one, many = slots.get("an") or slots["x"], slots["several"]
    marked = question
    for noun, mark in ((one, ONE), (capitalized(one), FIRST)):
        marked = re.sub(rf"\b{re.escape(noun)}\b", mark, marked)
    if SINGULAR.search(question) or UNLESS.search(marked):
        return question
    for pattern, text in CHANGES:
        marked = pattern.sub(text, marked)
    return marked.replace(ONE, many).replace(FIRST, capitalized(many))


def _asks_for(backward: str, fact: Fact, relation: Relation) -> list[Fact]:
    """The facts that a question from the answer back may mean: a calf is the young of several."""
    asked = backward.format(**fact.slots)
    return [each for each in relation.facts if backward.format(**each.slots) == asked]


def _direct(rng: Random) -> str:
    wrappers: tuple[str, ...] = rng.language.table("templates")["direct"]
    return rng.choice(wrappers)


def choice(relation: Relation, slots: Slots, rng: Random, right: str = "") -> str:
    """A question that names two values, one of them the `right` one, or only one of them. Of
    something made-up no value is right.
    """
    values = [right] if right else []
    while len(values) < 2:
        other = rng.choice(relation.facts).slots
        same = other.get("unit") == slots.get("unit") and other.get("part") == slots.get("part")
        if other[relation.value] not in values and (same or rng.random() < 0.05):
            values.append(other[relation.value])
    rng.shuffle(values)
    one, two = values
    claims = relation.phrasings["claims"] if rng.random() < CLAIMS / (CHOICES + CLAIMS) else ()
    phrase = rng.choice(claims or relation.phrasings["choices"])
    phrase = phrase.format(**slots, one=one, two=two)
    return fill(_direct(rng), phrase)


def utterance(relation: Relation, slots: Slots, rng: Random) -> str:
    """A phrasing of the relation in a wrapper of its kind."""
    wrappers, luck = rng.language.table("templates"), rng.random()
    way = next(way for way, most in WAYS.items() if luck < most and way in relation.phrasings)
    if way == "telegrams":
        words = rng.choice(relation.phrasings[way]).format(**slots)
        return capitalized(re.sub(r"\b(?:a|an|the) ", "", words)) + rng.choice(("", "", "?"))
    if way == "nouns":
        noun = rng.choice(relation.phrasings[way]).format(**slots)
        return fill(rng.choice(wrappers["tell" if noun.startswith("me ") else way]), noun)
    wrapper = rng.choice(wrappers[way])
    phrase = rng.choice(relation.phrasings[way]).format(**slots)
    return fill(wrapper, phrase, relation.topic.format(**slots))
