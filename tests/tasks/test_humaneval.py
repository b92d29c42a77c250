"""HumanEval: the program that is run for an answer, in the forms that answers take."""

from __future__ import annotations

from typing import Any

import pytest

from chatling.errors import MachineError
from chatling.messages import Part
from chatling.tasks.humaneval import HumanEval, extract_code
from chatling.tasks.registry import load_task
from chatling.tools.sandbox import Sandbox


@pytest.fixture(scope="module")
def task(fetcher: Any) -> HumanEval:
    found = load_task("HumanEval", "test", fetcher)
    assert isinstance(found, HumanEval)
    return found


def passes(program: str) -> bool:
    """Runs code of the data set and of this file, no model's."""
    try:
        exec(compile(program, "program", "exec"), {"__name__": "program"})
    except Exception:
        return False
    return True


def said(text: str) -> tuple[Part, ...]:
    return (Part("text", text),)


def test_every_reference_solution_passes_in_every_form(task: HumanEval) -> None:
    failed = []
    for i, example in enumerate(task):
        row = task.items[i]
        body = row["canonical_solution"]
        whole = row["prompt"] + body
        alone = whole[
            whole.rindex(f"def {row['entry_point']}") :
        ]  # without the imports and helpers of the prompt
        for form in (
            example.messages[1].text,
            body,
            whole,
            f"Sure:\n```python\n{alone}\n```\nHope it helps.",
            f"```\n{body}```",
        ):
            if not passes(task.program(example, said(form))):
                failed.append((row["task_id"], form))
    assert failed == []


def test_wrong_answers_do_not_pass(task: HumanEval) -> None:
    for i in range(0, 164, 5):
        for form in (
            "",
            "    pass",
            "I do not know.",
            "```python\n```",
            f"def {task.items[i]['entry_point']}(*a):\n    return object()",
        ):
            assert not passes(task.program(task[i], said(form))), (i, form)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("    return 1", "    return 1"),
        ("```python\ndef f(): pass\n```", "def f(): pass\n"),
        ("Like so:\n```py\nx = 1\n```\nthen\n```python\ndef f(): pass\n```", "def f(): pass\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        (
            "```python\ndef f():\n    return 1",
            "def f():\n    return 1",
        ),  # cut off by the length limit
    ],
)
def test_code_is_found_where_models_put_it(text: str, code: str) -> None:
    assert extract_code(text, "f") == code


def test_an_unindented_body_is_indented(task: HumanEval) -> None:
    program = task.program(task[2], said("return number % 1.0"))
    assert "    return number % 1.0\n" in program
    assert passes(program)


def test_answers_are_judged_in_the_sandbox(task: HumanEval) -> None:
    try:
        name = task.sandbox.name
    except MachineError as error:
        pytest.skip(str(error))
    assert name
    for i in (0, 32, 81):
        assert task.score(task[i], task[i].messages[1].parts)
        assert task.reward(task[i], said("    return 'something else'")) == 0.0
    assert not task.score(task[0], said("    raise SystemExit(0)"))
    assert not task.score(task[0], said("    while True: pass"))


def test_without_a_sandbox_there_is_no_score(
    task: HumanEval, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sandbox, "_holds", lambda self, name: False)
    weak = HumanEval(task.items.files, allow_weak=True)
    assert weak.score(weak[0], weak[0].messages[1].parts)
    with pytest.raises(MachineError, match="cannot be shut off"):
        HumanEval(task.items.files).score(task[0], task[0].messages[1].parts)
