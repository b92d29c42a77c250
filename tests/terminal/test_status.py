"""`chatling status` of live and dead runs."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from chatling.hardware.detect import REACHED, Machine
from chatling.run_dir import RunFolder
from chatling.terminal.status import show_status
from chatling.train.status import read_status


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "demo")
    run.write_state(
        {
            "stages": {
                "tokenizer": {"status": "done", "fingerprint": "a", "seconds": 3.0, "resumes": 0},
                "base": {
                    "status": "running",
                    "fingerprint": "b",
                    "seconds": 0.0,
                    "resumes": 2,
                    "steps": 100,
                },
            },
            "execution": {},
        }
    )
    lines = [{"step": i, "loss": 5 - i / 100, "tokens": 1000, "seconds": 0.5} for i in range(40)]
    lines[19]["val_bpb"] = 1.5
    run.stage("base").mkdir()
    text = (
        "\n".join(map(json.dumps, lines))
        + '\n{"step": 40, "event": "not finite, skipped"}\n{"step": 41, "lo'
    )
    (run.stage("base") / "metrics.jsonl").write_text(text)
    return run


def test_a_dead_run(folder: RunFolder) -> None:
    status = read_status(folder)
    tokenizer, base = status.stages
    assert not status.alive
    assert tokenizer.status == "done"
    assert (base.status, base.step, base.steps, base.resumes) == ("cut off", 40, 100, 2)
    assert base.seconds == pytest.approx(20.0)
    assert base.left == pytest.approx(30.0)
    assert base.metrics["val_bpb"] == 1.5
    assert base.metrics["loss"] == pytest.approx(4.61)
    assert base.metrics["tokens_per_second"] == pytest.approx(2000)


def test_a_live_run_names_its_process(folder: RunFolder) -> None:
    with folder.lock():
        status = read_status(folder)
    assert status.alive
    assert status.process == str(os.getpid())
    assert status.stages[1].status == "running"
    assert not read_status(folder).alive


def test_the_table(folder: RunFolder) -> None:
    text = io.StringIO()
    show_status(read_status(folder), Console(file=text, width=160))
    for part in (
        "demo",
        "not running",
        "cut off",
        "40/100",
        "30 s",
        "loss 4.610",
        "bpb 1.5000",
        "2,000 tokens/s",
    ):
        assert part in text.getvalue()


def test_an_error_is_shown(folder: RunFolder) -> None:
    state = folder.read_state()
    state["stages"]["base"] |= {"status": "failed", "error": "The disk is full."}
    folder.write_state(state)
    text = io.StringIO()
    show_status(read_status(folder), Console(file=text, width=160))
    assert "base: The disk is full." in text.getvalue()


def test_planned_is_beside_actual(folder: RunFolder) -> None:
    state = folder.read_state()
    machine = Machine("cuda", "x", 2, 10**9, False, True, 1.0, 10.0)
    base = state["stages"]["base"]
    base |= {"work": 9e14, "machine": machine.to_dict(), "processes": 2}
    folder.write_state(state)
    planned = 9e14 / (10e12 * REACHED["cuda"] * 2)
    assert read_status(folder).stages[1].planned == pytest.approx(planned)
    shown = io.StringIO()
    show_status(read_status(folder), Console(file=shown, width=160))
    assert "1 min 40 s" in shown.getvalue()
    base["machine"]["device"] = "abacus"  # of another version
    folder.write_state(state)
    assert read_status(folder).stages[1].planned is None
