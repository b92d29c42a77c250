"""Where things live on disk: the home folder, run folders, their state, locks and manifests, and
atomic writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from chatling import run_state
from chatling.errors import DataError, RunError
from chatling.files import (
    MANIFEST,
    building_folder,
    disk_errors,
    foreign_entry,
    fsync,
    home,
    manifest_fault,
    open_plain,
    read_json,
    read_manifest,
    read_plain,
    sha256_file,
    sweep,
    write_atomic,
    write_json,
    write_manifest,
)

__all__ = [
    "MANIFEST",
    "STAGES",
    "STATE",
    "TEXT_STAGES",
    "RunFolder",
    "building_folder",
    "disk_errors",
    "find_run",
    "free_bytes",
    "fsync",
    "home",
    "is_locked",
    "latest_runs",
    "manifest_fault",
    "open_plain",
    "read_json",
    "read_manifest",
    "read_plain",
    "sha256_file",
    "size",
    "waiting_lock",
    "write_atomic",
    "write_json",
    "write_manifest",
]
STAGES = ("base", "extend", "mid", "sft", "distill", "dpo", "rl")
TEXT_STAGES = STAGES[:2]  # whose models continue texts
STATE, STATE_COPY = "state.json", "state.copy.json"
MOST_STATE = 16 << 20  # bytes of state.json
NAME_LENGTH, NAME_BYTES, PATH_LENGTH = 100, 255, 4096  # of a run's name; file systems count bytes
NAME_RULE = f"1 to {NAME_LENGTH} letters, digits, '.', '_' and '-', not beginning with '.' or '-'"


def run_name(name: str) -> str:
    """`name`, which names a run and so a folder. Raises ValueError when it breaks NAME_RULE.
    Letters are those of any script.
    """
    fits = (
        0 < len(name) <= NAME_LENGTH
        and len(name.encode(errors="replace")) <= NAME_BYTES
        and name[0] not in ".-"
    )
    if not fits or not all(_may_stand_in_name(letter) for letter in name):
        raise ValueError(f"It is not {NAME_RULE}.")
    return name


def nearest_name(text: str) -> str:
    """A run's name from a text that may be none, such as that of a file."""
    name = "".join(letter if _may_stand_in_name(letter) else "-" for letter in text).lstrip(".-")[
        :NAME_LENGTH
    ]
    return name.encode()[:NAME_BYTES].decode(errors="ignore") or "custom"


def _may_stand_in_name(letter: str) -> bool:
    # which also knows the marks that are parts of letters
    return letter in ".-" or f"_{letter}".isidentifier()


def find_run(name: str | os.PathLike[str]) -> Path:
    """A run's folder from its name, or from a path when it has a slash or exists as one. Raises
    RunError for what is neither.
    """
    text = os.fspath(name)
    path = os.path.expanduser(text)
    parts = path.split(os.sep)
    fits = (
        len(path) < PATH_LENGTH
        and max(map(len, parts)) <= NAME_BYTES
        and not any(ord(letter) < 32 for letter in path)
    )
    if fits and (os.sep in path or (text and os.path.exists(os.path.join(path, "state.json")))):
        return Path(path)
    try:
        return home() / "runs" / run_name(text)
    except ValueError:
        shown = repr(text) if len(text) <= NAME_LENGTH else f"{text[:NAME_LENGTH]!r}…"
        raise RunError(
            f"{shown} names no run.", f"A name is {NAME_RULE}; a path has a slash."
        ) from None


def free_bytes(path: Path) -> int:
    """Free disk space where `path` is or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def size(count: float) -> str:
    """Bytes for a reader: 54.7 GB, 310 MB, 2.5 MB."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


@contextlib.contextmanager
def waiting_lock(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock between threads and processes, waiting for whoever has it; a kill frees it.
    `check` may raise to end the wait.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115 - held open for as long as the lock
    with file:
        while not _locked(file):
            check()
        yield


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of `waiting_lock`."""
    if not path.exists():
        return False
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _locked(file: IO[str]) -> bool:
    """Lock for writing. Tries for a moment, since whoever asks whether a run lives
    (`train/status.py`) holds its lock that long.
    """
    for pause in (0.02, 0.05, 0.1, None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is not None:
                time.sleep(pause)
        else:
            return True
    return False


class RunFolder:
    """One run on disk. See DESIGN: recipe.toml, state.json, tokenizer/, data/, <stage>/, evals/,
    feedback/, report/, exports/.
    """

    def __init__(self, path: Path):
        self.path, self.name = path, path.name
        self.tokenizer, self.evals = path / "tokenizer", path / "evals"
        self.data = path / "data"  # token shards made from the corpora: `<stage>-<split>/`
        self.feedback = path / "feedback"  # what people thought of its answers
        self.report = path / "report"  # `report.md`, `report.html` and `figures/`
        self.stopped = path / ".stopped"  # that its launcher was asked to stop it

    @staticmethod
    def open(name: str | os.PathLike[str]) -> RunFolder:
        """An existing run. Raises RunError naming the runs there are."""
        path = find_run(name)
        if not os.path.exists(path / "state.json"):
            runs = sorted(p.parent.name for p in (home() / "runs").glob("*/state.json"))
            known = (
                f"Known runs: {', '.join(runs)}."
                if runs
                else "There are no runs yet: `chatling run pocket` makes one."
            )
            raise RunError(f"There is no run at {path}.", known)
        folder = RunFolder(path)
        folder.check_entries()
        return folder

    def check_entries(self) -> None:
        """Raises RunError when something in the folder leads out of it, or is no file: a run folder
        is untrusted input.
        """
        if fault := foreign_entry(self.path):
            raise RunError(
                f"Run {self.name!r} is not opened: {fault}.",
                "Remove that, or replace it by the file itself.",
            )

    def stage(self, name: str) -> Path:
        return self.path / name

    def model(self, stage: str) -> Path:
        """The finished model of a stage: model.safetensors + config.json."""
        return self.path / stage / "model"

    def finished_stages(self) -> list[str]:
        """The stages that have a finished model, the most advanced one last."""
        return [stage for stage in STAGES if (self.model(stage) / MANIFEST).exists()]

    def finished_stage(self, name: str | None = None) -> str:
        """The stage asked for, checked, or the most advanced one that has a finished model. Raises
        RunError.
        """
        there = self.finished_stages()
        if name is None and not there:
            raise RunError(
                f"Run {self.name!r} has no finished model yet.",
                f"`chatling run {self.name}` resumes it.",
            )
        if name is not None and name not in there:
            raise RunError(
                f"Run {self.name!r} has no finished {name} model.",
                f"It has: {', '.join(there) or 'none'}.",
            )
        return name or there[-1]

    def read_state(self) -> dict[str, Any]:
        """`state.json`: {"stages": {name: {"status", "fingerprint", ...}}, "execution": {...}}; a
        fresh one when there is none.

        A damaged one is replaced by its copy, with a warning. Raises DataError when that is of no
        use either, NewerFormat when a later version of chatling wrote it.
        """
        path, copy = self.path / STATE, self.path / STATE_COPY
        try:
            return self._read_state(path)
        except run_state.NewerFormat:
            raise
        except DataError as error:
            damaged = error
        with contextlib.suppress(DataError):
            state = self._read_state(copy)
            if state["stages"] or path.exists():
                what = damaged.what.removesuffix(".")
                warnings.warn(
                    f"{what}; its copy, {copy.name}, is used. (To begin the run again, remove its"
                    " folder.)",
                    stacklevel=2,
                )
            return state
        if not path.exists() and not copy.exists():
            return run_state.fresh()
        raise DataError(
            damaged.what,
            f"Put back {path.name} as it was, choose another run with --run, or remove"
            f" {self.path}.",
        ) from damaged

    @staticmethod
    def _read_state(path: Path) -> dict[str, Any]:
        found = read_json(path, MOST_STATE)
        if isinstance(found, dict):
            run_state.check_format(found, path)
        try:
            return run_state.unpack(found)
        except run_state.Malformed as error:
            raise DataError(f"{path} is not a run's state ({error}).") from None

    def write_state(self, state: dict[str, Any]) -> None:
        """Twice, since a run without its state has lost its place."""
        packed = run_state.pack(state)
        write_json(self.path / STATE, packed)
        write_json(self.path / STATE_COPY, packed)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing. The kernel frees it when the process dies, so a kill leaves no
        stale lock; what it left half-written is removed. Raises RunError when another process holds
        it, and as `check_entries`.
        """
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self.check_entries()
            file = open(self.path / ".lock", "a+")  # noqa: SIM115 - held open for as long as the lock
        with file:
            if not _locked(file):
                file.seek(0)
                raise RunError(
                    f"Run {self.name!r} is in use by process {file.read().strip() or '?'}.",
                    "Wait for it, stop it, or choose another name with --run; `chatling status"
                    f" {self.name}` shows it.",
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Evaluations, reports and feedback are written without the lock; all else in the run is
        written by its holder alone.
        """
        sweep(
            self.path,
            lambda path: (
                path.parent in (self.evals, self.feedback)
                or path.name.startswith(f".{self.report.name}.")
            ),
        )
        for shared in (home() / "data", home() / "cache"):
            sweep(shared, lambda path: True)


def latest_runs(folder: Path) -> list[RunFolder]:
    """The runs in a folder of runs, the one worked on last first."""

    def changed(state: Path) -> float:
        with contextlib.suppress(OSError):  # it may be going away
            return state.stat().st_mtime
        return 0.0

    states = sorted(folder.glob("*/state.json"), key=changed, reverse=True)
    return [RunFolder(state.parent) for state in states]
