"""What a run's folder tells, gathered for a report. Only files of the run are read; what is not
there is None, never a guess.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from chatling.data.shard_files import CORPUS
from chatling.errors import DataError
from chatling.model.config import ModelConfig, flops_per_token, parameter_counts
from chatling.run_dir import STAGES, RunFolder, read_json
from chatling.train.metrics import read_metrics
from chatling.train.status import StageStatus, read_status

Line = Mapping[str, Any]


@dataclass(frozen=True)
class StageReport:
    """One stage of a run. Seconds are of the clock, in all attempts; `machine` is the one that it
    was last worked on.
    """

    status: StageStatus
    lines: tuple[Line, ...]
    attempts: tuple[Mapping[str, Any], ...]
    machine: Mapping[str, Any] | None
    processes: int
    model: ModelConfig | None
    peak_memory: int | None  # bytes
    samples: tuple[Line, ...]  # {"step", "samples": [{"topic", "prompt", "text"}]}

    @property
    def name(self) -> str:
        return self.status.name

    @property
    def trains(self) -> bool:
        return self.name in STAGES

    @property
    def tokens(self) -> int | None:
        """Learnt from, so far."""
        return sum(line.get("tokens", 0) for line in self.lines) if self.lines else None

    @property
    def speed(self) -> float | None:
        """Tokens a second. The first step is left out: it compiles."""
        rest = [line for line in self.lines if line.get("seconds")][1:]
        seconds = sum(line["seconds"] for line in rest)
        return sum(line.get("tokens", 0) for line in rest) / seconds if seconds else None

    @property
    def mfu(self) -> float | None:
        """FLOPs of the model a second, as a share of this machine's measured rate of matrix
        products; only where a token costs the same.
        """
        if (
            self.speed is None
            or self.model is None
            or self.machine is None
            or self.name not in ("base", "mid")
        ):
            return None
        fast = max(self.machine["fp32_tflops"], self.machine["bf16_tflops"]) * 1e12 * self.processes
        return self.speed * flops_per_token(self.model) / fast if fast else None

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """(steps, values) of a metric, where it is a finite number."""
        found = [(line["step"], line[key]) for line in self.lines if _finite(line.get(key))]
        return [step for step, _ in found], [value for _, value in found]

    def last(self, key: str) -> float | None:
        values = self.series(key)[1]
        return values[-1] if values else None

    @property
    def resumes(self) -> list[str]:
        """What broke when, and where it went on, in words."""
        told = []
        for attempt in self.attempts[1:]:
            story = {
                "running": "was cut off",
                "interrupted": "was stopped",
                "failed": "failed",
            }.get(attempt["after"], "lost its result")
            where = f" from step {attempt['begun_at']:,}" if "begun_at" in attempt else ""
            told.append(f"{self.name} {story}; it went on{where} at {clock(attempt['started'])}")
        unknown = self.status.resumes - len(told)
        if unknown > 0:
            told.append(
                f"{self.name} went on after a break {unknown} more"
                f" time{'s' if unknown > 1 else ''}; when was not recorded"
            )
        return told

    @property
    def skipped(self) -> list[int]:
        """Steps whose loss was not finite, and that changed nothing."""
        return [
            line["step"]
            for line in self.lines
            if str(line.get("event", "")).startswith("not finite")
        ]


@dataclass(frozen=True)
class RunReport:
    """A whole run. `evals` holds the files of `evals/` by their names without the suffix."""

    name: str
    recipe: Mapping[str, Any]
    recipe_text: str
    execution: Mapping[str, Any]
    stages: tuple[StageReport, ...]
    evals: Mapping[str, Mapping[str, Any]]
    tokenizer: Mapping[str, Any] | None
    corpora: Mapping[
        str, Mapping[str, Any]
    ]  # "base-train" and the like -> documents, tokens, counts
    alive: bool

    @cached_property
    def trained(self) -> tuple[StageReport, ...]:
        """The training stages that have begun, in order."""
        return tuple(stage for stage in self.stages if stage.trains)

    def stage(self, name: str) -> StageReport | None:
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def model(self) -> ModelConfig | None:
        return next((stage.model for stage in self.trained if stage.model), None)

    @property
    def parameters(self) -> int | None:
        return parameter_counts(self.model)["total"] if self.model else None

    @property
    def tokens(self) -> int | None:
        counted = [stage.tokens for stage in self.trained if stage.tokens is not None]
        return sum(counted) if counted else None

    @property
    def seconds(self) -> float:
        """Of all stages together, as spent."""
        return sum(stage.status.seconds for stage in self.stages)

    @property
    def finished(self) -> bool:
        return bool(self.stages) and all(
            stage.status.status == "done" for stage in self.stages if stage.name != "report"
        )

    @property
    def machine(self) -> Mapping[str, Any] | None:
        return next((stage.machine for stage in reversed(self.stages) if stage.machine), None)

    @property
    def cost(self) -> float | None:
        """Money, where the recipe says what an hour of the machine costs."""
        price = self.recipe.get("machine", {}).get("price_per_hour")
        return price * self.seconds / 3600 if _finite(price) else None

    @property
    def energy(self) -> float | None:
        """Kilowatt-hours, where the recipe says what the machine draws."""
        watts = self.recipe.get("machine", {}).get("watts")
        return watts * self.seconds / 3.6e6 if _finite(watts) else None

    def chat(self, stage: str) -> list[Mapping[str, Any]]:
        """A stage's chat evaluation: [{"name", "correct", "total", "accuracy", "interval",
        "baseline"}].
        """
        return list(self.evals.get(f"{stage}-chat", {}).get("results", []))

    def core(self, stage: str) -> Mapping[str, Any] | None:
        """{"core", "cut", "limit", "tasks": {name: {"accuracy", "centered", "count", "baseline"}},
        "problems"}
        """
        found = self.evals.get(f"{stage}-core", {}).get("results")
        return found if isinstance(found, Mapping) else None


def collect(folder: RunFolder) -> RunReport:
    """Read a run, finished or not. Raises DataError when its state is damaged; a damaged detail is
    only missing.
    """
    state, status = folder.read_state(), read_status(folder)
    try:
        text = (folder.path / "recipe.toml").read_text(encoding="utf-8")
        recipe = tomllib.loads(text)
    except (OSError, tomllib.TOMLDecodeError):
        text, recipe = "", {}
    stages = tuple(_stage(folder, each, state["stages"][each.name]) for each in status.stages)
    return RunReport(
        folder.name,
        recipe,
        text,
        state.get("execution", {}),
        stages,
        {
            path.stem: found
            for path in sorted(folder.evals.glob("*.json"))
            if (found := _json(path)) and _is_ours(path.stem, found)
        },
        _json(folder.tokenizer / "meta.json"),
        {
            path.parent.name: found
            for path in sorted(folder.data.glob(f"*/{CORPUS}"))
            if isinstance(found := _json(path), dict)
        },
        status.alive,
    )


def _stage(folder: RunFolder, status: StageStatus, entry: Mapping[str, Any]) -> StageReport:
    name = status.name
    finished = _json(folder.model(name) / "config.json")
    shape = (finished or _newest_shape(folder.stage(name) / "checkpoints") or {}).get("model")
    return StageReport(
        status,
        tuple(read_metrics(folder.stage(name) / "metrics.jsonl")) if name in STAGES else (),
        tuple(entry.get("attempts", ())),
        entry.get("machine"),
        entry.get("processes", 1),
        _config(shape),
        peak if type(peak := (finished or {}).get("peak_memory")) is int else None,
        tuple(read_metrics(folder.evals / f"{name}-samples.jsonl")),
    )


def _is_ours(name: str, found: Mapping[str, Any]) -> bool:
    """Whether an evaluation has the shape that its readers count on; a run may be somebody
    else's.
    """
    results = found.get("results")
    if name.endswith("-chat"):
        rows = results if isinstance(results, list) else [None]
        return all(
            isinstance(row, dict)
            and isinstance(row.get("name"), str)
            and all(map(_finite, _counts(row)))
            for row in rows
        )
    if name.endswith("-core"):
        tasks = results.get("tasks") if isinstance(results, dict) else None
        right = isinstance(tasks, dict) and all(
            isinstance(task, dict) and all(map(_number, task.values())) for task in tasks.values()
        )
        return right and isinstance(results, dict) and _finite(results.get("core"))
    return True


def _counts(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("correct", "total", "accuracy"))


def _number(value: Any) -> bool:
    return value is None or _finite(value)


def _config(shape: Any) -> ModelConfig | None:
    with contextlib.suppress(DataError):
        return ModelConfig.from_dict(shape) if isinstance(shape, dict) else None
    return None


def _newest_shape(checkpoints: Path) -> dict[str, Any] | None:
    """The model of a stage that is not done, from its newest checkpoint."""
    paths = sorted(checkpoints.glob("step_*/config.json"))
    return _json(paths[-1]) if paths else None


def _json(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(DataError, OSError):
        found = read_json(path)
        return found if isinstance(found, dict) else None
    return None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def clock(text: str) -> str:
    """A time of the state for a reader: 2026-11-22 19:48 UTC."""
    with contextlib.suppress(ValueError):
        return (
            datetime.datetime.fromisoformat(text)
            .astimezone(datetime.UTC)
            .strftime("%Y-%m-%d %H:%M UTC")
        )
    return text
