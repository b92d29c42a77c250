"""Samples: fixed prompts, the same answer each time, the calculator shown."""

from __future__ import annotations

from collections.abc import Sequence

from chatling.evals.samples import PROBES, sample_answers, sample_texts
from chatling.inference.engine import Completion, Request
from chatling.tokenizer.bpe import Tokenizer


def tokenizer() -> Tokenizer:
    return Tokenizer([bytes([byte]) for byte in range(256)], digits=1)


class Scripted:
    """An engine that answers every prompt with the same tokens, and keeps the prompts."""

    def __init__(self, ids: list[int]):
        self.tokenizer, self.ids, self.asked = tokenizer(), ids, []

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        return [Completion(ids=self.ids) for _ in requests]


def test_a_base_model_goes_on_with_a_text_and_a_chat_model_answers_a_question() -> None:
    t = tokenizer()
    engine = Scripted(t.encode(" there"))
    base = sample_texts(engine)  # type: ignore[arg-type]
    chat = sample_answers(engine)  # type: ignore[arg-type]
    assert [each.prompt for each in base] == [probe.opening for probe in PROBES]
    assert [each.prompt for each in chat] == [probe.question for probe in PROBES]
    assert engine.asked[0].prompt == (t.bos, *t.encode(PROBES[0].opening))
    asked = engine.asked[len(PROBES)].prompt
    assert asked == (
        t.bos,
        t.user_start,
        *t.encode(PROBES[0].question),
        t.user_end,
        t.assistant_start,
    )
    assert {each.text for each in base} == {" there"}
    assert all(request.sampling.greedy for request in engine.asked)


def test_the_article_s_own_questions_are_among_them_in_both_languages() -> None:
    asked = " ".join(probe.question for probe in PROBES)
    assert all(
        word in asked
        for word in ("Li Bai", "李白", "capital of France", "法国的首都", "1+1", "Who are you")
    )


def test_a_call_of_the_calculator_is_shown_with_its_result() -> None:
    t = tokenizer()
    call = [
        t.python_start,
        *t.encode("1+1"),
        t.python_end,
        t.output_start,
        *t.encode("2"),
        t.output_end,
    ]
    found = sample_answers(Scripted([*t.encode("So: "), *call, *t.encode("\n#### 2")]))  # type: ignore[arg-type]
    assert found[0].text == "So: [1+1 = 2]\n#### 2"
    assert sample_answers(Scripted(call[:4]))[0].text == "[1+1"  # type: ignore[arg-type]
