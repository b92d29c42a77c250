"""The training conversations of the pocket world: a seeded
mixture of all skills, with multi-turn ones among them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate

from chatling.errors import RecipeError
from chatling.messages import Conversation
from chatling.toy.arithmetic import training_arithmetic
from chatling.toy.characters import CHARACTER_KINDS, training_characters
from chatling.toy.decontamination import kept_away
from chatling.toy.follow_ups import follow_up, random_fact
from chatling.toy.language import CHINESE, ENGLISH, Language, Random
from chatling.toy.smalltalk import addressed, intents, training_identity
from chatling.toy.talks import training_talk
from chatling.toy.templates import ask
from chatling.toy.typed import typed
from chatling.toy.unknown import training_unknown
from chatling.toy.unsafe import training_harmless, training_unsafe
from chatling.toy.words import training_counting, training_spelling

WEIGHTS: Mapping[str, float] = {
    "facts": 0.29,
    "spelling": 0.082,
    "arithmetic": 0.14,
    "counting": 0.06,
    "counting_by_hand": 0.02,
    "unknown": 0.1,
    "identity": 0.145,
    "follow_up": 0.05,
    "talk": 0.059,
    "unsafe": 0.04,
    "harmless": 0.014,
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
BEFORE, AFTER = (
    ("hello", "howareyou", "morning", "name", "able"),
    ("thanks", "bye", "praise", "night"),
)


def training_fact(rng: Random) -> Conversation:
    relation, fact = random_fact(rng, rng.language.table("grammar")["fewest"])
    return Conversation.of(ask(relation, fact, rng), relation.reply(fact))


def training_follow_up(rng: Random) -> Conversation:
    """Two to three turns: the same question of another thing, another question of the same thing,
    or small talk before and after.
    """
    luck = rng.random()
    if luck >= 0.75:
        return _with_small_talk(rng, luck < 0.9, luck > 0.84)
    return follow_up(rng, luck >= 0.35, rng.language.table("dialogue"), ask, typed)[0]


def _with_small_talk(rng: Random, before: bool, after: bool) -> Conversation:
    relation, fact = random_fact(rng)
    hello, thanks = (
        rng.choice([intent for intent in intents(rng.language) if intent.name in names])
        for names in (BEFORE, AFTER)
    )
    start = (addressed(rng.choice(hello.training), rng, typed), hello.answer) if before else ()
    end = (addressed(rng.choice(thanks.training), rng, typed), thanks.answer) if after else ()
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
    "talk": training_talk,
    "unsafe": training_unsafe,
    "harmless": training_harmless,
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
    return [kept_away(rng.choices(makers, cum_weights=cumulative)[0], rng) for _ in range(count)]
