"""Real runs under `chatling launch`: processes killed, hung and stopped, and two nodes with a disk
each.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RECIPE = """
name = "{name}"
[model]
preset = "classic"
depth = 2
width = 32
head_width = 16
context = 64
[tokenizer]
vocab_size = 400
characters = 100000
[data]
source = "pocket"
[base]
steps = {steps}
batch_tokens = 512
validation_tokens = 512
[loop]
save_every = 5
evaluate_every = 0
[machine]
device = "cpu"
compile = "off"
kernel = "plain"
dtype = "float32"
threads = 1
"""
Launched = Callable[..., subprocess.Popen[str]]
MINUTES = 900.0  # of a busy machine


@pytest.fixture
def launched() -> Iterator[Launched]:
    """Start `chatling launch RECIPE WORD…` with a home; what still runs in the end is stopped."""
    running = []

    def start(home: Path, recipe: Path, *words: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "CHATLING_HOME": str(home), "OMP_NUM_THREADS": "1"}
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "chatling", "launch", str(recipe), *words],
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
        return running[-1]

    yield start
    for process in running:
        process.terminate()


def until(true: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + MINUTES
    while not true():
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, ended[0].communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps(home: Path, name: str) -> int:
    log = home / "runs" / name / "base/metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def process(launcher: subprocess.Popen[str], rank: int) -> int:
    """The worker of that rank; 0 while there is none."""
    for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has ended by now
            if f"\0RANK={rank}\0".encode() in Path(f"/proc/{child}/environ").read_bytes():
                return int(child)
    return 0


@pytest.mark.slow
def test_a_run_survives_a_kill_and_a_hang_and_stops_when_asked(
    launched: Launched, tmp_path: Path
) -> None:
    recipe = tmp_path / "one.toml"
    recipe.write_text(RECIPE.format(name="one", steps=4000))
    words = ("--processes", "2", "--timeout", "30")
    run = launched(tmp_path, recipe, *words)
    seen = 0
    for number in (signal.SIGKILL, signal.SIGSTOP):
        until(lambda seen=seen: steps(tmp_path, "one") > seen + 12, run)  # type: ignore[misc]
        victim = process(run, 1)
        os.kill(victim, number)
        until(lambda victim=victim: process(run, 1) not in (0, victim), run)  # type: ignore[misc]
        seen = steps(tmp_path, "one")
    until(lambda: steps(tmp_path, "one") > seen + 12, run)
    os.kill(process(run, 1), signal.SIGTERM)
    said = run.communicate(timeout=MINUTES)[0]
    assert run.returncode == 75, said
    assert "SIGKILL; all start again from what is saved (1 of 3)" in said
    assert "did not answer in time" in said
    assert "(2 of 3)" in said
    assert "(3 of 3)" not in said
    assert "The run was stopped" in said
    folder = tmp_path / "runs/one"
    assert (folder / ".stopped").exists()
    assert (folder / "flight/rank_0.txt").read_text().count("File ") > 3


@pytest.mark.slow
def test_two_nodes_need_no_disk_that_both_see(launched: Launched, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    recipe, homes = tmp_path / "two.toml", [tmp_path / "first", tmp_path / "second"]

    def start(length: int) -> list[subprocess.Popen[str]]:
        recipe.write_text(RECIPE.format(name="two", steps=length))
        where = ("--nodes", "2", "--rendezvous", meeting, "--processes", "1")
        return [
            launched(home, recipe, *where, "--node-rank", str(rank))
            for rank, home in enumerate(homes)
        ]

    nodes = start(60)
    until(lambda: steps(homes[0], "two") > 12, *nodes)
    nodes[1].terminate()
    said = [node.communicate(timeout=MINUTES)[0] for node in nodes]
    if steps(homes[0], "two") < 60:
        assert [node.returncode for node in nodes] == [75, 75], said
    assert not list((homes[1] / "runs/two").glob("base/checkpoints/step_*"))
    nodes = start(60)
    said = [node.communicate(timeout=MINUTES)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "resumes" in said[0]
    assert not list((homes[1] / "runs/two").glob("base/checkpoints/step_*"))
    assert not (homes[1] / "runs/two/state.json").exists()
    for name in ("tokenizer/tokenizer.json", "base/model/model.safetensors"):
        first, second = (home / "runs/two" / name for home in homes)
        assert first.read_bytes() == second.read_bytes()
