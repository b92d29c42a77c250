"""The questions in free wording: as many as said, judged fairly, and far from training text."""

import re

from chatling.messages import Part
from chatling.toy import conversations
from chatling.toy.free import free
from chatling.toy.unsafe import declined

N = 7  # words in a row; fewer are shared by any two questions on one fact


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))


def test_four_hundred_questions_accept_their_own_answers() -> None:
    task = free()
    assert len(task) == 400 == len({c.prompt for c in task})
    assert all(task.score(c, c.messages[-1].parts) for c in task)


def test_one_answer_to_everything_earns_little() -> None:
    task = free()
    for text in ("I don't know. That is not in my small world.", declined("x").messages[-1].text):
        assert sum(task.score(c, (Part("text", text),)) for c in task) < 30


def test_repeating_the_question_earns_nearly_nothing() -> None:
    """Only a choice of two and what may not be declined name their answer."""
    task = free()
    echoed = [c for c in task if task.score(c, (Part("text", c.prompt.messages[-1].text),))]
    assert len(echoed) < 35


def test_no_training_conversation_comes_near() -> None:
    asked = [words(c.prompt.messages[-1].text) for c in free()]
    whole = {tuple(each) for each in asked}
    runs = {tuple(each[i : i + N]) for each in asked for i in range(len(each) - N + 1)}
    for conversation in conversations(0, 3_000):
        trained = words(conversation.prompt.messages[-1].text)
        assert len(trained) < 4 or tuple(trained) not in whole, trained
        assert not runs & {tuple(trained[i : i + N]) for i in range(len(trained) - N + 1)}, trained
