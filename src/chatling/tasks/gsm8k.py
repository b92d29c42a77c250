"""GSM8K: grade-school word problems with worked answers
(Cobbe et al. 2021, arXiv:2110.14168); data set openai/gsm8k.
"""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Any

from chatling.messages import Conversation, Message, Part, PartKind
from chatling.tasks.rows import Rows
from chatling.tasks.task import IndexedTask, TaskEntry, visible_text

_CALL = re.compile(r"<<([^<>]*)=([^<>=]*)>>")
_MARKED = re.compile(
    r"####\s*\$?\s*(-?)\s*\$?([0-9][0-9,]{0,60}(?:\.[0-9]{1,60})?|\.[0-9]{1,60})(?![0-9])"
)


class GSM8K(IndexedTask):
    """The calculator annotations of the answers become
    tool calls; right is who gives the number behind ####.
    """

    def __init__(self, files: Sequence[Path], **options: Any):
        super().__init__("GSM8K", Rows(files, ("question", "answer")))

    def example(self, index: int) -> Conversation:
        row = self.items[index]
        answer = Message("assistant", worked_answer(row["answer"]))
        return Conversation((Message.of("user", row["question"]), answer))

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return same_number(conversation, completion)


ENTRY = TaskEntry(
    "GSM8K",
    GSM8K,
    rows={"train": 7_473, "test": 1_319},
    repo="openai/gsm8k",
    files={"train": "{subset}/train[-.]*", "test": "{subset}/test[-.]*"},
    subset="main",
)


def worked_answer(text: str) -> tuple[Part, ...]:
    """`12*3=<<12*3=36>>36` as parts: text, the expression as a python part, its annotated result as
    an output part, the text going on.

    The result stays the annotated one, often rounded
    (3.33), since the text behind it continues with that.
    """
    kinds: Iterable[PartKind] = cycle(("text", "python", "output"))
    return tuple(
        Part(kind, piece) for kind, piece in zip(kinds, _CALL.split(text), strict=False) if piece
    )


def marked_number(text: str) -> Fraction | None:
    """The number behind the last `####`; thousands commas and a dollar sign are ignored."""
    found = _MARKED.findall(text)
    return Fraction(f"{found[-1][0]}{found[-1][1].replace(',', '')}") if found else None


def same_number(conversation: Conversation, completion: tuple[Part, ...]) -> bool:
    """Whether a completion marks the number that the reference answer marks."""
    expected = marked_number(conversation.messages[-1].text)
    return expected is not None and marked_number(visible_text(completion)) == expected
