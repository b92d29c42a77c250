"""metrics.jsonl: one line a step, flushed as it is written, cut back to the checkpoint on
resume.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chatling.run_dir import disk_errors, read_plain, write_atomic

MOST = 256 << 20  # bytes of a log that is read


class MetricsLog:
    """Appends to a stage's `metrics.jsonl`. A half-written last line (a kill) is dropped when the
    log is read or cut.
    """

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
    try:
        content = read_plain(path, MOST).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = []
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue  # cut off by a kill
        if isinstance(line, dict) and type(line.get("step")) is int and 0 <= line["step"] < 1 << 53:
            lines.append({key: value for key, value in line.items() if _known(key, value)})
    return lines


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The lines of a log of samples that hold some."""
    return [line for line in read_metrics(path) if "samples" in line]


def tokens_per_second(lines: Iterable[Mapping[str, Any]]) -> float | None:
    """Training speed over some lines of the log, the time of their steps alone; None without it."""
    timed = [line for line in lines if line.get("seconds")]
    seconds = sum(line["seconds"] for line in timed)
    return sum(line.get("tokens", 0) for line in timed) / seconds if seconds else None


def _known(key: str, value: Any) -> bool:
    """Whether a field is of the kind that its readers expect: the file is untrusted input."""
    if key in ("event", "rows"):
        return isinstance(value, str)
    if key == "samples":
        return isinstance(value, list) and all(
            isinstance(each, dict) and _texts(each) for each in value
        )
    return type(value) is float or (type(value) is int and abs(value) < 1 << 53)


def _texts(sample: dict[str, Any]) -> bool:
    rest = {key: value for key, value in sample.items() if key != "right"}
    return (
        {"topic", "prompt", "text"} <= rest.keys()
        and all(isinstance(value, str) for value in rest.values())
        and type(sample.get("right", True)) is bool
    )
