"""Word problems answered through the calculator: one step,
two steps, and a hard split of unseen two-step templates.
"""

import operator
from collections.abc import Sequence
from functools import cache
from zlib import crc32

from chatling.messages import Conversation, Message, Part
from chatling.toy.language import ENGLISH, Language, Random
from chatling.toy.stories import Problem, one_step, two_steps
from chatling.toy.typed import typed

HELD_OUT_ONE_IN = 5
TYPED = 0.5  # of problems, those that are typed in haste
SPOKEN = 0.3  # of problems, those that are told in few words
# in whole numbers
STEPS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}


@cache
def problems(kind: str, language: Language = ENGLISH) -> tuple[Problem, ...]:
    """The templates of one_step, two_steps, spoken, leaning, hard_train or hard_test."""
    rows = (line.split(" | ") for line in language.table("arithmetic").get(kind, ()))
    return tuple(Problem(story, tuple(steps.split("; "))) for steps, story in rows)


def is_held_out(numbers: Sequence[int]) -> bool:
    """Number combinations kept for tests."""
    return crc32(",".join(map(str, numbers)).encode()) % HELD_OUT_ONE_IN == 0


def _numbers(problem: Problem, rng: Random) -> tuple[int, ...]:
    """Numbers whose every step is a whole number from 1 to 400."""
    first, *rest = problem.steps
    if first == "a*b":
        a, b = rng.randint(2, 12), rng.randint(2, 20)
    elif first == "a/b":
        b = rng.randint(2, 12)
        a = b * rng.randint(2, 12)
    else:
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        if first == "a-b" and b >= a:
            a, b = (b, a) if a != b else (a + 5, b)
    if not rest:
        return a, b
    so_far, sign = STEPS[first[1]](a, b), rest[0][1]
    if sign == "-":
        return (a, b, rng.randint(1, so_far - 1)) if so_far > 1 else _numbers(problem, rng)
    if sign == "/":
        divisors = [c for c in range(2, 13) if so_far % c == 0]
        return (a, b, rng.choice(divisors)) if divisors else _numbers(problem, rng)
    return a, b, rng.randint(2, 9) if sign == "*" else rng.randint(2, 60)


def problem_conversation(problem: Problem, rng: Random, held_out: bool) -> Conversation:
    """A problem told with names and numbers, and its worked answer: "12+7=" calculator "19
    apples.", then "#### 19".
    """
    while is_held_out(numbers := _numbers(problem, rng)) != held_out:
        pass
    table, grammar = rng.language.table("arithmetic"), rng.language.table("grammar")
    values = dict(zip("abc", numbers, strict=False))
    name, other = rng.sample(table["names"], 2)
    *unit, item = rng.choice(table["items"]).split()
    things = {"i": item, "u": "".join(unit)}
    told = {f"{letter}w": in_words(n, rng.language) for letter, n in values.items()}
    question = problem.story.format(n=name, m=other, **things, **values, **told)
    parts, lead = [], ""
    for step in problem.steps:
        left, right = values[step[0]], values[step[2]]
        expression = f"{left}{step[1]}{right}"
        values["x"] = STEPS[step[1]](left, right)
        parts += [
            Part("text", f"{lead}{expression}="),
            Part("python", expression),
            Part("output", str(values["x"])),
        ]
        lead = f"{values['x']}{rng.language.stop}{rng.language.gap}"
    counted = grammar["how_many"].format(**things) in question
    amount = grammar["amount"].format(**things) * counted
    parts.append(Part("text", f"{values['x']}{amount}{rng.language.stop}\n#### {values['x']}"))
    return Conversation((Message.of("user", question), Message("assistant", tuple(parts))))


def in_words(number: int, language: Language = ENGLISH) -> str:
    """ "forty-two"; in digits beyond two of them, or where the language has no words."""
    table = language.table("arithmetic")
    if number > 99 or "units" not in table:
        return str(number)
    ten, unit = divmod(number, 10)
    if number < len(table["units"]):
        return str(table["units"][number])
    return table["tens"][ten - 2] + (f"-{table['units'][unit]}" if unit else "")


def training_problem(rng: Random) -> Problem:
    """From the tables or put together, one step or two; never a template of the hard split."""
    spoken = problems("spoken", rng.language)
    if spoken and rng.random() < SPOKEN:
        return rng.choice(spoken)
    luck = rng.random()
    if luck < 0.55:
        return rng.choice(problems("one_step" if luck < 0.4 else "two_steps", rng.language))
    hard = {
        problem.story
        for kind in ("hard_train", "hard_test")
        for problem in problems(kind, rng.language)
    }
    while (made := (one_step if luck < 0.65 else two_steps)(rng)).story in hard:
        pass
    return made


def training_arithmetic(rng: Random) -> Conversation:
    """Half take one step. Held-out numbers never come up."""
    conversation = problem_conversation(training_problem(rng), rng, held_out=False)
    if not rng.language.table("typed"):
        return conversation
    return typed_question(conversation, rng)


def typed_question(conversation: Conversation, rng: Random) -> Conversation:
    """With its first question as a person would type it."""
    first, *rest = conversation.messages
    question = typed(first.text, rng) if rng.random() < TYPED else first.text
    return Conversation((Message.of("user", question), *rest))
