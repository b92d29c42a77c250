"""The questions in free wording: as many as said, judged fairly, and far from training text."""

from chatling.messages import Conversation, Part
from chatling.toy import conversations
from chatling.toy.decontamination import comes_near, words
from chatling.toy.free import free
from chatling.toy.unsafe import declined


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
    """No seven words in a row, and no whole question; fewer words are shared by any two."""
    asked = [words(c.prompt.messages[-1].text) for c in free()]
    whole = {each for each in asked if len(each) >= 4}
    runs = {each[i : i + 7] for each in asked for i in range(len(each) - 6)}
    assert len(runs) > 300
    for conversation in conversations(0, 20_000):
        trained = words(conversation.prompt.messages[-1].text)
        assert trained not in whole
        assert not runs & {trained[i : i + 7] for i in range(len(trained) - 6)}, trained


def test_what_comes_near_is_found() -> None:
    asked = (c.prompt.messages[-1].text for c in free())
    question = next(text for text in asked if len(words(text)) > 7)
    for text in (question, question.upper() + "!", f"So, please: {question}"):
        assert comes_near(Conversation.of(text, "x"))
    assert not comes_near(Conversation.of("What is the capital of France?", "Paris."))
