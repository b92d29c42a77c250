"""Read what a report needs from a run's folder. What is not there is None, never a guess."""

import contextlib
import datetime
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from chatling.data.shard_files import CORPUS
from chatling.errors import DataError
from chatling.evals.long_context import is_long
from chatling.model.config import ModelConfig, flops_per_token, parameter_counts
from chatling.report.words import Words, load_words
from chatling.run_dir import RunFolder, read_json
from chatling.toy.packs import guess_language
from chatling.train.metrics import read_metrics, read_samples, tokens_per_second
from chatling.train.stage_base import Stage, TrainingStage
from chatling.train.status import StageStatus, read_status

Line = Mapping[str, Any]


@dataclass(frozen=True)
class StageReport:
    """One stage of a run. Seconds are wall time of all attempts; `machine` is the last one used.

    Each of `lines` but the first (which compiles) has `tokens_per_second`.
    """

    status: StageStatus
    definition: Stage
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
        return isinstance(self.definition, TrainingStage)

    @property
    def tokens(self) -> int | None:
        """Trained on so far."""
        return sum(line.get("tokens", 0) for line in self.lines) if self.lines else None

    @property
    def speed(self) -> float | None:
        """Tokens a second. The first step is left out: it compiles."""
        return tokens_per_second([line for line in self.lines if line.get("seconds")][1:])

    @property
    def mfu(self) -> float | None:
        """FLOPs of the model a second, as a share of this machine's measured rate of matrix
        products; only where a token costs the same.
        """
        if (
            self.speed is None
            or self.model is None
            or self.machine is None
            or not self.definition.even_cost
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

    def resumes(self, words: Words) -> list[str]:
        """When the stage was interrupted, and from which step it resumed, in sentences."""
        told = []
        for attempt in self.attempts[1:]:
            story = {
                "running": words("was cut off"),
                "interrupted": words("was stopped"),
                "failed": words("failed"),
            }.get(attempt["after"], words("lost its result"))
            where = ""
            if "begun_at" in attempt:
                where = words(" from step {step:,}", step=attempt["begun_at"])
            told.append(
                words(
                    "{stage} {story}; it resumed{where} at {time}",
                    stage=self.name,
                    story=story,
                    where=where,
                    time=clock(attempt["started"]),
                )
            )
        unknown = self.status.resumes - len(told)
        if unknown > 0:
            told.append(
                words(
                    "{stage} resumed after more breaks ({count}); when was not recorded",
                    stage=self.name,
                    count=unknown,
                )
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
    # "base-train" and the like -> documents, tokens, counts
    corpora: Mapping[str, Mapping[str, Any]]
    # all stages that there are, in order
    registry: tuple[Stage, ...]

    @cached_property
    def trained(self) -> tuple[StageReport, ...]:
        """The training stages that have begun, in order."""
        return tuple(stage for stage in self.stages if stage.trains)

    @cached_property
    def words(self) -> Words:
        """Those of the language that the last stage was asked in and answers in."""
        last = [line for stage in self.trained[-1:] for line in stage.samples[-1:]]
        said = [
            each[key] for line in last for each in line["samples"] for key in ("prompt", "text")
        ]
        return load_words(guess_language(said))

    def stage(self, name: str) -> StageReport | None:
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def pretrained(self) -> StageReport | None:
        """The stage whose model continues texts."""
        return next((stage for stage in self.trained if not stage.definition.chats), None)

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
        return self._hourly("price_per_hour", 1)

    @property
    def energy(self) -> float | None:
        """Kilowatt-hours, where the recipe says what the machine draws."""
        return self._hourly("watts", 1000)

    def _hourly(self, field: str, unit: float) -> float | None:
        """What the run's hours add up to, by a rate in the recipe's `[machine]` table."""
        rate = self.recipe.get("machine", {}).get(field)
        return rate * self.seconds / 3600 / unit if _finite(rate) else None

    def chat(self, stage: str) -> list[Mapping[str, Any]]:
        """A stage's chat evaluation.

        [{"name", "correct", "total", "accuracy", "interval", "baseline"}]
        """
        return list(self.evals.get(f"{stage}-chat", {}).get("results", []))

    def core(self, stage: str) -> Mapping[str, Any] | None:
        """A stage's CORE evaluation.

        {"core", "cut", "limit", "tasks": {name: {"accuracy", "centered", "count", "baseline"}},
        "problems"}
        """
        found = self.evals.get(f"{stage}-core", {}).get("results")
        return found if isinstance(found, Mapping) else None

    def long(self, stage: str) -> Mapping[str, Any] | None:
        """What was measured of a stage's longer context: `LongScores.to_dict`."""
        found = self.evals.get(f"{stage}-long", {}).get("results")
        return found if isinstance(found, Mapping) else None


def collect(folder: RunFolder, registry: Sequence[Stage]) -> RunReport:
    """Read a run of these stages, finished or not.

    Raises DataError when its state is damaged; a damaged detail is only missing.
    """
    state, status = folder.read_state(), read_status(folder)
    try:
        text = (folder.path / "recipe.toml").read_text(encoding="utf-8")
        recipe = tomllib.loads(text)
    except (OSError, tomllib.TOMLDecodeError):
        text, recipe = "", {}
    known = {stage.name: stage for stage in registry}
    stages = tuple(
        _stage(folder, each, state["stages"][each.name], known.get(each.name, Stage(each.name)))
        for each in status.stages
    )
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
        tuple(registry),
    )


def _stage(
    folder: RunFolder, status: StageStatus, entry: Mapping[str, Any], definition: Stage
) -> StageReport:
    name = status.name
    finished = _json(folder.model(name) / "config.json")
    # A stage that is not done has the model of its newest checkpoint.
    configs = sorted(folder.stage(name).glob("checkpoints/step_*/config.json"))
    shape = (finished or (_json(configs[-1]) if configs else None) or {}).get("model")
    lines = read_metrics(folder.stage(name) / "metrics.jsonl") if definition.charts else []
    for line in [line for line in lines if line.get("seconds")][1:]:
        line["tokens_per_second"] = tokens_per_second([line])
    return StageReport(
        status,
        definition,
        tuple(lines),
        tuple(entry.get("attempts", ())),
        entry.get("machine"),
        entry.get("processes", 1),
        _config(shape),
        peak if type(peak := (finished or {}).get("peak_memory")) is int else None,
        tuple(read_samples(folder.evals / f"{name}-samples.jsonl")),
    )


def _is_ours(name: str, found: Mapping[str, Any]) -> bool:
    """Whether an evaluation has the shape that its readers expect: a run is untrusted input."""
    results = found.get("results")
    if name.endswith("-chat"):
        return isinstance(results, list) and all(
            isinstance(row, dict)
            and isinstance(row.get("name"), str)
            and all(_finite(row.get(key)) for key in ("correct", "total", "accuracy"))
            for row in results
        )
    if name.endswith("-core"):
        tasks = results.get("tasks") if isinstance(results, dict) else None
        return (
            isinstance(results, dict)
            and isinstance(tasks, dict)
            and _finite(results.get("core"))
            and all(
                isinstance(task, dict)
                and all(value is None or _finite(value) for value in task.values())
                for task in tasks.values()
            )
        )
    if name.endswith("-long"):
        return isinstance(results, dict) and is_long(results)
    return True


def _config(shape: Any) -> ModelConfig | None:
    with contextlib.suppress(DataError):
        return ModelConfig.from_dict(shape) if isinstance(shape, dict) else None
    return None


def _json(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(DataError, OSError):
        return found if isinstance(found := read_json(path), dict) else None
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
