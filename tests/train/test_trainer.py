"""The loop's promises: what a step learns, the guard against non-finite steps, clean stops, the
memory it asks for.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chatling.data.loaders import Step
from chatling.errors import RunError
from chatling.hardware.device_errors import OutOfMemory
from chatling.hardware.distributed import DistContext
from chatling.train.checkpoint import load_model, save_model
from chatling.train.metrics import read_metrics
from chatling.train.trainer import Trainer

from .trainer_runs import Make, weights


def test_it_learns(trainer: Make, tmp_path: Path) -> None:
    done = trainer(tmp_path, steps=60)
    done.fit()
    losses = [line["loss"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert len(losses) == 60
    assert losses[-1] < 0.6 * losses[0]


def test_lines_tell_what_the_process_holds(trainer: Make, tmp_path: Path) -> None:
    trainer(tmp_path, steps=3).fit()
    unit = 1 if sys.platform == "darwin" else 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    used = [line["memory_gb"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert used == sorted(used)
    assert 0.1 < used[0] <= used[-1] <= most + 0.001


@dataclass(frozen=True)
class Weighted:
    """A micro-batch with a field of its own."""

    inputs: np.ndarray
    targets: np.ndarray
    weight: np.ndarray


class Reading:
    """Batches that depend on the weights: each step notes the model's as it finds them, and some
    steps hold nothing to learn.
    """

    def __init__(self, trainer: Trainer, empty: Container[int] = ()):
        self.inner, self.model, self.empty = trainer.batches, trainer.model, empty
        self.seen: list[float] = []

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        for step in self.inner.steps(state):
            size = float(sum(p.detach().abs().sum() for p in self.model.parameters()))
            self.seen.append(size)
            micro = (
                ()
                if len(self.seen) in self.empty
                else tuple(
                    Weighted(m.inputs, m.targets, np.ones(1, np.float32))
                    for m in step.micro_batches
                )
            )
            yield replace(step, micro_batches=micro, metrics={"size": size})


def weighted(made: Trainer) -> Trainer:
    made.loss = lambda inputs, targets, weight: tuple(
        x * weight[0] for x in made.model.loss(inputs, targets)
    )
    return made


def test_without_prefetching_each_batch_sees_the_step_before_it(
    trainer: Make, tmp_path: Path
) -> None:
    made = weighted(trainer(tmp_path, prefetch=False))
    made.batches = reading = Reading(made)
    made.fit()
    assert len(set(reading.seen)) == 12  # the weights as they were before each of the twelve steps
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["size"] for line in lines] == reading.seen
    assert all(0 < line["batch_seconds"] < line["seconds"] for line in lines)


def test_a_step_with_nothing_to_learn_leaves_the_weights(trainer: Make, tmp_path: Path) -> None:
    made = weighted(trainer(tmp_path, prefetch=False))
    made.batches = reading = Reading(made, empty=(5,))
    made.fit()
    assert reading.seen[5] == reading.seen[4]
    assert len(set(reading.seen)) == 11
    line = read_metrics(tmp_path / "metrics.jsonl")[4]
    assert line["loss"] == line["gradient_norm"] == 0


def test_an_evaluation_before_the_first_step_has_a_line_of_its_own(
    trainer: Make, tmp_path: Path
) -> None:
    trainer(tmp_path, evaluate_first=True).fit()
    trainer(tmp_path, evaluate_first=True).fit()  # resumed at the end: nothing more
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[0] == {"step": 0, "event": "start", "val_loss": 1.0}
    assert [line["step"] for line in lines[1:]] == list(range(12))


def poison(trainer: Trainer, bad: Callable[[int], bool]) -> Trainer:
    """Make the loss of some calls (counted over the trainer's life, four a step) not a number."""
    inner, calls = trainer.loss, [0]

    def loss(**tensors: Tensor) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        value, count = inner(**tensors)
        return value * (float("nan") if bad((calls[0] - 1) // 4) else 1.0), count

    trainer.loss = loss
    return trainer


def test_one_bad_step_is_skipped_and_recorded(trainer: Make, tmp_path: Path) -> None:
    made = poison(trainer(tmp_path), lambda step: step == 3)
    assert made.fit().step == 12
    lines = read_metrics(tmp_path / "metrics.jsonl")
    skipped = [line for line in lines if "event" in line]
    assert [(line["step"], line["rows"]) for line in skipped] == [(3, "0:24")]
    assert all(torch.isfinite(weight).all() for weight in weights(made))


def test_three_bad_steps_roll_back_and_leave_the_rows_out(trainer: Make, tmp_path: Path) -> None:
    made = poison(trainer(tmp_path, save_every=4), lambda step: step in (6, 7, 8))
    seen: list[Any] = []
    steps = made.batches.steps

    def recording(state: dict[str, int] | None = None) -> Any:
        for step in steps(state):
            seen.append((state, step.position))
            yield step

    made.batches.steps = recording  # type: ignore[method-assign]
    assert made.fit().step == 12
    assert made.guard.excluded == {"0:48", "0:56", "0:64"}
    assert any("Rolled back to step 4" in message for message in made.progress.messages)  # type: ignore[attr-defined]
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == list(range(12))
    # a kill now would not forget which rows are out
    assert trainer(tmp_path).guard.excluded == made.guard.excluded


def test_hopeless_divergence_stops_with_a_sentence(trainer: Make, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"not finite 3 steps in a row, after 2 rollbacks.*Lower the learning rates"
    ):
        poison(trainer(tmp_path), lambda step: True).fit()


def too_large(made: Trainer, rows: int, from_call: int = 1) -> Trainer:
    """Let memory run out for micro-batches of more rows, from some micro-batch on."""
    inner, calls = made.loss, [0]

    def loss(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        if len(inputs) > rows and calls[0] >= from_call:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return inner(inputs, targets)

    made.loss = loss
    return made


@pytest.mark.parametrize("from_call", [1, 11])
def test_no_memory_for_a_micro_batch_names_its_rows(
    trainer: Make, tmp_path: Path, from_call: int
) -> None:
    with pytest.raises(OutOfMemory, match="while training 'base' with 2 rows at a time") as raised:
        too_large(trainer(tmp_path), 1, from_call).fit()
    assert raised.value.rows == 2
    assert raised.value.__cause__ is None  # which would hold on to the memory


def test_no_memory_for_something_else_names_no_rows(trainer: Make, tmp_path: Path) -> None:
    def evaluate() -> dict[str, float]:
        raise MemoryError

    with pytest.raises(OutOfMemory, match="Memory ran out while training 'base'") as raised:
        trainer(tmp_path, steps=1, evaluate=evaluate).fit()
    assert raised.value.rows == 0


@dataclass(frozen=True)
class Peers(DistContext):
    """One of two ranks, of which the other had no memory for so many rows (0: it had)."""

    size: int = 2
    other: int = 0

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other]

    def broadcast_object(self, value: Any) -> Any:
        return value

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor

    def all_reduce_scalars(self, values: list[float], device: torch.device) -> list[float]:
        return values


@pytest.mark.parametrize(("own", "other"), [(1, 0), (8, 2), (1, 2)])
def test_ranks_agree_in_the_first_step(trainer: Make, tmp_path: Path, own: int, other: int) -> None:
    made = too_large(trainer(tmp_path), own)
    made.world, made._save = Peers(other=other), lambda: None  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory) as raised:
        made.fit()
    assert raised.value.rows == 2


def test_after_the_first_step_the_others_do_not_know(trainer: Make, tmp_path: Path) -> None:
    made = too_large(trainer(tmp_path), 1)
    made.world, made.fits = Peers(), True
    made._save = lambda: None  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory) as raised:
        made.fit()
    assert raised.value.rows == 0  # so this one must not try again


def test_deterministic_training_is_strict_in_its_steps_alone(trainer: Make, tmp_path: Path) -> None:
    seen = dict[str, bool]()
    made = trainer(tmp_path, steps=2, deterministic=True)
    inner, step = made.loss, made.optimizer.step

    def look(name: str) -> None:
        seen[name] = torch.are_deterministic_algorithms_enabled()

    def loss(**tensors: Tensor) -> tuple[Tensor, Tensor]:
        look("loss")
        return inner(**tensors)

    made.loss, made.evaluate = loss, lambda: look("evaluate") or {"val_loss": 1.0}
    made.optimizer.step = lambda *given: look("step") or step(*given)  # type: ignore[method-assign]
    made.fit()
    assert seen == {"loss": True, "step": True, "evaluate": False}


def test_a_bfloat16_model_keeps_its_rotary_tables(trainer: Make, tmp_path: Path) -> None:
    model = trainer(tmp_path / "run").model
    save_model(model, tmp_path / "model", {})
    loaded = load_model(tmp_path / "model", dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(loaded.cos, model.cos)
