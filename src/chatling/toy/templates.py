"""Turns templates into what a person types: politeness,
openers, sloppy casing and punctuation, all seeded.
"""

from chatling.toy.facts import Slots, capitalized
from chatling.toy.language import Random
from chatling.toy.relations import Fact, Relation

# how often each way of asking is taken, added up; where a relation lacks one, the next is
WAYS = {"indirect": 0.22, "nouns": 0.34, "stems": 0.41, "pronoun": 0.50, "direct": 1.0}


def fill(wrapper: str, phrase: str, topic: str = "") -> str:
    """A whole utterance from a wrapper and a phrase, with its first letter capitalized."""
    return capitalized(wrapper.format(q=phrase, Q=capitalized(phrase), t=topic))


def sloppy(text: str, rng: Random) -> str:
    """What hurried typing does: one time in four the
    final mark or the capitals are missing, or both.
    """
    luck, grammar = rng.random(), rng.language.table("grammar")
    if luck < 0.14:
        text = text.rstrip(grammar["marks"])
    if luck < 0.07 or luck > 0.88:
        for mark, typed in grammar["hurried"]:
            text = text.replace(mark, typed)
        return text.lower()
    return text


def ask(relation: Relation, fact: Fact, rng: Random) -> str:
    """One of the many training questions for a fact."""
    return sloppy(utterance(relation, fact.slots, rng), rng)


def utterance(relation: Relation, slots: Slots, rng: Random) -> str:
    """A phrasing of the relation in a wrapper of its kind."""
    wrappers, luck = rng.language.table("templates"), rng.random()
    way = next(way for way, most in WAYS.items() if luck < most and way in relation.phrasings)
    if way == "nouns":
        noun = rng.choice(relation.phrasings[way]).format(**slots)
        return fill(rng.choice(wrappers["tell" if noun.startswith("me ") else way]), noun)
    wrapper = rng.choice(wrappers[way])
    phrase = rng.choice(relation.phrasings[way]).format(**slots)
    return fill(wrapper, phrase, relation.topic.format(**slots))
