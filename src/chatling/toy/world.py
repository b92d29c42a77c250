"""The training conversations of the pocket world: a seeded mixture of all skills, with multi-turn
ones among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from random import Random

from chatling.errors import RecipeError
from chatling.messages import Conversation
from chatling.toy import unsafe
from chatling.toy.arithmetic import training_arithmetic
from chatling.toy.relations import Fact, Relation, capitalised, relations
from chatling.toy.smalltalk import Intent, intents
from chatling.toy.templates import ask, fill, sloppy
from chatling.toy.unknown import known_words, training_unknown
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
# relations with many similar facts need fewer samples a fact
SHARES = {"compare": 22, "about": 50}
FOLLOW_UPS = (
    "And {x}?",
    "What about {x}?",
    "And for {x}?",
    "How about {x}?",
    "Now {x}?",
    "And what about {x}?",
    "{X}?",
    "The same for {x}?",
    "And {x}, please?",
)
PRONOUN_FOLLOW_UPS = ("{Q}?", "{Q}?", "And {q}?", "OK, {q}?", "Thanks! {Q}?", "Good. {Q}?")
# relations about the same thing, so that the second question may say "it"; the order of their facts
# is found by topic
TOGETHER = (("capital", "continent"), ("eats", "lives", "sound", "legs", "young", "kind"))


FILLERS = frozenset(
    (
        "do",
        "does",
        "did",
        "can",
        "could",
        "would",
        "will",
        "you",
        "your",
        "is",
        "are",
        "am",
        "was",
        "were",
        "a",
        "an",
        "the",
        "me",
        "my",
        "to",
        "of",
        "that",
        "it",
        "so",
        "be",
        "have",
        "has",
        "for",
    )
)
QUESTION_WORDS = frozenset(
    (
        "what",
        "who",
        "which",
        "where",
        "when",
        "why",
        "how",
        "old",
        "big",
        "long",
        "many",
        "much",
    )
)


@cache
def _relation_wheel() -> tuple[list[Relation], list[int]]:
    found = list(relations().values())
    shares = [SHARES.get(relation.name, len(relation.facts)) for relation in found]
    return found, [sum(shares[: i + 1]) for i in range(len(shares))]


def random_fact(rng: Random) -> tuple[Relation, Fact]:
    """A relation by its number of facts, then any of its facts."""
    found, cumulative = _relation_wheel()
    relation = rng.choices(found, cum_weights=cumulative)[0]
    return relation, rng.choice(relation.facts)


def fact_conversation(rng: Random) -> Conversation:
    relation, fact = random_fact(rng)
    return Conversation.of(ask(relation, fact, rng), relation.reply(fact))


OPENERS = ("Hey,", "OK,", "So,", "Well,", "Please,", "Chatling,", "By the way,", "Oh,")
# only before questions
ASKING_OPENERS = (
    "Tell me,",
    "Just wondering,",
    "Quick question:",
    "Excuse me,",
    "Let me ask:",
    "Now,",
    "One more thing:",
)
I_WORDS = ("I ", "I'")


def addressed(text: str, rng: Random, sloppiness: bool = True) -> str:
    """Small talk as typed: now and then with the model's name or an opener."""
    luck = rng.random()
    if luck < 0.1 and text[-1] in "?.!" and "hatling" not in text:
        text = f"{text[:-1]}, chatling{text[-1]}"
    elif luck < 0.3:
        openers = OPENERS + ASKING_OPENERS if text.endswith("?") else OPENERS
        text = (
            f"{rng.choice(openers)}"
            f" {text if text.startswith(I_WORDS) else text[:1].lower() + text[1:]}"
        )
    return sloppy(text, rng) if sloppiness else text


def terse(text: str, rng: Random) -> str:
    """The text with a filler word or two left out, as people type in haste: what is left must carry
    the meaning.
    """
    words = text.split()
    fillers = [i for i, word in enumerate(words) if word.lower() in FILLERS]
    if (
        not any(word.lower().strip("?.!,") not in FILLERS | QUESTION_WORDS for word in words)
        or not fillers
    ):
        return text
    dropped = set(rng.sample(fillers, min(len(fillers), rng.randint(1, 2))))
    left = " ".join(word for i, word in enumerate(words) if i not in dropped)
    return left[:1].upper() + left[1:]


def identity_conversation(rng: Random) -> Conversation:
    intent = rng.choice(intents())
    text = rng.choice(intent.training)
    short = terse(text, rng) if rng.random() < 0.3 else text
    return Conversation.of(
        addressed(text if _words(short) in _held_out_words() else short, rng), intent.answer
    )


def _words(text: str) -> str:
    return " ".join(re.sub(r"[^\w ]", "", text.lower()).split())


@cache
def _held_out_words() -> frozenset[str]:
    """Small talk that is kept for tests: a phrasing must not become one of these by losing a
    word.
    """
    return frozenset(_words(text) for intent in intents() for text in intent.held_out)


@cache
def facts_by_topic() -> tuple[tuple[tuple[str, dict[str, Fact]], ...], ...]:
    """For each group of TOGETHER: topics, each with its facts by relation."""
    groups = []
    for names in TOGETHER:
        topics: dict[str, dict[str, Fact]] = {}
        for name in names:
            for fact in relations()[name].facts:
                topics.setdefault(fact.slots.get("c") or fact.slots["s"], {})[name] = fact
        groups.append(tuple(topics.items()))
    return tuple(groups)


def subject(relation: Relation, fact: Fact) -> str:
    """How a follow-up names the fact's subject ("And Spain?")."""
    if relation.name == "country_of":
        return fact.slots["city"]
    return fact.slots.get("c") or fact.slots.get("an") or fact.slots["x"]


def same_subject(rng: Random) -> tuple[Relation, Fact, Relation, Fact]:
    """Two different relations of one country or animal."""
    _, topic = rng.choice(rng.choice(facts_by_topic()))
    first, second = rng.sample(sorted(topic), 2)
    return relations()[first], topic[first], relations()[second], topic[second]


def same_relation(rng: Random) -> tuple[Relation, Fact, Fact]:
    """Two different facts of one relation whose subject can be named in a word or two."""
    while True:
        relation, first = random_fact(rng)
        if relation.name in ("order", "compare", "about", "amount", "superlative"):
            continue
        second = rng.choice(relation.facts)
        if second is not first and first.slots.get("unit") == second.slots.get("unit"):
            return relation, first, second


def follow_up_conversation(rng: Random) -> Conversation:
    """Two to three turns: the same question of another thing, another question of the same thing,
    or small talk before and after.
    """
    luck = rng.random()
    if luck < 0.35:
        relation, first, second = same_relation(rng)
        name = subject(relation, second)
        again = rng.choice(FOLLOW_UPS).format(x=name, X=capitalised(name))
        return Conversation.of(
            ask(relation, first, rng),
            relation.reply(first),
            sloppy(again, rng),
            relation.reply(second),
        )
    if luck < 0.75:
        relation, first, other, second = same_subject(rng)
        again = fill(
            rng.choice(PRONOUN_FOLLOW_UPS), rng.choice(other.phrasings.pronoun).removeprefix("and ")
        )
        return Conversation.of(
            ask(relation, first, rng),
            relation.reply(first),
            sloppy(again, rng),
            other.reply(second),
        )
    before, after = (
        _intent("hello", "howareyou", "morning", "name", "able"),
        _intent("thanks", "bye", "praise", "night"),
    )
    relation, fact = random_fact(rng)
    hello, thanks = rng.choice(before), rng.choice(after)
    start = (addressed(rng.choice(hello.training), rng), hello.answer) if luck < 0.9 else ()
    end = (addressed(rng.choice(thanks.training), rng), thanks.answer) if luck > 0.84 else ()
    return Conversation.of(*start, ask(relation, fact, rng), relation.reply(fact), *end)


def _intent(*names: str) -> list[Intent]:
    return [intent for intent in intents() if intent.name in names]


def conversations(
    seed: int, count: int, weights: Mapping[str, float] | None = None
) -> list[Conversation]:
    """`count` training conversations; the same for the same seed and weights, and a longer list
    begins with the shorter one.

    `weights` are sampling weights by skill (WEIGHTS when None; they need not sum to one). Raises
    RecipeError on an unknown skill.
    """
    weights = WEIGHTS if weights is None else weights
    known = known_words()
    makers: dict[str, Callable[[Random], Conversation]] = {
        "facts": fact_conversation,
        "spelling": training_spelling,
        "arithmetic": training_arithmetic,
        "counting": training_counting,
        "counting_by_hand": lambda rng: training_counting(rng, by_hand=True),
        "unknown": lambda rng: training_unknown(rng, known),
        "identity": identity_conversation,
        "follow_up": follow_up_conversation,
        "unsafe": lambda rng: Conversation.of(*unsafe.few(rng)),
    }
    for name in weights:
        if name not in makers:
            raise RecipeError(
                f"The pocket world has no skill {name!r}; it has {', '.join(makers)}."
            )
    rng = Random(f"pocket conversations {seed}")
    names, shares = list(weights), list(weights.values())
    cumulative = [sum(shares[: i + 1]) for i in range(len(shares))]
    return [makers[rng.choices(names, cum_weights=cumulative)[0]](rng) for _ in range(count)]
