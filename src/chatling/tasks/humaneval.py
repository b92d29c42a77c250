"""HumanEval: 164 Python functions to complete, judged by running their tests (Chen et al. 2021,
arXiv:2107.03374); data set openai/openai_humaneval.
"""

import re
import textwrap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from chatling.messages import Conversation, Part
from chatling.tasks.rows import Rows
from chatling.tasks.task import IndexedTask, TaskEntry, visible_text
from chatling.tools.sandbox import Sandbox

_FENCED = re.compile(r"```[a-zA-Z0-9]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


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
        program = _whole(row, visible_text(completion))
        return f"{program}\n\n{row['test']}\n\ncheck({row['entry_point']})\n"

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        """Raises MachineError where nothing keeps a model's
        code from files and network, unless `allow_weak`.
        """
        return self.sandbox.run(self.program(conversation, completion)).passed

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
    block, else all of it.
    """
    blocks = _FENCED.findall(text)
    return next(
        (block for block in blocks if _defines(block, entry_point)), blocks[0] if blocks else text
    )


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
    return row["prompt"] + (body if body[:1].isspace() else textwrap.indent(body, "    "))


def _defines(code: str, name: str) -> re.Match[str] | None:
    return re.search(rf"^[ \t]*(?:async )?def {re.escape(name)}\b", code, re.MULTILINE)
