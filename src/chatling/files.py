"""Files on disk: written whole or not at all; read only when they are plain files, of a bearable
size, and what their manifest says.
"""

import contextlib
import errno
import glob
import hashlib
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatling.errors import DataError, MachineError, RunError

MANIFEST = "manifest.json"
MOST_JSON = 256 << 20  # bytes of a JSON file that is read
UNWRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EIO,
    errno.EINVAL,
    errno.ENXIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ETXTBSY,
    errno.EFBIG,
    errno.EOPNOTSUPP,
)
TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp", re.DOTALL)  # what `temporary_name` makes


def home() -> Path:
    """`$CHATLING_HOME`, else `~/.chatling`; holds `cache/` and `runs/`."""
    return Path(os.environ.get("CHATLING_HOME") or Path.home() / ".chatling").expanduser()


@contextlib.contextmanager
def disk_errors(path: Path, hint: str | None = None) -> Iterator[None]:
    """Turn the operating system's refusals to write into one clear sentence; `hint` says how to
    choose another place.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"The disk is full: could not write {path}.",
                "Free some space; the same command resumes.",
            ) from error
        no_parent = (
            error.errno == errno.ENOENT and error.filename and path.is_relative_to(error.filename)
        )
        if error.errno in UNWRITABLE or no_parent:
            ours = path.absolute().is_relative_to(home().absolute())
            default = (
                "Choose a folder you may write to, with CHATLING_HOME."
                if ours
                else "Choose another place."
            )
            raise RunError(f"Cannot write {path}: {error.strerror}.", hint or default) from error
        raise


def fsync(path: Path) -> None:
    """Have the disk keep a file's content, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """Where this process writes what will be renamed to `path`; `sweep` knows such names."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new, never half: temp file, fsync,
    rename.
    """
    data = data.encode() if isinstance(data, str) else data
    temporary = temporary_name(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def open_plain(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading. Links, pipes and devices are not opened. Raises FileNotFoundError,
    and DataError for all other trouble.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DataError(
                f"{path} is not a plain file.", "Put the file itself there, not a link or a folder."
            )
        file = os.fdopen(
            os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb"
        )
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise DataError(f"{path} cannot be read ({error}).") from error
    with file:
        try:
            yield file
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}).") from error


def read_plain(path: Path, most: int = MOST_JSON) -> bytes:
    """A plain file's content. Raises FileNotFoundError, and DataError when it cannot be read or has
    more than `most` bytes.
    """
    with open_plain(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise DataError(
                f"{path} is larger than {most / 1e6:,.0f} MB, which such a file never is."
            )
        return file.read()


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """Raises DataError when the file is missing, is not JSON, or is too large or too deep to be one
    of ours.
    """
    try:
        return json.loads(read_plain(path, most).decode("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply.") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}).") from error


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def building_folder(path: Path, hint: str | None = None) -> Iterator[Path]:
    """Fill a temporary sibling folder; on success it gets a manifest, and replaces `path` in one
    rename. `hint` as in `disk_errors`.
    """
    temporary = temporary_name(path)
    with disk_errors(path, hint):
        remove(temporary)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            write_manifest(temporary)
            remove(path)
            os.replace(temporary, path)
            fsync(path.parent)
        finally:
            remove(temporary)


def remove(path: Path) -> None:
    """Delete whatever is there: a folder, a file, a link (not what it points to), or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=False)
    else:
        path.unlink(missing_ok=True)


def write_manifest(folder: Path) -> None:
    """Record size and sha256 of every file below `folder`, after syncing them. The manifest is
    written last.
    """
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        fsync(path)
        files[str(path.relative_to(folder))] = {
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
        }
    write_json(folder / MANIFEST, {"files": files})


@dataclass(frozen=True)
class Listed:
    """What a manifest says of a file."""

    bytes: int
    sha256: str


def read_manifest(folder: Path) -> dict[str, Listed]:
    """The files that belong to a folder, by name. Raises DataError when the manifest is missing,
    damaged, empty, or names other places.
    """
    path = folder / MANIFEST
    found = read_json(path)
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict) or not files:
        raise DataError(f"{path} lists no files.")
    listed = {}
    for name, entry in files.items():
        size, checksum = (
            (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        )
        if (
            type(size) is not int
            or size < 0
            or not isinstance(checksum, str)
            or not re.fullmatch("[0-9a-f]{64}", checksum)
        ):
            raise DataError(f"{path} has no size and checksum of {name!r}.")
        if "\0" in name or "\\" in name or {"", ".", ".."} & set(name.split("/")):
            raise DataError(f"{path} lists {name!r}, which is no name of a file in this folder.")
        listed[name] = Listed(size, checksum)
    return listed


def manifest_fault(
    folder: Path,
    *,
    required: Collection[str] = (),
    checksums: bool = True,
    later: Collection[str] = (),
) -> str | None:
    """What is wrong with a folder written by `building_folder`, or None when it is whole.

    `required` are names that it must have; the checksums of those in `later` are left to another
    call.
    """
    try:
        files = read_manifest(folder)
    except DataError as error:
        return f"its manifest is missing or damaged ({error.what.removesuffix('.')})"
    try:
        for name in required:
            if name not in files:
                return f"{folder / name} is not listed in its manifest"
        for name, listed in files.items():
            _check(folder, name, listed, checksum=checksums and name not in later)
    except DataError as error:
        return error.what.removesuffix(".")
    return None


def _check(folder: Path, name: str, listed: Listed, *, checksum: bool) -> None:
    """Raises DataError naming a file that is not what was written."""
    path = folder / name
    inner = (parent for parent in path.parents if parent != folder)
    if any(parent.is_symlink() for parent in inner if parent.is_relative_to(folder)):
        raise DataError(f"{path} is reached through a link")
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != listed.bytes:
                raise DataError(f"{path} has {size} bytes, expected {listed.bytes}")
            if checksum and hashlib.file_digest(file, "sha256").hexdigest() != listed.sha256:
                raise DataError(f"{path} does not match its checksum")
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None


def foreign_entry(folder: Path) -> str | None:
    """What in a folder leads out of it or is no file, in words; None when there is nothing such. A
    folder is untrusted input.
    """
    root = folder.resolve()
    for at, folders, files in os.walk(root):
        for path in (Path(at, name) for name in (*folders, *files)):
            with contextlib.suppress(FileNotFoundError):  # just removed by its owner
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode) and not _stays_inside(path, root):
                    return f"{path} is a link out of the folder"
                if not (stat.S_ISLNK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    return f"{path} is neither a file nor a folder"
    return None


def _stays_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a circle of links
        return False


def sweep(folder: Path, spared: Callable[[Path], bool]) -> None:
    """Delete what killed processes left half-written in and below a folder; of what is `spared`,
    only that of dead processes.
    """
    for at, folders, files in os.walk(folder):
        for name in [name for name in (*folders, *files) if TEMPORARY.fullmatch(name)]:
            path = Path(at, name)
            if not (spared(path) and _is_alive(path)):
                _remove_if_possible(path)
            if name in folders:
                folders.remove(name)


def sweep_beside(target: Path) -> None:
    """Delete what dead processes that were writing `target` left beside it."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        if TEMPORARY.fullmatch(path.name) and not _is_alive(path):
            _remove_if_possible(path)


def _remove_if_possible(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process was faster, or it is not ours to delete
        remove(path)


def _is_alive(path: Path) -> bool:
    """Whether the process that a temporary name speaks of lives, and is not this one, which has not
    begun to write.
    """
    match = TEMPORARY.fullmatch(path.name)
    assert match is not None
    number = int(match[1])
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return number != os.getpid()
