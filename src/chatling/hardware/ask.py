"""Ask the system: what a program prints, what a small file holds."""

import subprocess
from collections.abc import Callable
from pathlib import Path

Output = Callable[..., str | None]


def output(*words: str, seconds: float = 3.0) -> str | None:
    """What a program prints, its errors included; None where it is not there or does not end."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def read(path: Path) -> str | None:
    """A small file of the system, or None where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
