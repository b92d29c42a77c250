"""Held-out questions, skill by skill, as tasks that judge an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random

from chatling.errors import RecipeError
from chatling.messages import Conversation, Part
from chatling.tasks.task import Task, visible_text
from chatling.toy import arithmetic, heldout_phrasings, unsafe, words
from chatling.toy.relations import Relation, capitalised, relations
from chatling.toy.smalltalk import intents
from chatling.toy.templates import fill, sloppy
from chatling.toy.unknown import REPLIES, known_words, made_up, person, unknown_slots
from chatling.toy.world import (
    addressed,
    conversations,
    random_fact,
    same_relation,
    same_subject,
    subject,
)

REFUSAL = re.compile(
    r"\b(?:do not|don't|dont|cannot|can't) know\b|never heard|not in my (?:small )?world"
)
SPELLED = re.compile(r"\b[a-z](?:(?:[-,]| |, )[a-z])+\b")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
Judge = Callable[[str], bool]


def plain(text: str) -> str:
    """Lower case, straight apostrophes, single spaces."""
    return " ".join(text.replace("’", "'").lower().split())


def mentions(text: str, phrase: str) -> bool:
    """Whether `phrase` stands in `text` at word boundaries; both plain."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) is not None


def refuses(text: str) -> bool:
    return REFUSAL.search(plain(text)) is not None


def final_number(text: str) -> str | None:
    """The number after the last "####", else the last number of all."""
    numbers = NUMBER.findall(text.replace(",", "").rsplit("####", 1)[-1])
    return numbers[0 if "####" in text else -1] if numbers else None


def says(
    keys: tuple[str, ...], others: frozenset[str] = frozenset(), may_refuse: bool = False
) -> Judge:
    """Right when a key is mentioned, none of `others` is, and nothing is refused (unless the right
    answer may sound so).
    """
    right, wrong = [plain(key) for key in keys], [plain(other) for other in others]

    def judge(answer: str) -> bool:
        text = plain(answer)
        if refuses(text) and not may_refuse:
            return False
        return any(mentions(text, key) for key in right) and not any(
            mentions(text, other) for other in wrong
        )

    return judge


def spells(word: str) -> Judge:
    """Right when the letters stand one by one, and nothing else is spelled."""
    return lambda answer: (
        {re.sub("[^a-z]", "", run) for run in SPELLED.findall(plain(answer))} == {word}
    )


def counts(number: str) -> Judge:
    return lambda answer: final_number(answer) == number


FAMILIAR = {
    "facts": 0.1,
    "arithmetic": 0.15,
    "spelling": 0.15,
    "counting": 0.1,
    "unknown": 0.2,
    "identity": 0.15,
    "follow_up": 0.15,
}
FAMILIAR_SHARE, UNSAFE_SHARE = 0.35, 0.015  # of practice, and of the familiar in it

Question = tuple[Conversation, Judge]


class PocketTask(Task):
    """Questions of one skill, each with its own judge."""

    def __init__(self, name: str, questions: list[Question]):
        self.name = name
        self.questions = [conversation for conversation, _ in questions]
        self._judges = {conversation.prompt: judge for conversation, judge in questions}

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> Conversation:
        if not 0 <= index < len(self.questions):
            raise IndexError(
                f"{self.name} has {len(self.questions)} examples, asked for number {index}"
            )
        return self.questions[index]

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return self._judges[conversation.prompt](visible_text(completion))


def _fact_judge(relation: Relation, keys: tuple[str, ...], question: str) -> Judge:
    """Other answers of the relation count as wrong, unless they are part of the question or of a
    right answer.
    """
    allowed = plain(" ".join((question, *keys)))
    others = frozenset(
        fact.key for fact in relation.facts if not mentions(allowed, plain(fact.key))
    )
    return says(keys, frozenset() if relation.name == "about" else others)


def _facts(rng: Random) -> Question:
    relation, fact = random_fact(rng)
    question = sloppy(
        capitalised(rng.choice(heldout_phrasings.FACTS[relation.name]).format(**fact.slots)), rng
    )
    return Conversation.of(question, relation.reply(fact)), _fact_judge(
        relation, fact.keys, question
    )


def _refusal(rng: Random) -> Question:
    conversation, _ = _facts(rng)
    return conversation, lambda answer: not refuses(answer)


def _unknown(rng: Random) -> Question:
    known, luck = known_words(), rng.random()
    if luck < 0.65:
        relation = rng.choice([r for r in relations().values() if r.unknown])
        slots, _ = unknown_slots(relation.unknown, made_up(relation.unknown, rng, True, known))
        question = rng.choice(heldout_phrasings.FACTS[relation.name]).format(**slots)
    elif luck < 0.8:
        question = rng.choice(heldout_phrasings.PERSON).format(p=person(rng, True, known))
    elif luck < 0.94:
        question = rng.choice(heldout_phrasings.THING).format(w=made_up("thing", rng, True, known))
    else:
        question = rng.choice(heldout_phrasings.PLANET).format(
            w=made_up("planet", rng, True, known).capitalize()
        )
    return Conversation.of(sloppy(capitalised(question), rng), REPLIES[0]), refuses


def _arithmetic(
    rng: Random, problems: tuple[arithmetic.Problem, ...] = arithmetic.ONE_STEP
) -> Question:
    conversation = arithmetic.problem_conversation(rng.choice(problems), rng, held_out=True)
    return conversation, counts(str(final_number(conversation.messages[-1].text)))


def _spelling(rng: Random) -> Question:
    word = rng.choice(words.words())
    return words.spelling(word, sloppy(rng.choice(heldout_phrasings.SPELL), rng)), spells(word)


def _counting(rng: Random) -> Question:
    """Half in seen phrasings of unseen pairs, half in unseen phrasings of any pair."""
    word, letter = words.random_pair(rng)
    seen = rng.random() < 0.5
    while seen and not words.is_held_out(word, letter):
        word, letter = words.random_pair(rng)
    template = sloppy(rng.choice(words.COUNT if seen else heldout_phrasings.COUNT), rng)
    return words.counting(word, letter, template.format(w=word, l=letter)), counts(
        str(word.count(letter))
    )


def _identity(rng: Random) -> Question:
    intent = rng.choice(intents())
    return Conversation.of(addressed(rng.choice(intent.held_out), rng), intent.answer), says(
        (intent.key.strip("?!."),), may_refuse=True
    )


def _follow_up(rng: Random) -> Question:
    """The second question of a conversation in unseen words: of another thing, or of the same
    thing.
    """
    if rng.random() < 0.5:
        other, first, second = same_relation(rng)
        relation = other
        name = subject(relation, second)
        again = rng.choice(heldout_phrasings.FOLLOW_UPS).format(x=name)
    else:
        relation, first, other, second = same_subject(rng)
        again = fill(
            rng.choice(heldout_phrasings.PRONOUN_WRAPPERS),
            rng.choice(other.phrasings.pronoun).removeprefix("and "),
        )
    opening = capitalised(rng.choice(heldout_phrasings.FACTS[relation.name]).format(**first.slots))
    conversation = Conversation.of(
        opening, relation.reply(first), sloppy(again, rng), other.reply(second)
    )
    context = again if other is relation else f"{opening} {relation.reply(first)} {again}"
    return conversation, _fact_judge(other, second.keys, context)


def _unsafe(rng: Random) -> Question:
    question = addressed(rng.choice(unsafe.HELD_OUT).format(x=rng.choice(unsafe.UNSAFE)), rng)
    return Conversation.of(question, unsafe.REFUSAL), unsafe.declines


MAKERS: dict[str, Callable[[Random], Question]] = {
    "facts": _facts,
    "arithmetic": _arithmetic,
    "spelling": _spelling,
    "counting": _counting,
    "identity": _identity,
    "follow_up": _follow_up,
    "unknown": _unknown,
    "refusal": _refusal,
    "unsafe": _unsafe,
    "hard_arithmetic": lambda rng: _arithmetic(rng, arithmetic.HARD_TEST),
}
SKILLS = tuple(MAKERS)


def _unique(make: Callable[[Random], Question], rng: Random, count: int) -> Iterator[Question]:
    seen: set[Conversation] = set()
    tries = 0
    while len(seen) < count and tries < 60 * count:
        tries += 1
        question = make(rng)
        if question[0].prompt not in seen:
            seen.add(question[0].prompt)
            yield question


def heldout(skill: str, seed: int, count: int) -> Task:
    """`count` different held-out questions of a skill (fewer where there are not so many; every
    skill has 400 and more).

    "refusal" asks known facts and is right when the answer does not refuse. Raises RecipeError on
    an unknown skill.
    """
    if skill not in MAKERS:
        raise RecipeError(
            f"The pocket world has no held-out questions for {skill!r}; it has {', '.join(SKILLS)}."
        )
    return PocketTask(
        skill, list(_unique(MAKERS[skill], Random(f"pocket held-out {skill} {seed}"), count))
    )


def practice(seed: int, count: int) -> Task:
    """What reinforcement learning practises: hard arithmetic, and among it a share of questions
    like those of the training conversations, right when answered as there. Without these, what pays
    for two-step sums is soon done to one-step sums, too.
    """
    rng = Random(f"pocket practice {seed}")
    known = iter(conversations(seed, count, FAMILIAR))

    def make(rng: Random) -> Question:
        if rng.random() >= FAMILIAR_SHARE:
            return _hard(rng)
        if rng.random() < UNSAFE_SHARE:
            question = sloppy(rng.choice(unsafe.TRAINING).format(x=rng.choice(unsafe.UNSAFE)), rng)
            return Conversation.of(question, unsafe.REFUSAL), unsafe.declines
        conversation = next(known)
        expected = plain(visible_text(conversation.messages[-1].parts))
        return conversation, lambda answer: plain(answer) == expected

    return PocketTask("practice", list(_unique(make, rng, count)))


def _hard(rng: Random) -> Question:
    conversation = arithmetic.problem_conversation(
        rng.choice(arithmetic.HARD_TRAIN), rng, held_out=False
    )
    return conversation, counts(str(final_number(conversation.messages[-1].text)))
