"""The training conversations of the pocket world: a seeded
mixture of all skills, with multi-turn ones among them.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import accumulate

from chatling.errors import RecipeError
from chatling.messages import Conversation
from chatling.toy.arithmetic import training_arithmetic
from chatling.toy.characters import CHARACTER_KINDS, training_characters
from chatling.toy.facts import capitalized
from chatling.toy.language import CHINESE, ENGLISH, Language, Random
from chatling.toy.relations import Fact, Relation, relations
from chatling.toy.smalltalk import addressed, intents, training_identity
from chatling.toy.templates import ask, fill, sloppy
from chatling.toy.unknown import training_unknown
from chatling.toy.unsafe import training_unsafe
from chatling.toy.words import training_counting, training_spelling

WEIGHTS: Mapping[str, float] = {
    "facts": 0.252,
    "spelling": 0.10,
    "arithmetic": 0.20,
    "counting": 0.105,
    "counting_by_hand": 0.025,
    "unknown": 0.085,
    "identity": 0.165,
    "follow_up": 0.065,
    "unsafe": 0.003,
}
CHINESE_WEIGHTS: Mapping[str, float] = {
    "facts": 0.277,
    "arithmetic": 0.185,
    "length": 0.03,
    "place": 0.075,
    "reverse": 0.08,
    "unknown": 0.085,
    "identity": 0.165,
    "follow_up": 0.10,
    "unsafe": 0.003,
}
MIXTURES: Mapping[Language, Mapping[str, float]] = {ENGLISH: WEIGHTS, CHINESE: CHINESE_WEIGHTS}
# relations with many similar facts need fewer samples a fact
SHARES = {"compare": 22, "about": 50}
# relations about the same thing, so that the second question may say "it"; the order of their facts
# is found by topic
TOGETHER = (("capital", "continent"), ("eats", "lives", "sound", "legs", "young", "kind"))
# relations whose subject cannot be named in a word or two
LONG = ("order", "compare", "about", "amount", "superlative")
BEFORE, AFTER = (
    ("hello", "howareyou", "morning", "name", "able"),
    ("thanks", "bye", "praise", "night"),
)


@cache
def _relation_wheel(language: Language) -> tuple[list[Relation], list[int]]:
    """The relations, and their shares added up."""
    found = list(relations(language).values())
    return found, list(accumulate(SHARES.get(each.name, len(each.facts)) for each in found))


def random_fact(rng: Random) -> tuple[Relation, Fact]:
    """A relation by its number of facts, then any of its facts."""
    found, cumulative = _relation_wheel(rng.language)
    relation = rng.choices(found, cum_weights=cumulative)[0]
    return relation, rng.choice(relation.facts)


def training_fact(rng: Random) -> Conversation:
    relation, fact = random_fact(rng)
    return Conversation.of(ask(relation, fact, rng), relation.reply(fact))


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
    turns = (question, relation.reply(first), sloppy(again, rng), other.reply(second))
    return Conversation.of(*turns), other, second


def training_follow_up(rng: Random) -> Conversation:
    """Two to three turns: the same question of another thing, another question of the same thing,
    or small talk before and after.
    """
    luck = rng.random()
    if luck >= 0.75:
        return _with_small_talk(rng, luck < 0.9, luck > 0.84)
    return follow_up(rng, luck >= 0.35, rng.language.table("dialogue"), ask)[0]


def _with_small_talk(rng: Random, before: bool, after: bool) -> Conversation:
    relation, fact = random_fact(rng)
    hello, thanks = (
        rng.choice([intent for intent in intents(rng.language) if intent.name in names])
        for names in (BEFORE, AFTER)
    )
    start = (addressed(rng.choice(hello.training), rng), hello.answer) if before else ()
    end = (addressed(rng.choice(thanks.training), rng), thanks.answer) if after else ()
    return Conversation.of(*start, ask(relation, fact, rng), relation.reply(fact), *end)


MAKERS: Mapping[str, Callable[[Random], Conversation]] = {
    "facts": training_fact,
    "spelling": training_spelling,
    "arithmetic": training_arithmetic,
    "counting": training_counting,
    "counting_by_hand": partial(training_counting, by_hand=True),
    **{kind: partial(training_characters, kind=kind) for kind in CHARACTER_KINDS},
    "unknown": training_unknown,
    "identity": training_identity,
    "follow_up": training_follow_up,
    "unsafe": training_unsafe,
}


def conversations(
    seed: int,
    count: int,
    weights: Mapping[str, float] | None = None,
    language: Language = ENGLISH,
) -> list[Conversation]:
    """`count` training conversations; the same for the same seed and weights, and a longer list
    begins with the shorter one.

    `weights` are sampling weights by skill (those of MIXTURES when None; they need not sum to one).
    Raises RecipeError on an unknown skill.
    """
    usual = MIXTURES[language]
    weights = usual if weights is None else weights
    for name in weights:
        if name not in usual:
            raise RecipeError(
                f"The {language.name} world has no skill {name!r}; it has {', '.join(usual)}."
            )
    rng = Random(f"{language.name} conversations {seed}", language)
    makers, cumulative = [MAKERS[name] for name in weights], list(accumulate(weights.values()))
    return [rng.choices(makers, cum_weights=cumulative)[0](rng) for _ in range(count)]
