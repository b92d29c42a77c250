"""GSM8K's calculator annotations against the calculator, and which numbers count as given."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.messages import Message, Part
from chatling.tasks.gsm8k import GSM8K, marked_number, worked_answer
from chatling.tasks.registry import load_task
from chatling.tools.calculator import calculate

TOLERANCE = Fraction(1, 100)  # annotated results are rounded to two decimals


def number(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", ""))
    except ValueError:
        return None


def test_all_tool_calls_evaluate_to_the_annotated_result(fetcher: Any) -> None:
    items, calls, exceptions = 0, 0, []
    for split in ("train", "test"):
        for example in load_task("GSM8K", split, fetcher):
            items += 1
            parts = example.messages[1].parts
            for part, following in itertools.pairwise(parts):
                if part.kind == "python":
                    calls += 1
                    assert following.kind == "output"
                    value, annotated = calculate(part.text), number(following.text)
                    if (
                        value is None
                        or annotated is None
                        or abs(Fraction(value) - annotated) > TOLERANCE
                    ):
                        exceptions.append((part.text, following.text, value))
            assert "<<" not in example.messages[1].text
    assert (items, calls) == (8_792, 27_998)
    # Fraction reads "3/4" as the number that it is; a calculator would have said 0.75
    assert exceptions == []


def test_the_one_result_that_no_calculator_writes(fetcher: Any) -> None:
    parts = [
        p
        for example in load_task("GSM8K", "test", fetcher)
        for p in example.messages[1].parts
        if p.kind == "output"
    ]
    parts += [
        p
        for example in load_task("GSM8K", "train", fetcher)
        for p in example.messages[1].parts
        if p.kind == "output"
    ]
    odd = []
    for part in parts:
        try:
            float(part.text.replace(",", ""))
        except ValueError:
            odd.append(part.text)
    assert odd == ["3/4"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 18", 18),
        ("so 5\n#### 1,234,567", 1234567),
        ("#### $70,000", 70000),
        ("####-3", -3),
        ("#### -$3.50", Fraction(-7, 2)),
        ("#### 18.00", 18),
        ("#### .5", Fraction(1, 2)),
        ("#### 18.", 18),
        ("#### 1\n#### 2", 2),
        ("18", None),
        ("#### none", None),
        ("", None),
        ("####" + "9" * 5000, None),
        ("#### 5 apples", 5),
        ("#### 5,", 5),
    ],
)
def test_the_number_behind_the_mark(text: str, value: Fraction | None) -> None:
    assert marked_number(text) == value


@given(st.text(alphabet="<>=#0123456789+ .,$-\n", max_size=60))
def test_any_text_is_taken(text: str) -> None:
    marked_number(text)
    assert "".join(part.text for part in worked_answer(text) if part.kind == "text") is not None


annotations = st.tuples(
    st.text("abc \n", max_size=5),
    st.text("0123456789+*", min_size=1),
    st.text("0123456789.", min_size=1),
)


@given(st.lists(annotations, max_size=5))
def test_annotations_are_taken_apart_where_they_stand(pieces: list[tuple[str, str, str]]) -> None:
    text = "".join(
        f"{before}<<{expression}={result}>>{result}" for before, expression, result in pieces
    )
    parts = worked_answer(text)
    assert [(p.text, q.text) for p, q in itertools.pairwise(parts) if p.kind == "python"] == [
        piece[1:] for piece in pieces
    ]
    assert "".join(part.text for part in parts if part.kind == "text") == "".join(
        before + result for before, _, result in pieces
    )


def test_a_right_answer_needs_the_mark(fetcher: Any) -> None:
    task = load_task("GSM8K", "test", fetcher)
    assert task.score(
        task[0],
        (
            Part("text", "That is"),
            Part("python", "9*2"),
            Part("output", "18"),
            Part("text", "18.\n#### 18.0"),
        ),
    )
    assert not task.score(task[0], (Part("text", "It is 18."),))
    assert not task.score(task[0], (Part("text", "####"), Part("output", "18")))
    assert task.reward(task[0], (Part("text", "#### 17"),)) == 0.0


def test_the_reward_agrees_with_gsm8k_s_own_answers(data_pack: Path) -> None:
    """All 8,792: the reference answer is paid, another number is not, and the number is the one
    behind the data set's mark.
    """
    seen = 0
    for split in ("train", "test"):
        path = data_pack / "gsm8k" / f"{split}.jsonl"
        task = GSM8K([path])
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(task) == len(lines)
        for example, line in zip(task, lines, strict=True):
            number = Fraction(json.loads(line)["answer"].rsplit("\n#### ", 1)[1].replace(",", ""))
            assert task.reward(example, example.messages[-1].parts) == 1.0
            for offset, paid in ((0, 1.0), (1, 0.0)):
                said = (Part("text", f"So it is\n#### {number + offset}"),)
                assert task.reward(example, said) == paid
            assert task.reward(example, (Part("text", f"{number}"),)) == 0.0  # unmarked
            seen += 1
    assert seen == 8_792
    assert isinstance(example.messages[-1], Message)
