"""Facts at random, and a second question that follows on a first: of the same thing, or the same of
another thing.
"""

from collections.abc import Callable, Mapping
from functools import cache
from itertools import accumulate

from chatling.messages import Conversation
from chatling.toy.facts import capitalized
from chatling.toy.language import ENGLISH, Language, Random
from chatling.toy.relations import Fact, Relation, relations
from chatling.toy.templates import fill
from chatling.toy.typed import sloppy

# relations with many similar facts need fewer samples a fact
SHARES = {"compare": 22, "about": 50}
# relations about the same thing, so that the second question may say "it"; the order of their facts
# is found by topic
TOGETHER = (("capital", "continent"), ("eats", "lives", "sound", "legs", "young", "kind"))
# relations whose subject cannot be named in a word or two
LONG = ("order", "between", "compare", "about", "amount", "superlative")


@cache
def _relation_wheel(language: Language, fewest: int) -> tuple[list[Relation], list[int]]:
    """The relations, and their shares added up."""
    found = list(relations(language).values())
    shares = (SHARES.get(each.name) or max(fewest, len(each.facts)) for each in found)
    return found, list(accumulate(shares))


def random_fact(rng: Random, fewest: int = 0) -> tuple[Relation, Fact]:
    """A relation by its number of facts, or by `fewest` if it has less, then any of its facts."""
    found, cumulative = _relation_wheel(rng.language, fewest)
    relation = rng.choices(found, cum_weights=cumulative)[0]
    return relation, rng.choice(relation.facts)


@cache
def facts_by_topic(
    language: Language = ENGLISH,
) -> tuple[tuple[tuple[str, dict[str, Fact]], ...], ...]:
    """For each group of TOGETHER: topics, each with its facts by relation."""
    groups = []
    for names in TOGETHER:
        topics: dict[str, dict[str, Fact]] = {}
        for name in filter(relations(language).__contains__, names):
            for fact in relations(language)[name].facts:
                topics.setdefault(fact.slots.get("c") or fact.slots["s"], {})[name] = fact
        groups.append(tuple(topics.items()))
    return tuple(groups)


def subject(relation: Relation, fact: Fact) -> str:
    """How a follow-up names the fact's subject ("And Spain?")."""
    names = ("city",) if relation.name == "country_of" else ("c", "an", "x")
    return next(fact.slots[name] for name in names if name in fact.slots)


def same_subject(rng: Random) -> tuple[Relation, Fact, Relation, Fact]:
    """Two different relations of one country or animal."""
    _, topic = rng.choice(rng.choice(facts_by_topic(rng.language)))
    first, second = rng.sample(sorted(topic), 2)
    known = relations(rng.language)
    return known[first], topic[first], known[second], topic[second]


def same_relation(rng: Random) -> tuple[Relation, Fact, Fact]:
    """Two different facts of one relation whose subject can be named in a word or two."""
    while True:
        relation, first = random_fact(rng)
        if relation.name in LONG:
            continue
        second = rng.choice(relation.facts)
        if second is not first and first.slots.get("unit") == second.slots.get("unit"):
            return relation, first, second


def follow_up(
    rng: Random,
    same: bool,
    phrasings: Mapping[str, tuple[str, ...]],
    first_question: Callable[[Relation, Fact, Random], str],
    type_: Callable[[str, Random], str] = sloppy,
) -> tuple[Conversation, Relation, Fact]:
    """Two turns, the second of which is about the same subject as the first or about another one,
    and the relation and fact that it asks for.
    """
    if same:
        relation, first, other, second = same_subject(rng)
        wrapper = rng.choice(phrasings["pronoun_follow_ups"])
        again = fill(wrapper, rng.choice(other.phrasings["pronoun"]).removeprefix("and "))
    else:
        relation, first, second = same_relation(rng)
        other, name = relation, subject(relation, second)
        again = rng.choice(phrasings["follow_ups"]).format(x=name, X=capitalized(name))
    question = first_question(relation, first, rng)
    turns = (question, relation.reply(first), type_(again, rng), other.reply(second))
    return Conversation.of(*turns), other, second
