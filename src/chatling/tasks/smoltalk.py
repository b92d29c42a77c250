"""SmolTalk: 460,341 conversations for small models (Allal et al.
2025, arXiv:2502.02737); data set HuggingFaceTB/smol-smoltalk.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chatling.tasks.custom import Conversations
from chatling.tasks.rows import Rows
from chatling.tasks.task import TaskEntry


def smoltalk(files: Sequence[Path], **options: Any) -> Conversations:
    """Column messages: a list of {role, content}, a system message first in some."""
    return Conversations(
        "SmolTalk", Rows(files, ("messages",)), f"SmolTalk in {files[0].parent}", unit="row"
    )


# `[-.]` matches both the Hub's "train-00000-of-00001.parquet" and a plain "train.jsonl", here and
# in the other tasks
SMOLTALK = TaskEntry(
    "SmolTalk",
    smoltalk,
    rows={"train": 460_341, "test": 24_229},
    repo="HuggingFaceTB/smol-smoltalk",
    license="Apache-2.0",
    files={"train": "data/train[-.]*", "test": "data/test[-.]*"},
    judged=False,
)
