"""The pocket world's preferences: helpful about what it knows, honest about what it does not, firm
about a listed few unsafe requests.

Preferred answers are the world's own. The worse ones refuse what is known, make up what is not, or
go along with harm, in empty words.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from chatling.data.preferences import Preference
from chatling.toy.decontamination import comes_near
from chatling.toy.follow_ups import random_fact
from chatling.toy.language import CHINESE, ENGLISH, Language, Random
from chatling.toy.relations import relations
from chatling.toy.smalltalk import intents, training_identity
from chatling.toy.templates import ask, utterance
from chatling.toy.typed import sloppy, typed
from chatling.toy.unknown import made_up, replies, unknown_slots
from chatling.toy.unsafe import asked_to

Split = Literal["train", "validation"]


def preferences(
    split: Split, seed: int, count: int, language: Language = ENGLISH
) -> list[Preference]:
    """`count` pairs. `validation` shares no phrasing of
    unsafe requests and no made-up name with `train`.
    """
    rng = Random(f"{language.name} preferences {split} {seed}", language)
    kinds = KINDS_IN[language]
    makers = rng.choices(list(kinds), list(kinds.values()), k=count)
    return [_kept_away(make, rng, split != "train") for make in makers]


def _kept_away(
    make: Callable[[Random, bool], Preference], rng: Random, held_out: bool
) -> Preference:
    """Drawn again where its question comes near one in free wording."""
    while comes_near((made := make(rng, held_out)).prompt):
        pass
    return made


def _unsafe(rng: Random, held_out: bool) -> Preference:
    table = rng.language.table("unsafe")
    asked = rng.language.table("heldout")["unsafe"] if held_out else table["training"]
    deed = rng.choice(table["requests"])
    question = rng.choice(asked).format(x=deed)
    # mostly what a model at a loss says instead: an answer that it would never give teaches little
    beside = (
        rng.choice(intents(rng.language)).answer,
        rng.choice(replies(rng.language)),
        rng.choice(table["going_along"]).format(x=deed),
    )
    worse = rng.choices(beside, (0.6, 0.2, 0.2))[0]
    return Preference.of(sloppy(question, rng), table["refusal"], worse)


def _harm(rng: Random, held_out: bool) -> Preference:
    """A harmful request in free words: declining it against what a model at a loss says."""
    if held_out:
        return _unsafe(rng, held_out)
    other = rng.choice((*replies(rng.language), rng.choice(intents(rng.language)).answer))
    return Preference.of(asked_to(rng, "harm"), rng.language.table("unsafe")["refusal"], other)


def _harmless(rng: Random, held_out: bool) -> Preference:
    """What only sounds like harm: not knowing it against declining it."""
    refusal = rng.language.table("unsafe")["refusal"]
    return Preference.of(asked_to(rng, "harmless"), rng.choice(replies(rng.language)), refusal)


def _honest(rng: Random, held_out: bool) -> Preference:
    """A made-up subject: "I don't know" against an
    answer that fits some other subject of its kind.
    """
    relation = rng.choice([found for found in relations(rng.language).values() if found.unknown])
    name = made_up(relation.unknown, rng, held_out)
    slots = unknown_slots(relation.unknown, name, rng.language)
    other = rng.choice(relation.facts)
    invented = relation.reply(replace(other, slots=other.slots | slots))
    question = typed(utterance(relation, slots, rng), rng)
    return Preference.of(question, rng.choice(replies(rng.language)), invented)


def _helpful(rng: Random, held_out: bool) -> Preference:
    """A known fact: the answer against a needless "I don't know"."""
    relation, fact = random_fact(rng)
    return Preference.of(
        ask(relation, fact, rng), relation.reply(fact), rng.choice(replies(rng.language))
    )


def _small_talk(rng: Random, held_out: bool) -> Preference:
    """Small talk: its answer against that to something else, so that declining does not spread."""
    question, answer = (message.text for message in training_identity(rng).messages)
    refusal = rng.language.table("unsafe")["refusal"]
    others = [intent.answer for intent in intents(rng.language) if intent.answer != answer]
    return Preference.of(question, answer, rng.choice((refusal, rng.choice(others))))


Kinds = Mapping[Callable[[Random, bool], Preference], float]
KINDS: Kinds = {
    _unsafe: 0.12,
    _harm: 0.23,
    _harmless: 0.1,
    _honest: 0.17,
    _helpful: 0.18,
    _small_talk: 0.2,
}
CHINESE_KINDS: Kinds = {_unsafe: 0.35, _honest: 0.2, _helpful: 0.2, _small_talk: 0.25}
KINDS_IN: Mapping[Language, Kinds] = {ENGLISH: KINDS, CHINESE: CHINESE_KINDS}
