"""Talks of two and three turns that lean on what was said: on a sum's result, on an answer's word,
on the last question's relation or subject.
"""

from collections.abc import Callable

from chatling.messages import Conversation, Message, Part
from chatling.toy.arithmetic import STEPS, problems, training_arithmetic
from chatling.toy.facts import capitalized
from chatling.toy.follow_ups import random_fact, same_relation, same_subject, subject
from chatling.toy.language import Random
from chatling.toy.relations import Fact, Relation
from chatling.toy.templates import ask, fill
from chatling.toy.typed import renamed, typed
from chatling.toy.unknown import made_up, replies, unknown_slots
from chatling.toy.words import spelled, training_counting, training_spelling, words

MOST = 1_000  # of a result
LONGEST_SUM = 100  # characters


def _again(name: str, rng: Random) -> str:
    """The same question of another thing ("And Spain?")."""
    frame = rng.choice(rng.language.table("talks")["again"])
    return typed(frame.format(x=name, X=capitalized(name)), rng, alone=True)


def _sum(rng: Random) -> Conversation:
    """A sum, and one more step from its result."""
    first = _short_sum(rng)
    so_far = int(first.messages[-1].text.rsplit("#### ", 1)[1])
    while True:
        problem = rng.choice(problems("leaning", rng.language))
        sign = problem.steps[0][1]
        b = rng.randint(2, 12 if sign in "*/" else 60)
        if (sign != "/" or so_far % b == 0) and 0 < STEPS[sign](so_far, b) <= MOST:
            break
    found, expression = STEPS[sign](so_far, b), f"{so_far}{sign}{b}"
    answer = (
        Part("text", f"{expression}="),
        Part("python", expression),
        Part("output", str(found)),
        Part("text", f"{found}.\n#### {found}"),
    )
    question = typed(problem.story.format(b=b), rng, alone=True)
    more = (Message.of("user", question), Message("assistant", answer))
    return Conversation((*first.messages, *more))


def _short_sum(rng: Random) -> Conversation:
    """That leaves room for more."""
    while len((found := training_arithmetic(rng)).messages[0].text) > LONGEST_SUM:
        pass
    return found


def _chain(rng: Random) -> Conversation:
    """A fact, the same of another thing, and something else about that thing."""
    relation, first, other, second = same_subject(rng)
    before = _another(relation, first, rng)
    name = subject(relation, first)
    table = rng.language.table("dialogue")
    last = fill(
        rng.choice(table["pronoun_follow_ups"]),
        rng.choice(other.phrasings["pronoun"]).removeprefix("and "),
    )
    return Conversation.of(
        *(ask(relation, before, rng), relation.reply(before)),
        *(_again(renamed(name, rng), rng), relation.reply(first)),
        *(typed(last, rng, alone=True), other.reply(second)),
    )


def _another(relation: Relation, fact: Fact, rng: Random) -> Fact:
    while (found := rng.choice(relation.facts)) is fact:
        pass
    return found


def _three(rng: Random) -> Conversation:
    """One relation of three things."""
    relation, first, second = same_relation(rng)
    third = _another(relation, second, rng)
    if third.slots.get("unit") != first.slots.get("unit"):
        third = first
    turns = [ask(relation, first, rng), relation.reply(first)]
    for fact in (second, third):
        turns += [_again(renamed(subject(relation, fact), rng), rng), relation.reply(fact)]
    return Conversation.of(*turns)


def _spell_it(rng: Random) -> Conversation:
    """The word that an answer was about, spelled."""
    known = set(words())
    while True:
        relation, fact = random_fact(rng)
        said = fact.keys[0].split()[-1]
        if said in known:
            break
    again = rng.choice(rng.language.table("talks")["spell"])
    return Conversation.of(
        *(ask(relation, fact, rng), relation.reply(fact)),
        *(typed(again, rng, alone=True), f"{said} is spelled {spelled(said)}."),
    )


def _letters_again(rng: Random) -> Conversation:
    """Another word spelled, in a word or two; or letters counted twice."""
    if rng.random() < 0.4:
        return _joined(training_counting(rng), training_counting(rng))
    word = rng.choice(words())
    again = Conversation.of(_again(word, rng), f"{word} is spelled {spelled(word)}.")
    return _joined(training_spelling(rng), again)


def _joined(first: Conversation, second: Conversation) -> Conversation:
    return Conversation((*first.messages, *second.messages))


def _stranger(rng: Random) -> Conversation:
    """Something made-up after something known, or before it."""
    while not (relation := random_fact(rng)[0]).unknown:
        pass
    fact = rng.choice(relation.facts)
    slots = unknown_slots(relation.unknown, made_up(relation.unknown, rng, False), rng.language)
    name = subject(relation, Fact(slots, ()))
    reply = rng.choice(replies(rng.language))
    if rng.random() < 0.6:
        return Conversation.of(
            *(ask(relation, fact, rng), relation.reply(fact)), _again(name, rng), reply
        )
    first = typed(fill("{Q}?", rng.choice(relation.phrasings["direct"]).format(**slots)), rng)
    known = _again(renamed(subject(relation, fact), rng), rng)
    return Conversation.of(first, reply, known, relation.reply(fact))


def _mixed(rng: Random) -> Conversation:
    """Two questions that have nothing to do with one another."""
    relation, fact = random_fact(rng)
    known = Conversation.of(ask(relation, fact, rng), relation.reply(fact))
    other = rng.choice((_short_sum, training_spelling, training_counting))(rng)
    return _joined(known, other) if rng.random() < 0.5 else _joined(other, known)


KINDS: dict[Callable[[Random], Conversation], float] = {
    _sum: 0.36,
    _chain: 0.13,
    _three: 0.13,
    _spell_it: 0.12,
    _letters_again: 0.08,
    _stranger: 0.11,
    _mixed: 0.07,
}


def training_talk(rng: Random) -> Conversation:
    """A talk of any of these kinds."""
    return rng.choices(list(KINDS), list(KINDS.values()))[0](rng)
