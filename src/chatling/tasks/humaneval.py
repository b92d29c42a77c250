"""HumanEval: 164 Python functions to complete, judged by running their tests (Chen et al. 2021,
arXiv:2107.03374); data set openai/openai_humaneval.
"""

import ast
import bisect
import re
import textwrap
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from chatling.errors import MachineError
from chatling.messages import Conversation, Part
from chatling.tasks.rows import Rows
from chatling.tasks.task import IndexedTask, TaskEntry, visible_text
from chatling.tools.sandbox import Sandbox

_FENCED = re.compile(r"(`{3,}|~{3,})[^\n`]*\n(.*?)(?:\1|\Z)", re.DOTALL)
_MOST_TRIES = 1000  # pieces of an answer that are tried, so that no answer takes long
_FUTURE = re.compile(r"^from __future__ import .*$", re.MULTILINE)


class HumanEval(IndexedTask):
    """The prompt is a signature with its docstring; the
    answer, the whole function or only what follows it.
    """

    def __init__(self, files: Sequence[Path], *, allow_weak: bool = False, **options: Any):
        rows = Rows(files, ("prompt", "canonical_solution", "test", "entry_point"))
        super().__init__("HumanEval", rows)
        self.allow_weak = allow_weak
        self._by_prompt = {row["prompt"]: row for row in map(rows.__getitem__, range(len(rows)))}

    def example(self, index: int) -> Conversation:
        row = self.items[index]
        return Conversation.of(
            row["prompt"], f"```python\n{row['prompt']}{row['canonical_solution'].rstrip()}\n```"
        )

    def program(self, conversation: Conversation, completion: tuple[Part, ...]) -> str:
        """What is run to judge a completion: its code with
        what it needs from the prompt, then the tests.
        """
        row = self._by_prompt[conversation.messages[0].text]
        program = _whole(row, visible_text(completion).replace("\r\n", "\n").lstrip("\ufeff"))
        # these must come first
        program = "\n".join([*_FUTURE.findall(program), _FUTURE.sub("", program)])
        return f"{program}\n\n{row['test']}\n\ncheck({row['entry_point']})\n"

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        """Raises MachineError where nothing keeps a model's code from files and network, unless
        `allow_weak`, and where the sandbox can start no program, so that a full disk is no wrong
        answer.
        """
        outcome = self.sandbox.run(self.program(conversation, completion))
        if not outcome.started:
            raise MachineError(outcome.reason, "Free disk, memory or processes, and try again.")
        return outcome.passed

    @cached_property
    def sandbox(self) -> Sandbox:
        # at the first answer, since finding one that holds starts processes
        return Sandbox(allow_weak=self.allow_weak)


ENTRY = TaskEntry(
    "HumanEval",
    HumanEval,
    rows={"test": 164},
    repo="openai/openai_humaneval",
    files={"test": "openai_humaneval/test[-.]*"},
)


def extract_code(text: str, entry_point: str) -> str:
    """The code of an answer: the first fenced block that defines the function, else the first
    block; without fences the statements among its sentences if they define the function, else all
    of it.
    """
    blocks = [block for _, block in _FENCED.findall(text)]
    if blocks:
        return next((block for block in blocks if _defines(block, entry_point)), blocks[0])
    if (found := _defines(text, entry_point)) is None:
        return text
    # what is indented like the function: all, or a block in the way of Markdown
    block = [line for line in text.split("\n") if line.startswith(found[1]) or not line.strip()]
    return _statements(textwrap.dedent("\n".join(block)))


def _whole(row: dict[str, Any], answer: str) -> str:
    """A program that defines the function: what stands before it in the prompt (imports, helpers)
    and the answer's own version of it, or the prompt gone on with.
    """
    code = extract_code(answer, row["entry_point"])
    if (found := _defines(row["prompt"], row["entry_point"])) and _defines(
        code, row["entry_point"]
    ):
        return f"{row['prompt'][: found.start()]}\n{textwrap.dedent(code)}"
    body = code.strip("\n")
    if body[:1].isspace():
        return _statements(row["prompt"] + body)
    # unindented; with its first line's indentation lost; after a sentence
    indented = re.search(r"^[ \t]+\S.*\Z", body, re.MULTILINE | re.DOTALL)
    forms = [textwrap.indent(body, "    "), f"    {body}", indented[0] if indented else ""]
    programs = [_statements(row["prompt"] + form) for form in forms]
    return max(programs, key=len)


def _defines(code: str, name: str) -> re.Match[str] | None:
    """Where a function is defined, at the top level if it is there; group 1 is its indentation."""
    pattern = rf"^({{}})(?:async )?def {re.escape(name)}\b"
    at_top = re.search(pattern.format(""), code, re.MULTILINE)
    return at_top or re.search(pattern.format(r"[ \t]*"), code, re.MULTILINE)


def _statements(text: str) -> str:
    """The lines of a text that are Python, without the sentences before, between and after."""
    lines = text.split("\n")
    starts = [n for n, line in enumerate(lines) if line[:1].strip()] + [len(lines)]
    kept: list[int] = []
    first, tries = 0, 0
    while first < len(starts) - 1 and tries < _MOST_TRIES:
        # the longest piece that is Python begins here, or this is a line of prose
        last, tree = len(starts) - 1, None
        while tree is None and last > first:
            tries += 1
            tree, fault = _parsed("\n".join(lines[starts[first] : starts[last]]))
            if tree is None:
                last = min(last, bisect.bisect_right(starts, starts[first] + fault)) - 1
        for each in tree.body if tree else ():
            if not _is_prose(each):
                top = min([each.lineno, *(d.lineno for d in getattr(each, "decorator_list", []))])
                kept += range(starts[first] + top - 1, starts[first] + (each.end_lineno or top))
        first = max(last, first + 1)
    return "\n".join(lines[n] for n in dict.fromkeys(kept)) + "\n"


def _parsed(code: str) -> tuple[ast.Module | None, int]:
    """The tree, or the line (from 0) that no piece with this beginning can go beyond."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(code), 0
    except SyntaxError as error:
        return None, (error.lineno or 1) - 1
    except (ValueError, RecursionError, MemoryError):
        return None, 0


def _is_prose(statement: ast.stmt) -> bool:
    """Whether a statement is a sentence that happens to be Python ("Done", "Note: important") or
    no statement for the top level.
    """
    return (
        (isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Call))
        or (isinstance(statement, ast.AnnAssign) and statement.value is None)
        or isinstance(statement, ast.Return)
    )
