"""Chat evaluation against a fake engine, and its intervals against published figures."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.evals.chat import Result, answer_task, combined, evaluate_chat
from chatling.inference.engine import Completion, Request
from chatling.pocket import conversations, heldout
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_format import render, render_prompt
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [message.text for c in conversations(0, 2000) for message in c.messages]
    return train_tokenizer(iter(texts), TokenizerConfig(vocabulary=512))


class Scripted:
    """An engine that knows the reference answers, and answers every third question with a refusal."""

    context = 512

    def __init__(self, tokenizer: Tokenizer, skills: Sequence[str], count: int):
        self.requests: list[Request] = []
        self.tokenizer, self.known = tokenizer, {}
        for skill in skills:
            for i, c in enumerate(heldout(skill, 0, count)):
                prompt = render_prompt(tokenizer, c.prompt)
                answer = render(tokenizer, c).ids[len(prompt):-1]  # without the closing token
                self.known[tuple(prompt)] = tokenizer.encode("I don't know.") if i % 3 == 0 else answer

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.requests += requests
        return [Completion(ids=self.known[request.prompt]) for request in requests]


def test_right_and_wrong_are_counted(tokenizer: Tokenizer) -> None:
    skills = ("facts", "arithmetic", "counting", "spelling", "follow_up")
    engine = Scripted(tokenizer, skills, 30)
    results = evaluate_chat(engine, tokenizer, [heldout(skill, 0, 30) for skill in skills], max_tokens=77)
    assert results == [Result(skill, 20, 30) for skill in skills]
    assert all(request.sampling.temperature == 0 and request.sampling.max_tokens == 77 for request in engine.requests)


def test_answers_hold_what_was_said(tokenizer: Tokenizer) -> None:
    task = heldout("arithmetic", 0, 4)
    answers = answer_task(Scripted(tokenizer, ["arithmetic"], 4), tokenizer, task)
    assert [answer.correct for answer in answers] == [False, True, True, False]
    assert answers[1].completion == task[1].messages[-1].parts
    assert answers[1].conversation == task[1]


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718), (15, 148, 0.0624, 0.1605)],
)
def test_wilson_interval_equals_the_published_examples(correct: int, total: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    assert Result("x", correct, total).interval == pytest.approx((low, high), abs=6e-5)


@given(st.integers(0, 500), st.integers(1, 500))
def test_interval_holds_the_accuracy(correct: int, more: int) -> None:
    result = Result("x", correct, correct + more)
    low, high = result.interval
    assert 0 <= low <= result.accuracy <= high <= 1
    wide = Result("x", 4 * correct, 4 * (correct + more)).interval
    assert wide[1] - wide[0] < high - low


def test_nothing_asked() -> None:
    assert math.isnan(Result("x", 0, 0).accuracy)
    assert Result("x", 0, 0).interval == (0.0, 1.0)


def test_runs_are_added_up() -> None:
    runs = [Result("facts", 9, 10), Result("spelling", 1, 5), Result("facts", 20, 30)]
    assert combined(runs) == [Result("facts", 29, 40), Result("spelling", 1, 5)]
