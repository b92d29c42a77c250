"""MMLU: knowledge of 57 subjects (Hendrycks et al. 2020, arXiv:2009.03300); data set cais/mmlu."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chatling.data.mixtures import Mapped
from chatling.tasks.multiple_choice import MultipleChoice, Question
from chatling.tasks.rows import Rows


def mmlu(files: Sequence[Path]) -> MultipleChoice:
    """Columns question, choices, answer (an index). The test split stands subject by subject:
    shuffle it before taking a part.
    """
    rows = Rows(files, ("question", "choices", "answer"))

    def question(row: dict[str, object]) -> Question:
        return row["question"], row["choices"], row["answer"]  # type: ignore[return-value]

    return MultipleChoice("MMLU", Mapped(rows, question))
