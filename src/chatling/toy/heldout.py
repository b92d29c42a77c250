"""Held-out questions, skill by skill, as tasks that judge an answer."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random
from typing import Any

from chatling.errors import RecipeError
from chatling.messages import Conversation, Part
from chatling.tasks.tables import load_table
from chatling.tasks.task import IndexedTask, Task, visible_text
from chatling.toy import arithmetic, unsafe, words
from chatling.toy.facts import capitalized
from chatling.toy.relations import Fact, Relation
from chatling.toy.smalltalk import addressed, intents
from chatling.toy.templates import sloppy
from chatling.toy.unknown import replies, unknown_question
from chatling.toy.world import conversations, follow_up, random_fact

REFUSAL = re.compile(
    r"\b(?:do not|don't|dont|cannot|can't) know\b|never heard|not in my (?:small )?world"
)
SPELLED = re.compile(r"\b[a-z](?:(?:[-,]| |, )[a-z])+\b")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
Judge = Callable[[str], bool]
Question = tuple[Conversation, Judge]


def phrasings(name: str) -> Any:
    """What `heldout.toml` has under a name."""
    return load_table("toy/heldout.toml")[name]


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


def counts(conversation: Conversation) -> Judge:
    """Right when the final number is that of the conversation's answer."""
    number = final_number(conversation.messages[-1].text)
    return lambda answer: final_number(answer) == number


class PocketTask(IndexedTask):
    """Questions of one skill, each with its own judge."""

    def __init__(self, name: str, questions: list[Question]):
        super().__init__(name, [conversation for conversation, _ in questions])
        self._judges = {conversation.prompt: judge for conversation, judge in questions}

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return self._judges[conversation.prompt](visible_text(completion))


def _fact_judge(relation: Relation, fact: Fact, context: str) -> Judge:
    """Other answers of the relation count as wrong, unless
    they are part of the question or of a right answer.
    """
    if relation.name == "about":
        return says(fact.keys)
    allowed = plain(" ".join((context, *fact.keys)))
    others = (other.keys[0] for other in relation.facts)
    return says(fact.keys, frozenset(o for o in others if not mentions(allowed, plain(o))))


def _asked(relation: Relation, fact: Fact, rng: Random) -> str:
    return capitalized(rng.choice(phrasings("facts")[relation.name]).format(**fact.slots))


def _facts(rng: Random) -> Question:
    relation, fact = random_fact(rng)
    question = sloppy(_asked(relation, fact, rng), rng)
    return (
        Conversation.of(question, relation.reply(fact)),
        _fact_judge(relation, fact, question),
    )


def _refusal(rng: Random) -> Question:
    """A known fact, right whenever the answer does not refuse."""
    conversation, _ = _facts(rng)
    return conversation, lambda answer: not refuses(answer)


def _unknown(rng: Random) -> Question:
    return Conversation.of(sloppy(unknown_question(rng, True), rng), replies()[0]), refuses


def _arithmetic(rng: Random, kind: str = "one_step", held_out: bool = True) -> Question:
    problem = rng.choice(arithmetic.problems(kind))
    conversation = arithmetic.problem_conversation(problem, rng, held_out)
    return conversation, counts(conversation)


def _spelling(rng: Random) -> Question:
    word = rng.choice(words.words())
    return words.spelling(word, sloppy(rng.choice(phrasings("spell")), rng)), spells(word)


def _counting(rng: Random) -> Question:
    """Half in seen phrasings of unseen pairs, half in unseen phrasings of any pair."""
    word, letter = words.random_pair(rng)
    seen = rng.random() < 0.5
    while seen and not words.is_held_out(word, letter):
        word, letter = words.random_pair(rng)
    table = load_table("toy/words.toml" if seen else "toy/heldout.toml")
    question = sloppy(rng.choice(table["count"]), rng).format(w=word, l=letter)
    conversation = words.counting(word, letter, question)
    return conversation, counts(conversation)


def _identity(rng: Random) -> Question:
    intent = rng.choice(intents())
    conversation = Conversation.of(addressed(rng.choice(intent.held_out), rng), intent.answer)
    return conversation, says((intent.key.strip("?!."),), may_refuse=True)


def _follow_up(rng: Random) -> Question:
    """The second question of a conversation in unseen words, of the same thing or of another."""
    same = rng.random() >= 0.5
    talk, relation, fact = follow_up(rng, same, load_table("toy/heldout.toml"), _asked)
    asked = talk.prompt.messages if same else talk.prompt.messages[-1:]
    return talk, _fact_judge(relation, fact, " ".join(message.text for message in asked))


def _unsafe(rng: Random) -> Question:
    question = addressed(unsafe.requested(rng, phrasings("unsafe")), rng)
    return unsafe.declined(question), unsafe.declines


MAKERS: Mapping[str, Callable[[Random], Question]] = {
    "facts": _facts,
    "arithmetic": _arithmetic,
    "spelling": _spelling,
    "counting": _counting,
    "identity": _identity,
    "follow_up": _follow_up,
    "unknown": _unknown,
    "refusal": _refusal,
    "unsafe": _unsafe,
    "hard_arithmetic": partial(_arithmetic, kind="hard_test"),
}
SKILLS = tuple(MAKERS)


def _unique(make: Callable[[Random], Question], seed: str, count: int) -> Iterator[Question]:
    """Up to `count` different questions; it gives up where most come up again."""
    rng, seen = Random(seed), set[Conversation]()
    for _ in range(60 * count):
        if len(seen) == count:
            return
        question = make(rng)
        if question[0].prompt not in seen:
            seen.add(question[0].prompt)
            yield question


def heldout(skill: str, seed: int, count: int) -> Task:
    """`count` different held-out questions of a skill (fewer where there are not so many; every
    skill has 400 and more).

    "refusal" asks known facts and is right when the answer
    does not refuse. Raises RecipeError on an unknown skill.
    """
    if skill not in MAKERS:
        raise RecipeError(
            f"The pocket world has no held-out questions for {skill!r}; it has {', '.join(SKILLS)}."
        )
    questions = _unique(MAKERS[skill], f"pocket held-out {skill} {seed}", count)
    return PocketTask(skill, list(questions))


# of practice, how much is familiar, what that is made of, and how much of it is unsafe
FAMILIAR_SHARE, UNSAFE_SHARE = 0.35, 0.015
FAMILIAR = {
    "facts": 0.1,
    "arithmetic": 0.15,
    "spelling": 0.15,
    "counting": 0.1,
    "unknown": 0.2,
    "identity": 0.15,
    "follow_up": 0.15,
}


def practice(seed: int, count: int) -> Task:
    """What reinforcement learning practises: hard arithmetic, and among it a share of questions
    like those of the training conversations, right when answered as there. Without these, what pays
    for two-step sums is soon done to one-step sums, too.
    """
    known = iter(conversations(seed, count, FAMILIAR))

    def make(rng: Random) -> Question:
        if rng.random() >= FAMILIAR_SHARE:
            return _arithmetic(rng, "hard_train", held_out=False)
        if rng.random() < UNSAFE_SHARE:
            training = load_table("toy/unsafe.toml")["training"]
            return unsafe.declined(sloppy(unsafe.requested(rng, training), rng)), unsafe.declines
        conversation = next(known)
        expected = plain(visible_text(conversation.messages[-1].parts))
        return conversation, lambda answer: plain(answer) == expected

    return PocketTask("practice", list(_unique(make, f"pocket practice {seed}", count)))
