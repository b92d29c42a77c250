"""ARC, grade-school science questions, Easy and Challenge
(Clark et al. 2018, arXiv:1803.05457); data set allenai/ai2_arc.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from chatling.errors import DataError
from chatling.tasks.multiple_choice import MultipleChoice, Question
from chatling.tasks.rows import Rows
from chatling.tasks.task import TaskEntry


def arc(name: str, files: Sequence[Path], **options: Any) -> MultipleChoice:
    """Columns question, choices {text, label}, answerKey. Some rows label their choices 1 to 4; all
    are shown as A, B, C, ...
    """
    return MultipleChoice(name, Rows(files, ("question", "choices", "answerKey")), _question)


def _question(row: dict[str, Any]) -> Question:
    labels = row["choices"]["label"]
    if row["answerKey"] not in labels:
        raise DataError(
            f"An ARC question has answer {row['answerKey']!r}, not among {', '.join(labels)}:"
            f" {row['question'][:80]!r}."
        )
    return row["question"], row["choices"]["text"], labels.index(row["answerKey"])


def _entry(name: str, train: int, validation: int, test: int) -> TaskEntry:
    rows = {"train": train, "validation": validation, "test": test}
    files = {split: f"{name}/{split}[-.]*" for split in rows}
    return TaskEntry(name, partial(arc, name), rows, "allenai/ai2_arc", "CC-BY-SA-4.0", files)


EASY = _entry("ARC-Easy", 2_251, 570, 2_376)
CHALLENGE = _entry("ARC-Challenge", 1_119, 299, 1_172)
