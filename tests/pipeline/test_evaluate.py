"""The end of a run: what cannot be measured is told, noted and left out; an interruption is none of
that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatling.config.recipe import Recipe
from chatling.errors import DataError, Interrupted
from chatling.evals.config import EvalConfig
from chatling.hardware.distributed import DistContext
from chatling.pipeline import evaluate
from chatling.pipeline.stages import STAGES
from chatling.run_dir import RunFolder
from chatling.terminal.progress import Progress
from chatling.train import setup
from chatling.train.stage_base import Job


class Told(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(silent=True)
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def noted() -> dict[str, Any]:
    return {}


@pytest.fixture
def job(tmp_path: Path, told: Told, noted: dict[str, Any]) -> Job:
    """Of a run that has nothing yet."""
    recipe = Recipe(eval=EvalConfig(core=str(tmp_path / "nowhere")))
    made = Job(
        recipe,
        RunFolder(tmp_path / "run"),
        DistContext(),
        told,
        {},
        noted.update,
        noted.update,
        STAGES,
    )
    made.folder.write_state(
        {"stages": {"eval": {"status": "running", "seconds": 1.0, "resumes": 0}}, "execution": {}}
    )
    return made


def test_what_cannot_be_measured_is_told_and_noted(
    job: Job, told: Told, noted: dict[str, Any]
) -> None:
    evaluate.EVAL.work(job)
    assert [problem.partition(" was left out")[0] for problem in noted["problems"]] == [
        "the tokenizer's evaluation",
        "CORE",
    ]
    assert len(told.messages) == 2
    evaluate.REPORT.work(job)
    assert (job.folder.report / "report.html").exists()


def test_a_bundle_that_cannot_be_had_is_none(
    job: Job, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Path:
        raise DataError("No network.", "Plug it in.")

    monkeypatch.setattr(setup, "open_bundle", fail)
    assert setup.core_bundle(job) is None
    assert "CORE is left out: No network." in told.messages[0]


def test_an_interruption_goes_through(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Path:
        raise Interrupted("Stopped by SIGTERM.")

    monkeypatch.setattr(setup, "open_bundle", stop)
    with pytest.raises(Interrupted):
        evaluate.EVAL.work(job)


def test_a_report_that_fails_does_not_end_the_run(
    job: Job, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(evaluate, "write_report", fail)
    evaluate.REPORT.work(job)
    assert "The report is left out: OSError: disk full" in told.messages[0]
