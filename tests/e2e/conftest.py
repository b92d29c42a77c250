"""Runs of the real command, tiny: seconds a run, the same code as a big one."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chatling.config.recipe import builtin_recipes
from chatling.run_dir import waiting_lock

TINY = [
    *[
        "--model.depth",
        "2",
        "--model.width",
        "32",
        "--model.head-width",
        "16",
        "--model.context",
        "64",
        "--tokenizer.vocab_size",
        "400",
    ],
    *["--base.steps", "20", "--base.batch-tokens", "512", "--base.validation-tokens", "512"],
    *[
        "--mid.batch-tokens",
        "512",
        "--mid.mixture.0.count",
        "300",
        "--mid.validation-conversations",
        "8",
    ],
    *[
        "--sft.batch-conversations",
        "8",
        "--sft.mixture.0.count",
        "128",
        "--sft.validation-conversations",
        "8",
    ],
    *["--loop.save-every", "3", "--loop.evaluate-every", "20"],
    *["--machine.compile", "off", "--machine.kernel", "plain", "--machine.threads", "1"],
]
ALIGNED = [  # the stages after SFT
    *["--dpo.pairs", "200", "--dpo.validation-pairs", "40", "--dpo.evaluate-every", "4"],
    *[
        "--rl.steps",
        "5",
        "--rl.questions",
        "40",
        "--rl.questions-per-step",
        "4",
        "--rl.samples",
        "4",
        "--rl.max-tokens",
        "12",
    ],
    *[
        "--rl.evaluate-every",
        "4",
        "--rl.evaluate-questions",
        "8",
        "--rl.evaluate-samples",
        "2",
        "--rl.save-every",
        "2",
    ],
    *["--eval.questions", "3"],
]

Command = Callable[..., list[str]]


def tiny_command(
    name: str,
    *overrides: str,
    processes: int = 1,
    dtype: str = "float32",
    recipe: str = "pocket",
    aligned: bool = True,
) -> list[str]:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if processes > 1
        else []
    )
    words = [
        "run",
        recipe,
        "--name",
        name,
        *TINY,
        *(ALIGNED if aligned else []),
        "--machine.dtype",
        dtype,
        *overrides,
    ]
    return [sys.executable, *launcher, "-m", "chatling", *words]


def finished(command: list[str], home: Path) -> str:
    """Run a command to its end; returns what it printed."""
    environment = {**os.environ, "CHATLING_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "CHATLING_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def tiny_run() -> Command:
    """The command line of a tiny pocket run, on one process or several."""
    return tiny_command


@pytest.fixture
def finish(tmp_path: Path) -> Callable[[list[str]], str]:
    """Run a command to its end in the test's own home; returns what it printed."""
    return functools.partial(finished, home=tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a finished tiny run, trained once for all tests, and workers, that ask for the
    same; to be read, not changed.

    `aligned=False` ends with SFT.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def run(
        *overrides: str, processes: int = 1, dtype: str = "float32", aligned: bool = True
    ) -> Path:
        asked = repr((overrides, processes, dtype, aligned))
        home = shared / f"trained-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
        with waiting_lock(shared / f"{home.name}.lock"):
            if not (home / "finished").exists():
                home.mkdir(exist_ok=True)
                recipe = "pocket" if aligned else short_recipe(home)
                command = tiny_command(
                    "run",
                    *overrides,
                    processes=processes,
                    dtype=dtype,
                    recipe=recipe,
                    aligned=aligned,
                )
                finished(command, home)
                (home / "finished").touch()
        return home / "runs/run"

    return run


def short_recipe(home: Path) -> str:
    """The path of the pocket recipe without the stages after SFT."""
    text = builtin_recipes()["pocket"].read_text(encoding="utf-8")
    path = home / "short.toml"
    path.write_text(text[: text.index("[dpo]")] + text[text.index("[loop]") :], encoding="utf-8")
    return str(path)
