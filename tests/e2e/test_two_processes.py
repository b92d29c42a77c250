"""Two processes under torchrun train what one does."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "base/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_float64_weights_agree_after_twenty_steps(
    tiny_run: Callable[..., list[str]], finish: Callable[[list[str]], str], tmp_path: Path, preset: str
) -> None:
    overrides = ("--model.preset", preset)
    finish(tiny_run("one", *overrides, dtype="float64"))
    finish(tiny_run("two", *overrides, dtype="float64", processes=2))
    one, two = (load_file(tmp_path / "runs" / name / "base/model/model.safetensors") for name in ("one", "two"))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-10
    # every stage, SFT's padded rows included
    one, two = (load_file(tmp_path / "runs" / name / "sft/model/model.safetensors") for name in ("one", "two"))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-8


def test_fp32_losses_agree(
    tiny_run: Callable[..., list[str]], finish: Callable[[list[str]], str], tmp_path: Path
) -> None:
    finish(tiny_run("one"))
    finish(tiny_run("two", processes=2))
    one, two = (losses(tmp_path / "runs" / name) for name in ("one", "two"))
    assert len(one) == len(two) == 20
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 1e-3


def test_a_run_stopped_on_two_processes_goes_on_with_one(
    tiny_run: Callable[..., list[str]], finish: Callable[[list[str]], str], environment: dict[str, str], tmp_path: Path
) -> None:
    finish(tiny_run("whole", dtype="float64"))
    command = tiny_run("moved", dtype="float64", processes=2)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log, deadline = tmp_path / "runs/moved/base/metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") > 10):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.terminate()  # the launcher passes it on to its workers
    process.wait(timeout=60)
    assert "goes on" in finish(tiny_run("moved", dtype="float64"))
    whole, moved = (load_file(tmp_path / "runs" / name / "sft/model/model.safetensors") for name in ("whole", "moved"))
    assert max((whole[name] - moved[name]).abs().max().item() for name in whole) < 1e-8
