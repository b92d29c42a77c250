"""SmolTalk: 460,341 conversations for small models (Allal et al. 2025, arXiv:2502.02737); data set
HuggingFaceTB/smol-smoltalk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chatling.tasks.custom import Conversations
from chatling.tasks.rows import Rows


def smoltalk(files: Sequence[Path]) -> Conversations:
    """Column messages: a list of {role, content}, a system message first in some."""
    return Conversations(
        "SmolTalk", Rows(files, ("messages",)), f"SmolTalk in {files[0].parent}", unit="row"
    )
