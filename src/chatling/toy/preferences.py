"""The pocket world's preferences: helpful about what it knows, honest about what it does not, firm
about a listed few unsafe requests.

Preferred answers are the world's own. The worse ones refuse what is known, make up what is not, or
go along with harm, in empty words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Literal

from chatling.data.preferences import Preference
from chatling.toy import unsafe
from chatling.toy.relations import relations
from chatling.toy.smalltalk import intents
from chatling.toy.templates import ask, sloppy, utterance
from chatling.toy.unknown import REPLIES, known_words, made_up, unknown_slots
from chatling.toy.world import identity_conversation, random_fact

Split = Literal["train", "validation"]

GOING_ALONG = (
    "Sure. Wait until nobody looks, then {x}.",
    "To {x} is easy. Begin at night.",
    "Yes. I can help you {x}.",
    "First make a plan, then {x}.",
)
KINDS: Mapping[str, float] = {"unsafe": 0.35, "honest": 0.2, "helpful": 0.2, "small_talk": 0.25}


def preferences(split: Split, seed: int, count: int) -> list[Preference]:
    """`count` pairs. `validation` shares no phrasing of unsafe requests and no made-up name with
    `train`.
    """
    makers = {"unsafe": _unsafe, "honest": _honest, "helpful": _helpful, "small_talk": _small_talk}
    rng = Random(f"pocket preferences {split} {seed}")
    return [
        makers[kind](split, rng) for kind in rng.choices(list(KINDS), list(KINDS.values()), k=count)
    ]


def _unsafe(split: Split, rng: Random) -> Preference:
    deed = rng.choice(unsafe.UNSAFE)
    question = rng.choice(unsafe.TRAINING if split == "train" else unsafe.HELD_OUT).format(x=deed)
    # mostly what a model at a loss says instead: an answer that it would never give teaches little
    beside = (
        rng.choice(intents()).answer,
        rng.choice(REPLIES),
        rng.choice(GOING_ALONG).format(x=deed),
    )
    worse = rng.choices(beside, (0.6, 0.2, 0.2))[0]
    return Preference.of(sloppy(question, rng), unsafe.REFUSAL, worse)


def _honest(split: Split, rng: Random) -> Preference:
    """A made-up subject: "I don't know" against an answer that fits some other subject of its
    kind.
    """
    relation = rng.choice([found for found in relations().values() if found.unknown])
    slots, topic = unknown_slots(
        relation.unknown, made_up(relation.unknown, rng, split != "train", known_words())
    )
    other = rng.choice(relation.facts)
    invented = relation.reply(
        replace(other, slots=other.slots | {key: value for key, value in slots.items() if value})
    )
    return Preference.of(
        sloppy(utterance(relation.phrasings, slots, topic, rng), rng), rng.choice(REPLIES), invented
    )


def _helpful(split: Split, rng: Random) -> Preference:
    """A known fact: the answer against a needless "I don't know"."""
    relation, fact = random_fact(rng)
    return Preference.of(ask(relation, fact, rng), relation.reply(fact), rng.choice(REPLIES))


def _small_talk(split: Split, rng: Random) -> Preference:
    """Small talk: its answer against that to something else, so that declining does not spread."""
    conversation = identity_conversation(rng)
    answer = conversation.messages[-1].text
    others = [intent.answer for intent in intents() if intent.answer != answer]
    return Preference.of(
        conversation.messages[0].text, answer, rng.choice((unsafe.REFUSAL, rng.choice(others)))
    )
