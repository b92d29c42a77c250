"""The programs of examples/ run as they are, on a tiny run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SAID = {
    "chat.py": "(3 messages)",
    "batch_generation.py": "tokens)",
    "logprobs.py": "bits per byte",
    "own_task.py": "of 3 right",
}


def output(example: str, home: Path, *words: str) -> str:
    environment = {**os.environ, "CHATLING_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / example), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("example", sorted(SAID))
def test_an_example_runs(trained: Callable[..., Path], example: str) -> None:
    assert SAID[example] in output(example, trained().parent.parent, "run")


@pytest.mark.slow
def test_training_from_python(tmp_path: Path) -> None:
    assert "parameters in" in output("train_tiny.py", tmp_path)


def test_every_example_is_tried() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SAID, "train_tiny.py"}
