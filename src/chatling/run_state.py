"""What `state.json` holds, and whether what was read is that: it may be damaged, or untrusted."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chatling.errors import DataError
from chatling.version import __version__

CHECKSUM, FORMAT_KEY = "sha256", "format"
# of the files of runs and models; those from before there was one say none, and count as 0
FORMAT = 1


class NewerFormat(DataError):
    """A file that a later version of chatling wrote."""


def check_format(found: Mapping[str, Any], path: Path) -> None:
    """Raises NewerFormat when this version cannot read what `path` holds, and DataError when it
    says no format of ours. Formats 0 and 1 differ in nothing else.
    """
    version = found.get(FORMAT_KEY, 0)
    if type(version) is not int or version < 0:
        raise DataError(
            f"{path} says that its format is {json.dumps(version)[:60]}, which is none."
        )
    if version > FORMAT:
        raise NewerFormat(
            f"{path} has format {version}; chatling {__version__} reads formats up to {FORMAT}.",
            "Update chatling (`pip install -U chatling`), or use the one that wrote it.",
        )


class Malformed(ValueError):
    """In words that follow the file's name."""


def fresh() -> dict[str, Any]:
    return {"stages": {}, "execution": {}}


def pack(state: dict[str, Any]) -> dict[str, Any]:
    """The state with its format and checksum, as it is written."""
    state = state | {FORMAT_KEY: FORMAT}
    return state | {CHECKSUM: _checksum(state)}


def unpack(value: Any) -> dict[str, Any]:
    """What `pack` was given. Raises Malformed, in words, when it was not that; a state of an
    earlier version has no checksum and no format.
    """
    if not isinstance(value, dict) or not all(
        isinstance(value.get(key), dict) for key in ("stages", "execution")
    ):
        raise Malformed("it has no stages and execution")
    state = {key: inner for key, inner in value.items() if key != CHECKSUM}
    if CHECKSUM in value and value[CHECKSUM] != _checksum(state):
        raise Malformed("it does not match its checksum")
    for name, entry in state["stages"].items():
        if not re.fullmatch("[a-z][a-z0-9_]{0,40}", name):
            raise Malformed(f"{name!r} is no stage")
        _check(entry, _ENTRY, f"stages.{name}")
        if "status" not in entry:
            raise Malformed(f"stages.{name} has no status")
    state.pop(FORMAT_KEY, None)
    return state


def _checksum(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _number(value: Any) -> bool:
    return _count(value) or (type(value) is float and math.isfinite(value))


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _mark(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{1,128}", value) is not None


def _machine(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _text(value.get("name"))
        and all(_number(value.get(f"{kind}_tflops")) for kind in ("fp32", "bf16"))
    )


def _attempts(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    for entry in value:
        _check(entry, _ATTEMPT, "an attempt")
        if not {"started", "after"} <= set(entry):
            return False
    return True


def _check(entry: Any, fields: dict[str, Callable[[Any], bool]], where: str) -> None:
    """Fields that nobody knows are left to whoever wrote them."""
    if not isinstance(entry, dict):
        raise Malformed(f"{where} is not a table")
    for key, right in fields.items():
        if key in entry and not right(entry[key]):
            raise Malformed(f"{where}.{key} is {json.dumps(entry[key])[:60]}")


_ATTEMPT: dict[str, Callable[[Any], bool]] = {
    "started": _text,
    "ended": _text,
    "status": _text,
    "after": lambda value: value is None or _text(value),
    "begun_at": _count,
    "steps": _count,
    "processes": _count,
    "machine": _machine,
}
_ENTRY: dict[str, Callable[[Any], bool]] = _ATTEMPT | {
    "fingerprint": _mark,
    "seconds": _number,
    "work": _number,
    "resumes": _count,
    "finished": _text,
    "error": _text,
    "attempts": _attempts,
    "problems": lambda value: isinstance(value, list) and all(map(_text, value)),
}
