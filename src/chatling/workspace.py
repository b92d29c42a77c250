"""Where things live on disk: the home folder, run folders, their state, locks and manifests, and atomic writes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from chatling.errors import DataError, MachineError, RunError

STAGES = ("base", "mid", "sft", "dpo", "rl")
MANIFEST = "manifest.json"
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
              errno.EIO, errno.EINVAL, errno.ENXIO, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.EFBIG, errno.EOPNOTSUPP)
NAME_LENGTH, NAME_BYTES, PATH_LENGTH = 100, 255, 4096  # of a run's name; file systems count bytes
NAME_RULE = f"1 to {NAME_LENGTH} letters, digits, '.', '_' and '-', not beginning with '.' or '-'"


def home() -> Path:
    """`$CHATLING_HOME`, else `~/.chatling`; holds `cache/` and `runs/`."""
    return Path(os.environ.get("CHATLING_HOME") or Path.home() / ".chatling").expanduser()


def run_name(name: str) -> str:
    """`name`, which names a run and so a folder. Raises ValueError when it breaks NAME_RULE. Letters are those of any script."""
    fits = 0 < len(name) <= NAME_LENGTH and len(name.encode(errors="replace")) <= NAME_BYTES and name[0] not in ".-"
    if not fits or not all(_may_stand_in_name(letter) for letter in name):
        raise ValueError(f"It is not {NAME_RULE}.")
    return name


def nearest_name(text: str) -> str:
    """A run's name from a text that may be none, such as that of a file."""
    name = "".join(letter if _may_stand_in_name(letter) else "-" for letter in text).lstrip(".-")[:NAME_LENGTH]
    return name.encode()[:NAME_BYTES].decode(errors="ignore") or "custom"


def _may_stand_in_name(letter: str) -> bool:
    return letter in ".-" or f"_{letter}".isidentifier()  # which also knows the marks that are parts of letters


def find_run(name: str | os.PathLike[str]) -> Path:
    """A run's folder from its name, or from a path when it has a slash or exists as one. Raises RunError for what is neither."""
    text = os.fspath(name)
    path = os.path.expanduser(text)
    parts = path.split(os.sep)
    fits = len(path) < PATH_LENGTH and max(map(len, parts)) <= NAME_BYTES and not any(ord(letter) < 32 for letter in path)
    if fits and (os.sep in path or (text and os.path.exists(os.path.join(path, "state.json")))):
        return Path(path)
    try:
        return home() / "runs" / run_name(text)
    except ValueError:
        shown = repr(text) if len(text) <= NAME_LENGTH else f"{text[:NAME_LENGTH]!r}…"
        raise RunError(f"{shown} names no run.", f"A name is {NAME_RULE}; a path has a slash.") from None


def free_bytes(path: Path) -> int:
    """Free disk space where `path` is or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def disk_errors(path: Path, mend: str | None = None) -> Iterator[None]:
    """Turn the operating system's refusals to write into one clear sentence; `mend` says how to choose another place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(f"The disk is full: could not write {path}.", "Free some space; the same command goes on.") from error
        no_parent = error.errno == errno.ENOENT and error.filename and path.is_relative_to(error.filename)
        if error.errno in UNWRITABLE or no_parent:
            ours = path.absolute().is_relative_to(home().absolute())
            default = "Choose a folder you may write to, with CHATLING_HOME." if ours else "Choose another place."
            raise RunError(f"Cannot write {path}: {error.strerror}.", mend or default) from error
        raise


def fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new, never half: temp file, fsync, rename."""
    data = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises DataError when the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON ({error}).") from error


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def building_folder(path: Path, mend: str | None = None) -> Iterator[Path]:
    """Fill a temporary sibling folder; on success it gets a manifest, and replaces `path` in one rename. `mend` as in `disk_errors`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path, mend):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            write_manifest(temporary)
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
            fsync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_manifest(folder: Path) -> None:
    """Record size and sha256 of every file below `folder`, after syncing them. The manifest is written last."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(folder / MANIFEST, {"files": files})


def manifest_fault(folder: Path, *, checksums: bool = True) -> str | None:
    """What is wrong with a folder written by `building_folder`, or None when it is whole."""
    try:
        files = read_json(folder / MANIFEST)["files"]
        for name, entry in files.items():
            path = folder / name
            if not path.exists():
                return f"{path} is missing"
            if path.stat().st_size != entry["bytes"]:
                return f"{path} has {path.stat().st_size} bytes, expected {entry['bytes']}"
            if checksums and sha256_file(path) != entry["sha256"]:
                return f"{path} does not match its checksum"
    except (DataError, KeyError, TypeError, AttributeError) as error:
        return f"its manifest is missing or damaged ({error})"
    return None


@contextlib.contextmanager
def waiting_lock(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock between threads and processes, waiting for whoever has it; a kill frees it. `check` may raise to end the wait."""
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
    """Lock for writing. Tries for a moment, since whoever asks whether a run lives (`train/status.py`) holds its lock that long."""
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
    """One run on disk. See DESIGN: recipe.toml, state.json, tokenizer/, data/, <stage>/, evals/, report/, exports/."""

    def __init__(self, path: Path):
        self.path = path

    @staticmethod
    def open(name: str | os.PathLike[str]) -> RunFolder:
        """An existing run. Raises RunError naming the runs there are."""
        path = find_run(name)
        if not os.path.exists(path / "state.json"):
            runs = sorted(p.parent.name for p in (home() / "runs").glob("*/state.json"))
            known = f"Known runs: {', '.join(runs)}." if runs else "There are no runs yet: `chatling run pocket` makes one."
            raise RunError(f"There is no run at {path}.", known)
        return RunFolder(path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def data(self) -> Path:
        """Token shards made from the corpora: `data/<stage>-<split>/`."""
        return self.path / "data"

    @property
    def evals(self) -> Path:
        return self.path / "evals"

    @property
    def report(self) -> Path:
        """`report.md`, `report.html` and `figures/`."""
        return self.path / "report"

    def stage(self, name: str) -> Path:
        return self.path / name

    def model(self, stage: str) -> Path:
        """The finished model of a stage: model.safetensors + config.json."""
        return self.path / stage / "model"

    def latest_stage(self) -> str:
        """The most advanced stage that has a finished model. Raises RunError when there is none."""
        for stage in reversed(STAGES):
            if (self.model(stage) / MANIFEST).exists():
                return stage
        raise RunError(f"Run {self.name!r} has no finished model yet.", f"`chatling run {self.name}` goes on with it.")

    def read_state(self) -> dict[str, Any]:
        """`state.json`: {"stages": {name: {"status", "fingerprint", ...}}, "execution": {...}}; a fresh one when absent."""
        path = self.path / "state.json"
        return read_json(path) if path.exists() else {"stages": {}, "execution": {}}

    def write_state(self, state: dict[str, Any]) -> None:
        write_json(self.path / "state.json", state)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing. The kernel frees it when the process dies, so a kill leaves no stale lock."""
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / ".lock", "a+")  # noqa: SIM115 - held open for as long as the lock
        with file:
            if not _locked(file):
                file.seek(0)
                raise RunError(
                    f"Run {self.name!r} is in use by process {file.read().strip() or '?'}.",
                    f"Wait for it, stop it, or choose another name with --run; `chatling status {self.name}` shows it.",
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
