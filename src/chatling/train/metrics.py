"""metrics.jsonl: one line a step, flushed as it is written, cut back to the checkpoint on resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chatling.workspace import disk_errors, write_atomic


class MetricsLog:
    """Appends to a stage's `metrics.jsonl`. A half-written last line (a kill) is dropped when the log is read or cut."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, line: dict[str, Any]) -> None:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def cut(self, step: int) -> None:
        """Keep only what happened before `step`."""
        kept = [json.dumps(line) + "\n" for line in read_metrics(self.path) if line["step"] < step]
        if self.path.exists():
            write_atomic(self.path, "".join(kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics log; empty when there is none yet."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue  # cut off by a kill
    return [line for line in lines if isinstance(line, dict) and "step" in line]
