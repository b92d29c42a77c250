"""Where a run stands, as its folder tells it: read only, while training runs in another
process.
"""

import contextlib
import fcntl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatling.hardware.detect import Machine
from chatling.run_dir import RunFolder
from chatling.train.expected import Corridor, Standing, smoothed
from chatling.train.metrics import read_metrics, tokens_per_second

RECENT = 50  # steps that the speed is measured over


@dataclass(frozen=True)
class StageStatus:
    """One stage. `steps` and `left` are None where they are not known: the stage has not begun, or
    does not count steps. `planned` are the seconds that `plan` gives it on its machine, as that was
    measured when the stage began.
    """

    name: str
    status: str
    step: int | None
    steps: int | None
    seconds: float
    planned: float | None
    left: float | None
    resumes: int
    metrics: dict[str, Any]
    error: str | None
    # of the loss, by runs of the same recipe before; None where there is none, or it is too early
    standing: Standing | None = None


@dataclass(frozen=True)
class RunStatus:
    """A run as its folder tells it. `process` is the one that holds the lock, None when nothing
    runs.
    """

    name: str
    path: str
    alive: bool
    process: str | None
    stages: tuple[StageStatus, ...]


def read_status(folder: RunFolder) -> RunStatus:
    """Raises DataError when state.json is damaged."""
    state = folder.read_state()
    process = _holder(folder)
    stages = tuple(
        _stage(folder, name, entry, alive=process is not None)
        for name, entry in state["stages"].items()
    )
    return RunStatus(folder.name, str(folder.path), process is not None, process, stages)


def time_left(status: RunStatus, work: Mapping[str, float]) -> float | None:
    """Seconds left of the whole run, whose training stages cost `work` (in FLOPs, in order); None
    where none of them runs, or nothing tells the speed.

    The speed of later stages is that of the fastest so far, as in the terminal.
    """
    running = next(
        (each for each in status.stages if each.status == "running" and each.name in work), None
    )
    speeds = [
        work[each.name] * each.step / each.steps / each.seconds
        for each in status.stages
        if each.name in work and each.step and each.steps and each.seconds
    ]
    if running is None or not (fastest := max(speeds, default=0.0)):
        return None
    names = list(work)
    later = sum(work[name] for name in names[names.index(running.name) + 1 :])
    own = work[running.name] / fastest if running.left is None else running.left
    return own + later / fastest


def duration(seconds: float | None) -> str:
    """`3 h 12 min`, `4 min 05 s`, `8 s`; a dash for None."""
    if seconds is None:
        return "–"
    s = round(seconds)
    if s >= 86_400:
        return f"{s // 86_400} d {s % 86_400 // 3600} h"
    if s >= 3600:
        return f"{s // 3600} h {s % 3600 // 60:02} min"
    return f"{s // 60} min {s % 60:02} s" if s >= 60 else f"{s} s"


def _holder(folder: RunFolder) -> str | None:
    """The process that holds the run's lock. Asks the kernel, since a dead process leaves its
    number in the file.
    """
    path = folder.path / ".lock"
    if not path.exists():
        return None
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(20).strip() or "?"
    return None


def _stage(folder: RunFolder, name: str, entry: dict[str, Any], *, alive: bool) -> StageStatus:
    lines = [line for line in read_metrics(folder.stage(name) / "metrics.jsonl") if "loss" in line]
    status = "cut off" if entry["status"] == "running" and not alive else entry["status"]
    step = lines[-1]["step"] + 1 if lines else None
    steps = entry.get("steps")
    metrics: dict[str, Any] = {}
    for line in lines[-RECENT:]:
        metrics.update(line)
    metrics |= {key: line[key] for line in lines for key in line if key.startswith("val_")}
    seconds = sum(line.get("seconds", 0.0) for line in lines[-RECENT:])
    left = None
    if seconds:
        metrics["tokens_per_second"] = tokens_per_second(lines[-RECENT:])
        if steps and step is not None and status != "done":
            left = (steps - step) * seconds / len(lines[-RECENT:])
    # What a killed attempt spent is not in the state; its steps tell it.
    spent = max(entry.get("seconds", 0.0), sum(line.get("seconds", 0.0) for line in lines))
    planned = _planned(entry)
    corridor, recent = Corridor.from_dict(entry.get("expected")), smoothed(lines)[-1:]
    standing = corridor.standing(*recent[0]) if corridor and recent else None
    return StageStatus(
        name,
        status,
        step,
        steps,
        spent,
        planned,
        left,
        entry.get("resumes", 0),
        metrics,
        entry.get("error"),
        standing,
    )


def _planned(entry: dict[str, Any]) -> float | None:
    with contextlib.suppress(KeyError, TypeError, ZeroDivisionError):  # of another version
        machine = Machine(**entry["machine"])
        ranks = entry.get("processes", 1) if machine.device == "cuda" else 1
        return float(entry["work"] / (machine.training_tflops * 1e12 * ranks))
    return None
