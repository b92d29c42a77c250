"""MMLU: knowledge of 57 subjects (Hendrycks et al. 2020, arXiv:2009.03300); data set cais/mmlu."""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from chatling.tasks.multiple_choice import MultipleChoice
from chatling.tasks.rows import Rows
from chatling.tasks.task import TaskEntry


def mmlu(files: Sequence[Path], **options: Any) -> MultipleChoice:
    """Columns question, choices, answer (an index). The test split stands subject by subject:
    shuffle it before taking a part.
    """
    columns = ("question", "choices", "answer")
    return MultipleChoice("MMLU", Rows(files, columns), itemgetter(*columns))


MMLU = TaskEntry(
    "MMLU",
    mmlu,
    rows={"train": 99_842, "validation": 1_531, "test": 14_042},
    repo="cais/mmlu",
    files={
        "train": "all/auxiliary_train[-.]*",
        "validation": "{subset}/validation[-.]*",
        "test": "{subset}/test[-.]*",
    },
    subset="all",
)
