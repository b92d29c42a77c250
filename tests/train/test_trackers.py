"""Trackers get what metrics.jsonl gets, offline, and none of them can end a run."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatling.config.stages import LoopConfig
from chatling.train.metrics import read_metrics
from chatling.train.trainer import Trainer

Make = Callable[..., Trainer]


class FakeRun:
    """What wandb.init, swanlab.init and trackio.init return: an object with log and finish."""

    def __init__(self, **options: Any):
        self.options, self.lines, self.finished = options, [], False

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self.lines.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture(params=["wandb", "swanlab", "trackio"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in for the package, which keeps the runs that were begun."""
    module = types.ModuleType(request.param)
    module.runs = []  # type: ignore[attr-defined]

    def init(**options: Any) -> FakeRun:
        module.runs.append(FakeRun(**options))
        return module.runs[-1]

    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def config(tracker: str) -> LoopConfig:
    return LoopConfig(save_every=4, evaluate_every=4, tracker=tracker)  # type: ignore[arg-type]


def test_a_tracker_gets_every_number_of_every_line(
    trainer: Make, package: types.ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "myrun" / "base"
    trainer(folder, steps=8, config=config(package.__name__)).fit()
    (run,) = package.runs
    lines = read_metrics(folder / "metrics.jsonl")
    assert run.lines == [
        (line["step"], {f"base/{key}": line[key] for key in line if key != "step"})
        for line in lines
    ]
    assert len(lines) == 8
    assert "base/val_loss" in run.lines[3][1]
    assert run.finished
    assert "myrun-base" in (run.options.get("name"), run.options.get("experiment_name"))
    assert (
        run.options.get("mode", "offline") == "offline"
    )  # trackio knows no other unless a space is given
    assert "space_id" not in run.options


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_failing_tracker_is_told_of_once_and_training_goes_on(
    trainer: Make,
    package: types.ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError("no space left on the tracker")

    monkeypatch.setattr(*((package, "init") if where == "init" else (FakeRun, where)), fail)
    made = trainer(tmp_path / "run" / "base", steps=8, config=config(package.__name__))
    assert made.fit().step == 8
    assert len(read_metrics(tmp_path / "run/base/metrics.jsonl")) == 8
    (message,) = made.progress.messages
    assert f"{package.__name__} failed (OSError: no space left on the tracker)" in message


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(
    trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not there
    made = trainer(tmp_path / "run" / "base", steps=4, config=config("wandb"))
    assert made.fit().step == 4
    assert 'pip install "chatling[wandb]"' in made.progress.messages[0]


def test_tensorboard_has_the_metrics_and_forgets_what_a_killed_attempt_wrote(
    trainer: Make, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run" / "base"
    killed = trainer(folder, steps=12, config=config("tensorboard"))
    inner, calls = killed.loss, [0]

    def loss(**tensors: Any) -> Any:
        calls[0] += 1
        if calls[0] > 6 * 4:  # dies in step 6, two after the last checkpoint
            raise ZeroDivisionError
        return inner(**tensors)

    killed.loss = loss
    with pytest.raises(ZeroDivisionError):
        killed.fit()
    trainer(folder, steps=12, config=config("tensorboard")).fit()
    events = EventAccumulator(str(tmp_path / "run" / "tracker" / "base"))
    events.Reload()
    written = [(event.step, event.value) for event in events.Scalars("base/loss")]
    lines = read_metrics(folder / "metrics.jsonl")
    assert [step for step, _ in written] == list(range(12))
    assert [value for _, value in written] == pytest.approx([line["loss"] for line in lines])
