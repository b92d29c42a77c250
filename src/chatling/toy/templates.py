"""Turns templates into what a person types: politeness, openers, sloppy casing and punctuation, all
seeded.
"""

from __future__ import annotations

from random import Random

from chatling.toy.phrasing import Phrasings
from chatling.toy.relations import Fact, Relation, capitalised

# {q} is the phrase as it stands, {Q} the same beginning a sentence
DIRECT = (
    "{Q}?",
    "{Q}?",
    "{Q}?",
    "{Q}?",
    "{Q}?",
    "{Q}?",
    "Hi, {q}?",
    "Hello! {Q}?",
    "Hey, {q}?",
    "Please, {q}?",
    "Quick question: {q}?",
    "I have a question: {q}?",
    "Question: {q}?",
    "So, {q}?",
    "OK, {q}?",
    "{Q}, please?",
    "{Q}? Thanks!",
    "Tell me, {q}?",
    "Chatling, {q}?",
    "Now, {q}?",
    "One more: {q}?",
    "{Q}? I forgot.",
    "{Q}? Do you know?",
    "Help me: {q}?",
    "Sorry, {q}?",
    "And {q}?",
    "Well, {q}?",
    "{Q}? Tell me.",
    "I was asked: {q}?",
    "Can you remind me? {Q}?",
    "{Q}? Maybe you happen to know.",
    "Explain: {q}?",
)
INDIRECT = (
    "Can you tell me {q}?",
    "Could you tell me {q}?",
    "Do you know {q}?",
    "Please tell me {q}.",
    "Tell me {q}.",
    "I want to know {q}.",
    "I wonder {q}.",
    "I would like to know {q}.",
    "Can you say {q}?",
    "Would you tell me {q}?",
    "My teacher asks {q}.",
    "I forgot {q}.",
    "Could you please say {q}?",
    "I need to know {q}.",
    "Help me find out {q}.",
    "Can you help me? I want to know {q}.",
    "Please say {q}.",
    "My friend wants to know {q}.",
    "I don't know {q}.",
    "Hi! Can you tell me {q}?",
    "Please remind me {q}.",
    "I'm not sure {q}.",
    "Do you really know {q}?",
)
NOUNS = (
    "Tell me {q}.",
    "Name {q}.",
    "{Q}?",
    "{Q}, please.",
    "Give me {q}.",
    "What is {q}?",
    "I need {q}.",
    "Say {q}.",
    "Do you know {q}?",
    "{Q}",
    "Please name {q}.",
    "I want to know {q}.",
    "Can you tell me {q}?",
    "Please tell me {q}.",
    "Can you name {q}?",
    "I am looking for {q}.",
)
TELL = (
    "Tell {q}.",
    "Please tell {q}.",
    "Can you tell {q}?",
    "Could you tell {q}, please?",
    "Hi, tell {q}.",
)  # for nouns that begin with "me"
STEMS = (
    "{Q}",
    "{Q} ...",
    "{Q}...",
    "Complete this: {q}",
    "Finish the sentence: {Q} ...",
    "Go on: {Q}",
    "{Q} what?",
)
TOPICS = (
    "Let's talk about {t}. {Q}?",
    "I am thinking of {t}. {Q}?",
    "I read about {t}. {Q}?",
    "About {t}: {q}?",
    "I like {t}. {Q}?",
    "Think of {t}. {Q}?",
    "I have a question about {t}. {Q}?",
    "Tell me about {t}: {q}?",
    "We learnt about {t} today. {Q}?",
    "I'm thinking about {t}. {Q}?",
    "I am reading about {t}. {Q}?",
    "Here is {t}. {Q}?",
    "I have seen {t}. {Q}?",
    "My sister has {t}. {Q}?",
)


def fill(wrapper: str, phrase: str, topic: str = "") -> str:
    """A whole utterance from a wrapper and a phrase, with its first letter capitalised."""
    return capitalised(wrapper.format(q=phrase, Q=capitalised(phrase), t=topic))


def sloppy(text: str, rng: Random) -> str:
    """What hurried typing does: one time in four the final mark or the capitals are missing, or
    both.
    """
    luck = rng.random()
    if luck < 0.14:
        text = text.rstrip("?.")
    if luck < 0.07 or luck > 0.88:
        text = text.lower()
    return text


def ask(relation: Relation, fact: Fact, rng: Random) -> str:
    """One of the many training questions for a fact."""
    return sloppy(utterance(relation.phrasings, fact.slots, fact.topic, rng), rng)


def utterance(phrasings: Phrasings, slots: dict[str, str], topic: str, rng: Random) -> str:
    luck = rng.random()
    if luck < 0.22 and phrasings.indirect:
        return fill(rng.choice(INDIRECT), rng.choice(phrasings.indirect).format(**slots))
    if luck < 0.34 and phrasings.nouns:
        noun = rng.choice(phrasings.nouns).format(**slots)
        return fill(rng.choice(TELL if noun.startswith("me ") else NOUNS), noun)
    if luck < 0.41 and phrasings.stems:
        return fill(rng.choice(STEMS), rng.choice(phrasings.stems).format(**slots))
    if luck < 0.50 and phrasings.pronoun:
        return fill(rng.choice(TOPICS), rng.choice(phrasings.pronoun), topic)
    return fill(rng.choice(DIRECT), rng.choice(phrasings.direct).format(**slots))
