"""Runs of the real command, tiny: seconds a run, the same code as a big one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = [
    *["--model.depth", "2", "--model.width", "32", "--model.head-width", "16", "--model.context", "64", "--tokenizer.vocabulary", "400"],
    *["--base.steps", "20", "--base.batch-tokens", "512", "--base.validation-tokens", "512"],
    *["--mid.batch-tokens", "512", "--mid.mixture.0.count", "300", "--mid.validation-conversations", "8"],
    *["--sft.batch-conversations", "8", "--sft.mixture.0.count", "128", "--sft.validation-conversations", "8"],
    *["--dpo.pairs", "200", "--dpo.validation-pairs", "40", "--dpo.evaluate-every", "3"],
    *["--rl.steps", "5", "--rl.questions", "40", "--rl.questions-per-step", "4", "--rl.samples", "4", "--rl.max-tokens", "12"],
    *["--rl.evaluate-every", "4", "--rl.evaluate-questions", "8", "--rl.evaluate-samples", "2", "--rl.save-every", "2"],
    *["--loop.save-every", "3", "--loop.evaluate-every", "9", "--eval.questions", "3"],
    *["--machine.compile", "off", "--machine.kernel", "plain", "--machine.threads", "1"],
]

Command = Callable[..., list[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "CHATLING_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def tiny_run() -> Command:
    """The command line of a tiny pocket run, on one process or several."""

    def command(name: str, *overrides: str, processes: int = 1, dtype: str = "float32") -> list[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
        words = ["run", "pocket", "--name", name, *TINY, "--machine.dtype", dtype, *overrides]
        return [sys.executable, *launcher, "-m", "chatling", *words]

    return command


@pytest.fixture
def finish(environment: dict[str, str]) -> Callable[[list[str]], str]:
    """Run a command to its end; returns what it printed."""

    def run(command: list[str]) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    return run
