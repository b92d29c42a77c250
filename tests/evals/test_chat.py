"""Chat evaluation against a fake engine, and its intervals against published figures."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chatling.data.hub import Fetcher
from chatling.errors import MachineError
from chatling.evals.chat import (
    Result,
    answer_task,
    chatcore,
    choose_answers,
    combined,
    evaluate_chat,
    open_chat_tasks,
    pass_at_k,
    write_chat,
)
from chatling.evals.loglikelihood import ModelScorer
from chatling.inference.engine import Completion, Engine, Request
from chatling.messages import Conversation, Part
from chatling.run_dir import RunFolder, read_json
from chatling.tasks.registry import CHAT_TASKS
from chatling.tasks.task import Task
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render, render_prompt
from chatling.toy import SKILLS, heldout
from chatling.toy.heldout import PocketTask

from .conftest import MakeModel


class Scripted:
    """An engine that knows the reference answers, and answers every third question with a
    refusal.
    """

    context = 512

    def __init__(self, tokenizer: Tokenizer, skills: Sequence[str], count: int):
        self.requests: list[Request] = []
        self.tokenizer, self.known = tokenizer, {}
        for skill in skills:
            for i, c in enumerate(heldout(skill, 0, count)):
                prompt = render_prompt(tokenizer, c.prompt)
                answer = render(tokenizer, c).ids[len(prompt) : -1]  # without the closing token
                self.known[tuple(prompt)] = (
                    tokenizer.encode("I don't know.") if i % 3 == 0 else answer
                )

    def generate(self, requests: Sequence[Request], ended: Callable[[], None]) -> list[Completion]:
        self.requests += requests
        return [Completion(ids=self.known[request.prompt]) for request in requests]


def test_right_and_wrong_are_counted(tokenizer: Tokenizer) -> None:
    skills = ("facts", "arithmetic", "counting", "spelling", "follow_up")
    engine = Scripted(tokenizer, skills, 30)
    results = evaluate_chat(
        engine, tokenizer, [heldout(skill, 0, 30) for skill in skills], max_tokens=77
    )
    assert results == [Result(skill, 20, 30) for skill in skills]
    assert all(
        request.sampling.temperature == 0 and request.sampling.max_tokens == 77
        for request in engine.requests
    )


def test_parts_of_a_task_have_results_of_their_own(tokenizer: Tokenizer) -> None:
    questions = [heldout("facts", 0, 30)[i] for i in range(30)]
    parts = {c.prompt: "even" if i % 2 == 0 else "odd" for i, c in enumerate(questions)}
    whole = heldout("facts", 0, 30)
    task = PocketTask("mixed", [(c, lambda text: "know" not in text) for c in questions], parts)
    engine = Scripted(tokenizer, ["facts"], 30)
    found = evaluate_chat(engine, tokenizer, [task.shuffled(3), whole])
    assert found == [
        Result("mixed", 20, 30),
        Result("mixed: even", 10, 15, part=True),
        Result("mixed: odd", 10, 15, part=True),
        Result("facts", 20, 30),
    ]
    assert [each.total for each in combined([*found, *found])] == [60, 30, 30, 60]


def test_answers_hold_what_was_said(tokenizer: Tokenizer) -> None:
    task = heldout("arithmetic", 0, 4)
    answers = answer_task(Scripted(tokenizer, ["arithmetic"], 4), tokenizer, task)
    assert [answer.correct for (answer,) in answers] == [False, True, True, False]
    assert answers[1][0].completion == task[1].messages[-1].parts
    assert answers[1][0].conversation == task[1]


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (15, 148, 0.0624, 0.1605),
    ],
)
def test_wilson_interval_equals_the_published_examples(
    correct: int, total: int, low: float, high: float
) -> None:
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


class Letters(Task):
    """Questions whose right letter is drawn by lot, some with two letters in play, one far too
    long.
    """

    name, kind, baseline = "letters", "categorical", 0.25

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Conversation:
        letters = self.letters(index)
        return Conversation.of(
            f"Question {index}" + " and on" * (200 if index == 5 else 1),
            letters[index * 7 % len(letters)],
        )

    def letters(self, index: int) -> tuple[str, ...]:
        return ("A", "B") if index % 3 == 0 else ("A", "B", "C", "D")

    def choices(self, conversation: Conversation) -> tuple[str, ...]:
        return self.letters(int(conversation.messages[0].text.split()[1]))

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        raise AssertionError("the letters are compared, nothing is written")


def test_only_the_letters_in_play_compete(make_model: MakeModel, tokenizer: Tokenizer) -> None:
    """Against the logits of each question alone."""
    model, task = make_model(context=64), Letters()
    verdicts, cropped = choose_answers(ModelScorer(model), tokenizer, task)
    assert cropped == 1
    expected = []
    for i, example in enumerate(task):
        ids = render_prompt(tokenizer, example.prompt)[-64:]
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([ids])))[0, -1]
        letters = task.letters(i)
        best = max(letters, key=lambda letter: float(logits[tokenizer.encode(letter)[0]]))
        expected.append(best == example.messages[-1].text)
    assert verdicts == expected
    assert True in verdicts
    assert False in verdicts
    (result,) = evaluate_chat(SimpleNamespace(model=model), tokenizer, [task])  # type: ignore[arg-type]
    assert result == Result("letters", sum(expected), 12, 0.25, too_long=1)
    assert result.centered == pytest.approx((sum(expected) / 12 - 0.25) / 0.75)


class Dice:
    """An engine that is right by the parity of the request's seed, and reads only short prompts."""

    context = 18

    def __init__(self, tokenizer: Tokenizer, task: Task):
        self.tokenizer, self.seeds = tokenizer, list[int]()
        self.known = {tuple(render_prompt(tokenizer, c.prompt)): c for c in task}

    def generate(self, requests: Sequence[Request], ended: Callable[[], None]) -> list[Completion]:
        self.seeds += [request.sampling.seed for request in requests]
        assert all(len(request.prompt) < self.context for request in requests)
        return [
            Completion(
                ids=self.tokenizer.encode(
                    self.known[request.prompt].messages[-1].text
                    if request.sampling.seed % 2
                    else "no"
                )
            )
            for request in requests
        ]


def test_several_answers_to_each_question(tokenizer: Tokenizer) -> None:
    task = heldout("facts", 0, 25)
    engine = Dice(tokenizer, task)
    fits = sum(len(prompt) < engine.context for prompt in engine.known)
    assert 0 < fits < 25
    (result,) = evaluate_chat(engine, tokenizer, [task], samples=4, temperature=1.0, seed=8)  # type: ignore[arg-type]
    assert len(engine.seeds) == len(set(engine.seeds)) == 4 * fits
    assert result.too_long == 25 - fits
    assert result.correct == pytest.approx(fits / 2)  # of four answers to each, two are right
    assert result.total == 25
    assert dict(result.passes) == {
        k: pytest.approx(fits / 25 * rate) for k, rate in ((1, 1 / 2), (2, 5 / 6), (4, 1.0))
    }
    assert (
        result.interval == Result("x", result.correct, 25).interval
    )  # four answers to a question are not four questions


class Unjudgeable(Letters):
    kind = "generative"

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        raise MachineError("no sandbox")


def test_a_task_that_cannot_be_judged_is_refused_before_it_is_answered(
    tokenizer: Tokenizer,
) -> None:
    task = Unjudgeable()
    engine = Dice(tokenizer, task)
    with pytest.raises(MachineError, match="no sandbox"):
        evaluate_chat(engine, tokenizer, [task])  # type: ignore[arg-type]
    assert not engine.seeds


@pytest.mark.parametrize(
    ("samples", "right", "k", "rate"),
    [(4, 2, 2, 5 / 6), (4, 0, 4, 0), (4, 4, 1, 1), (10, 3, 5, 1 - 21 / 252)],
)
def test_pass_at_k(samples: int, right: int, k: int, rate: float) -> None:
    assert pass_at_k(samples, right, k) == pytest.approx(rate)


def test_chatcore_needs_every_task(tmp_path: Path) -> None:
    results = [Result("ARC-Easy", 50, 100, 0.25), Result("GSM8K", 3, 10)]
    assert chatcore(results, ["ARC-Easy", "GSM8K"]) == pytest.approx((1 / 3 + 0.3) / 2)
    assert chatcore(results, ["ARC-Easy", "GSM8K", "MMLU"]) is None
    assert chatcore(results, []) is None
    write_chat(RunFolder(tmp_path), "sft", results, ["ARC-Easy", "GSM8K"], samples=1)
    written = read_json(tmp_path / "evals/sft-chat.json")
    assert written["chatcore"] == pytest.approx((1 / 3 + 0.3) / 2)
    assert written["results"][0]["baseline"] == 0.25
    assert written["results"][1]["interval"] == pytest.approx(results[1].interval)


def test_the_six_tasks_of_the_reference(
    fetcher: Fetcher, make_model: MakeModel, tokenizer: Tokenizer
) -> None:
    """On the real files: letters for the first three, writing for the others, all counted."""
    tasks = open_chat_tasks(["all", "pocket"], 0, 3, lambda: fetcher)
    assert [task.name for task in tasks] == [*CHAT_TASKS, *SKILLS]
    assert [task.name for task in tasks if task.kind == "categorical"] == [
        "ARC-Easy",
        "ARC-Challenge",
        "MMLU",
    ]
    engine = Engine(make_model(context=512, dtype=torch.float32), tokenizer, max_batch_size=4)
    found = evaluate_chat(
        engine, tokenizer, [task for task in tasks[:6] if task.name != "HumanEval"], max_tokens=4
    )
    assert [(result.total, result.baseline) for result in found] == [
        (3, 0.25),
        (3, 0.25),
        (3, 0.25),
        (3, 0.0),
        (3, 0.0),
    ]
