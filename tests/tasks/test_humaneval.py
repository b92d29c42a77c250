"""HumanEval: the program that is run for an answer, in the forms that answers take."""

from __future__ import annotations

import textwrap
import time
from typing import Any

import pytest

from chatling.errors import MachineError
from chatling.messages import Part
from chatling.tasks.humaneval import HumanEval, extract_code
from chatling.tasks.registry import load_task
from chatling.tools.sandbox import Outcome, Sandbox


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


ODD_FORMS = [
    "Sure\n\n{whole}",
    "Here is the function:\n\n{whole}\n\nIt goes through the list. Note that it's fast!",
    "Note: important\n{whole}\nDone",
    "1. The code\n- is this\n\n{whole}\n\n## Explanation\n\nIt works (see above).",
    "Here you are:\n\n{block}\n\nThat is all.",
    "\ufeff{whole}",
    "~~~python\n{whole}\n~~~\nDone.",
    "````python title=f.py\n{whole}\n````",
    "First a test:\n```\nassert True\n```\nthen\n``` python\n{whole}\n```",
    "from __future__ import annotations\n{whole}",
    "{body}\n\nThis works because it's right.",
    "{body}\nprint('examples')\n",
    "The body:\n{body}",
    "```\n{stripped}\n```",
    "{stripped}",
]


def _failing(task: HumanEval, index: int, forms: list[str]) -> list[str]:
    row = task.items[index]
    body = row["canonical_solution"].strip("\n")
    whole = row["prompt"] + body
    block = textwrap.indent(whole, "    ")
    texts = [f.format(whole=whole, body=body, block=block, stripped=body.strip()) for f in forms]
    texts += [text.replace("\n", "\r\n") for text in texts if index % 20 == 0]
    return [text for text in texts if not passes(task.program(task[index], said(text)))]


def test_sentences_around_a_solution_do_no_harm(task: HumanEval) -> None:
    for i in range(164):
        assert _failing(task, i, [ODD_FORMS[i % len(ODD_FORMS)]]) == []


@pytest.mark.slow
@pytest.mark.parametrize("form", ODD_FORMS)
def test_every_solution_passes_with_any_sentence(task: HumanEval, form: str) -> None:
    assert [text for i in range(164) for text in _failing(task, i, [form])] == []


def test_a_long_answer_is_read_in_little_time(task: HumanEval) -> None:
    name = task.items[0]["entry_point"]
    for line in (f"def {name}(a, b): and so on", "one more sentence, said again", "x = ("):
        answer = f"def {name}(a, b):\n    return 1\n" + f"{line}\n" * 1000
        begun = time.monotonic()
        assert "return 1" in task.program(task[0], said(answer))
        assert time.monotonic() - begun < 10


def test_a_sandbox_that_cannot_start_is_no_wrong_answer(
    task: HumanEval, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Outcome(False, "The sandbox cannot run a program: no room.", "", False)
    monkeypatch.setattr(Sandbox, "run", lambda self, code: outcome)
    with pytest.raises(MachineError, match="no room"):
        HumanEval(task.items.files, allow_weak=True).score(task[0], task[0].messages[1].parts)


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
