"""Run folders as training leaves them, written by hand: no model is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatling.model.config import ModelRecipe
from chatling.run_dir import STAGES, RunFolder, write_json

MACHINE = {
    "device": "cpu",
    "name": "Test & <Co> CPU",
    "cores": 2,
    "memory": 8_000_000_000,
    "fp32_tflops": 0.1,
    "bf16_tflops": 0.2,
}
SHAPE = ModelRecipe(depth=2, width=32, head_width=16, context=64).resolve(300).to_dict()
Make = Callable[..., RunFolder]


def metrics(steps: int, *, evaluate: int = 10, **extra: Any) -> str:
    lines = []
    for step in range(steps):
        seconds = 9.0 if step == 0 else 0.5  # the first one compiles
        line = {
            "step": step,
            "loss": 5 / (step + 1),
            "rate": 1 - step / steps,
            "gradient_norm": 1.0,
            "tokens": 100,
            "seconds": seconds,
        }
        if (step + 1) % evaluate == 0:
            line |= {"val_loss": 5.5 / (step + 1), "val_bpb": 2.5 / (step + 1)}
        lines.append(line | extra)
    return "".join(json.dumps(line) + "\n" for line in lines)


def results(**accuracy: float) -> list[dict[str, Any]]:
    counts = {"total": 100, "baseline": 0.25}
    return [
        {
            "name": name,
            "correct": int(100 * value),
            "accuracy": value,
            "interval": [value - 0.05, value + 0.05],
        }
        | counts
        for name, value in accuracy.items()
    ]


@pytest.fixture
def make_run(tmp_path: Path) -> Make:
    """A run with the given stages done; `unfinished` names one that stands in the middle."""

    def make(
        name: str = "run",
        stages: tuple[str, ...] = ("base", "sft"),
        unfinished: str | None = None,
        bare: bool = False,
    ) -> RunFolder:
        run = RunFolder(tmp_path / name)
        state: dict[str, Any] = {"tokenizer": {"status": "done", "seconds": 2.0, "resumes": 0}}
        for stage in stages:
            attempt = {
                "started": "2026-01-02T03:04:05+00:00",
                "after": None,
                "machine": MACHINE,
                "processes": 1,
                "begun_at": 0,
            }
            state[stage] = {
                "status": "done",
                "seconds": 60.0,
                "resumes": 0,
                "steps": 40,
                "attempts": [attempt],
                "machine": MACHINE,
            }
            state[stage] |= {"processes": 1}
            steps = 25 if stage == unfinished else 40
            if stage == unfinished:
                state[stage]["status"] = "running"
                write_json(
                    run.stage(stage) / "checkpoints/step_000020/config.json", {"model": SHAPE}
                )
            else:
                write_json(
                    run.model(stage) / "config.json",
                    {"model": SHAPE, "stage": stage, "peak_memory": 700_000_000},
                )
            run.stage(stage).mkdir(parents=True, exist_ok=True)
            (run.stage(stage) / "metrics.jsonl").write_text(metrics(steps))
            if not bare:
                said = {
                    "topic": "who it is",
                    "prompt": f"{stage}?",
                    "text": f"I am <b>{stage}</b> | of\n{name}",
                }
                lines = [
                    {"step": step, "samples": [said | {"text": f"{said['text']} {step}"}]}
                    for step in (20, 40)
                ]
                run.evals.mkdir(exist_ok=True)
                (run.evals / f"{stage}-samples.jsonl").write_text(
                    "".join(json.dumps(line) + "\n" for line in lines)
                )
        run.write_state(
            {
                "stages": state,
                "execution": {
                    "device": "cpu",
                    "dtype": "bfloat16",
                    "compile": True,
                    "kernel": "plain",
                },
            }
        )
        (run.path / "recipe.toml").write_text(
            f'name = "{name}"\nseed = 1\n\n[model]\ndepth = 2\n\n[base]\nsteps = 40\n'
        )
        write_json(
            run.tokenizer / "meta.json", {"vocab_size": 300, "digits": 2, "specials": ["<|bos|>"]}
        )
        if not bare:
            write_json(
                run.evals / "sft-chat.json",
                {"stage": "sft", "results": results(facts=0.9, hard_sums=0.3), "chatcore": 0.4321},
            )
            places = [None, *(5 / place for place in range(1, 64))]
            write_json(
                run.evals / "base-bpb.json",
                {"stage": "base", "eval": "bpb", "results": {"positions": places}},
            )
            tasks = {
                "pocket_order": {
                    "accuracy": 0.6,
                    "centered": 0.6,
                    "count": 38,
                    "baseline": 0.0,
                    "cropped": 3,
                }
            }
            core = {
                "core": 0.6,
                "cut": False,
                "limit": None,
                "tasks": tasks,
                "problems": ["a.jsonl line 3: no choices."],
            }
            write_json(
                run.evals / "base-core.json", {"stage": "base", "eval": "core", "results": core}
            )
        return run

    return make


@pytest.fixture
def every_stage(make_run: Make) -> RunFolder:
    return make_run("all", STAGES)
