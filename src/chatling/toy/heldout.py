"""Held-out questions, skill by skill, as tasks that judge an answer."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from chatling.errors import RecipeError
from chatling.messages import Conversation, Part
from chatling.tasks.task import IndexedTask, Task, visible_text
from chatling.toy import arithmetic, characters, unsafe, words
from chatling.toy.facts import capitalized
from chatling.toy.follow_ups import follow_up, random_fact
from chatling.toy.language import CHINESE, ENGLISH, Language, Random
from chatling.toy.relations import Fact, Relation
from chatling.toy.smalltalk import addressed, intents
from chatling.toy.typed import sloppy
from chatling.toy.unknown import replies, unknown_question
from chatling.toy.world import conversations

REFUSAL = re.compile(
    r"\b(?:do not|don't|dont|cannot|can't) know\b|never heard|not in my (?:small )?world"
    r"|不知道|没听说过|没有听说过|不认识|不在我的小世界"
)
SPELLED = re.compile(r"\b[a-z](?:(?:[-,]| |, )[a-z])+\b")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
Judge = Callable[[str], bool]
Question = tuple[Conversation, Judge]


def phrasings(name: str, language: Language = ENGLISH) -> Any:
    """What `heldout.toml` has under a name."""
    return language.table("heldout")[name]


def plain(text: str) -> str:
    """Lower case, straight apostrophes, single spaces."""
    return " ".join(text.replace("’", "'").lower().split())


def mentions(text: str, phrase: str) -> bool:
    """Whether `phrase` stands in `text` at word boundaries, if the script has any; both plain."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.ASCII) is not None


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


def concludes(word: str) -> Judge:
    """Right when what stands behind the last "是" is the word, its characters together or apart."""
    return lambda answer: re.sub(r"\W", "", answer.rpartition("是")[2]) == word


def counts(conversation: Conversation) -> Judge:
    """Right when the final number is that of the conversation's answer."""
    number = final_number(conversation.messages[-1].text)
    return lambda answer: final_number(answer) == number


class PocketTask(IndexedTask):
    """Questions of one skill, each with its own judge; or of several, named by their prompts."""

    def __init__(
        self,
        name: str,
        questions: list[Question],
        parts: Mapping[Conversation, str] = MappingProxyType({}),
    ):
        super().__init__(name, [conversation for conversation, _ in questions])
        self._judges = {conversation.prompt: judge for conversation, judge in questions}
        self._parts = parts

    def part(self, conversation: Conversation) -> str:
        return self._parts.get(conversation.prompt, "")

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
    return capitalized(
        rng.choice(phrasings("facts", rng.language)[relation.name]).format(**fact.slots)
    )


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
    question = sloppy(unknown_question(rng, True), rng)
    return Conversation.of(question, replies(rng.language)[0]), refuses


def _arithmetic(rng: Random, kind: str = "one_step", held_out: bool = True) -> Question:
    problem = rng.choice(arithmetic.problems(kind, rng.language))
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
    table = rng.language.table("words" if seen else "heldout")
    question = sloppy(rng.choice(table["count"]), rng).format(w=word, l=letter)
    conversation = words.counting(word, letter, question)
    return conversation, counts(conversation)


def _characters(rng: Random, kind: str) -> Question:
    """Half in seen phrasings of unseen words or places, half in unseen phrasings of any."""
    seen = rng.random() < 0.5
    word, place = characters.asked(kind, rng, held_out=seen or rng.random() < 1 / 6)
    question = rng.choice(rng.language.table("words" if seen else "heldout")[kind])
    conversation = characters.characters(kind, word, place, question, rng)
    if kind == "length":
        return conversation, counts(conversation)
    return conversation, concludes(word[::-1] if kind == "reverse" else word[place - 1])


def _identity(rng: Random) -> Question:
    intent = rng.choice(intents(rng.language))
    conversation = Conversation.of(addressed(rng.choice(intent.held_out), rng), intent.answer)
    return conversation, says((intent.key.strip("?!.？！。"),), may_refuse=True)


def _follow_up(rng: Random) -> Question:
    """The second question of a conversation in unseen words, of the same thing or of another."""
    same = rng.random() >= 0.5
    talk, relation, fact = follow_up(rng, same, rng.language.table("heldout"), _asked)
    asked = talk.prompt.messages if same else talk.prompt.messages[-1:]
    return talk, _fact_judge(relation, fact, " ".join(message.text for message in asked))


def _unsafe(rng: Random) -> Question:
    question = addressed(unsafe.requested(rng, phrasings("unsafe", rng.language)), rng)
    return unsafe.declined(question, rng.language), unsafe.declines


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
    **{kind: partial(_characters, kind=kind) for kind in characters.CHARACTER_KINDS},
}
SKILLS = tuple(name for name in MAKERS if name not in characters.CHARACTER_KINDS)
CHINESE_SKILLS = tuple(name for name in MAKERS if name not in ("spelling", "counting"))
SKILLS_IN: Mapping[Language, tuple[str, ...]] = {ENGLISH: SKILLS, CHINESE: CHINESE_SKILLS}


def _unique(
    make: Callable[[Random], Question], seed: str, count: int, language: Language
) -> Iterator[Question]:
    """Up to `count` different questions; it gives up where most come up again."""
    rng, seen = Random(f"{language.name} {seed}", language), set[Conversation]()
    for _ in range(60 * count):
        if len(seen) == count:
            return
        question = make(rng)
        if question[0].prompt not in seen:
            seen.add(question[0].prompt)
            yield question


def heldout(skill: str, seed: int, count: int, language: Language = ENGLISH) -> Task:
    """`count` different held-out questions of a skill (fewer where there are not so many; every
    skill has 400 and more).

    "refusal" asks known facts and is right when the answer
    does not refuse. Raises RecipeError on an unknown skill.
    """
    known = SKILLS_IN[language]
    if skill not in known:
        raise RecipeError(
            f"The {language.name} world has no held-out questions for {skill!r}; it has"
            f" {', '.join(known)}."
        )
    questions = _unique(MAKERS[skill], f"held-out {skill} {seed}", count, language)
    return PocketTask(skill, list(questions))


# of practice, how much is familiar, what that is made of, and how much of it is unsafe
FAMILIAR_SHARE, UNSAFE_SHARE = 0.35, 0.015
FAMILIAR = {
    "talk": 0.1,
    "harmless": 0.02,
    "facts": 0.1,
    "arithmetic": 0.15,
    "spelling": 0.15,
    "counting": 0.1,
    "unknown": 0.2,
    "identity": 0.15,
    "follow_up": 0.15,
}
CHINESE_FAMILIAR = {name: FAMILIAR[name] for name in FAMILIAR if name in CHINESE_SKILLS} | {
    "place": 0.15,
    "reverse": 0.1,
}
FAMILIAR_IN = {ENGLISH: FAMILIAR, CHINESE: CHINESE_FAMILIAR}


def practice(seed: int, count: int, language: Language = ENGLISH) -> Task:
    """What reinforcement learning practises: hard arithmetic, and among it a share of questions
    like those of the training conversations, right when answered as there. Without these, what pays
    for two-step sums is soon done to one-step sums, too.
    """
    known = iter(conversations(seed, count, FAMILIAR_IN[language], language))

    def make(rng: Random) -> Question:
        if rng.random() >= FAMILIAR_SHARE:
            return _arithmetic(rng, "hard_train", held_out=False)
        if rng.random() < UNSAFE_SHARE:
            return unsafe.declined(unsafe.training_request(rng), language), unsafe.declines
        conversation = next(known)
        expected = plain(visible_text(conversation.messages[-1].parts))
        return conversation, lambda answer: plain(answer) == expected

    return PocketTask("practice", list(_unique(make, f"practice {seed}", count, language)))
