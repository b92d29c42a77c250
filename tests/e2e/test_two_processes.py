"""Two processes under torchrun train what one does."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from .conftest import tiny_command

MODERN = ("--model.preset", "modern", "--tokenizer.characters", "100000")


def losses(run: Path) -> list[float]:
    return [
        json.loads(line)["loss"] for line in (run / "base/metrics.jsonl").read_text().splitlines()
    ]


@pytest.mark.slow
def test_float64_weights_agree(trained: Callable[..., Path]) -> None:
    one, two = (
        trained(*MODERN, processes=processes, dtype="float64", aligned=False)
        for processes in (1, 2)
    )
    # every stage, SFT's padded rows included
    for stage, difference in (("base", 1e-10), ("sft", 1e-8)):
        weights = [load_file(run / stage / "model/model.safetensors") for run in (one, two)]
        assert (
            max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0])
            < difference
        )


@pytest.mark.slow
def test_fp32_losses_agree(trained: Callable[..., Path]) -> None:
    one, two = losses(trained()), losses(trained(processes=2))
    assert len(one) == len(two) == 20
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 1e-3


@pytest.mark.slow
def test_a_run_stopped_on_two_processes_goes_on_with_one(
    trained: Callable[..., Path],
    finish: Callable[[list[str]], str],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    whole = trained(*MODERN, dtype="float64", aligned=False)
    recipe = str(whole / "recipe.toml")
    moved = [
        tiny_command(
            "moved", *MODERN, dtype="float64", recipe=recipe, aligned=False, processes=processes
        )
        for processes in (2, 1)
    ]
    process = subprocess.Popen(
        moved[0], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    log, deadline = tmp_path / "runs/moved/base/metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") > 10):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.terminate()  # the launcher passes it on to its workers
    process.wait(timeout=60)
    assert "resumes" in finish(moved[1])
    one, two = (
        load_file(run / "sft/model/model.safetensors") for run in (whole, tmp_path / "runs/moved")
    )
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-8
