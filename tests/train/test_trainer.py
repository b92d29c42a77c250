"""The loop's promises: exact resume, fallback from damage, the guard against non-finite steps,
clean stops.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from chatling.config.stages import LoopConfig
from chatling.data.loaders import Step
from chatling.errors import DataError, Interrupted, MachineError, RunError
from chatling.hardware.device_errors import OutOfMemory
from chatling.hardware.distributed import DistContext
from chatling.model.adapter import AdaptedGPT, AdapterConfig, merged
from chatling.optim.param_groups import OptimConfig, Optimizer, resolve_optim
from chatling.train.checkpoint import load_model, save_model
from chatling.train.metrics import read_metrics
from chatling.train.trainer import Trainer

Make = Callable[..., Trainer]


def weights(trainer: Trainer) -> list[Tensor]:
    return [p.detach().clone() for p in trainer.model.parameters()]


def same(a: Trainer, b: Trainer) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def stop_after(trainer: Trainer, steps: int) -> Trainer:
    """Make the trainer die (as by a bug) after some steps."""
    inner, calls = trainer.loss, [0]

    def loss(**tensors: Tensor) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        if calls[0] > steps * 4:  # four micro-batches a step
            raise ZeroDivisionError
        return inner(**tensors)

    trainer.loss = loss
    return trainer


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


@pytest.mark.parametrize("at", [1, 4, 5, 11])
def test_a_broken_run_ends_with_the_same_bits(trainer: Make, tmp_path: Path, at: int) -> None:
    whole = trainer(tmp_path / "whole")
    whole.fit()
    with pytest.raises(ZeroDivisionError):
        stop_after(trainer(tmp_path / "broken"), at).fit()
    resumed = trainer(tmp_path / "broken")
    position = resumed.fit()
    assert same(whole, resumed)
    lines = read_metrics(tmp_path / "broken" / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(12))
    expected = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert [line["loss"] for line in lines] == [line["loss"] for line in expected]
    assert position.tokens == whole.position.tokens


def adapted(trainer: Make, folder: Path, base: str = "0" * 64) -> Trainer:
    """A trainer of adapters over drawn weights: of fresh ones, the head is zero."""
    plain, draw = trainer(folder), torch.Generator().manual_seed(3)
    for parameter in plain.model.parameters():
        parameter.data.normal_(0, 0.2, generator=draw)
    model = AdaptedGPT(plain.model.config, AdapterConfig(rank=3), base, "there")
    model.initialize(torch.Generator().manual_seed(4))
    model.load_state_dict(plain.model.state_dict())
    rates = resolve_optim(OptimConfig(), "classic", 32, 192, 1, 0)
    optimizer = Optimizer(model, rates, plain.world, torch.float32)
    return trainer(folder, model=model, optimizer=optimizer, loss=model.loss)


def test_adapters_resume_from_themselves_over_the_same_model_alone(
    trainer: Make, tmp_path: Path
) -> None:
    whole, broken = adapted(trainer, tmp_path / "whole"), tmp_path / "broken"
    start = merged(whole.model).state_dict()
    whole.fit()
    with pytest.raises(ZeroDivisionError):
        stop_after(adapted(trainer, broken), 9).fit()
    saved = broken / "checkpoints/step_000008"
    assert load_file(saved / "model.safetensors").keys() == whole.model.state_dict().keys()
    names = {name.partition("lora_")[0] for name in load_file(saved / "optimizer.safetensors")}
    assert all("_proj." in name or ".fc" in name for name in names)
    for other in (adapted(trainer, broken, base="1" * 64), trainer(broken)):
        with pytest.raises(DataError, match="another model"):
            other.fit()
    resumed = adapted(trainer, broken)
    resumed.fit()
    assert same(whole, resumed)
    end = merged(resumed.model).state_dict()
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert len(changed) == 12  # six matrices of two layers
    losses = [line["loss"] for line in read_metrics(broken / "metrics.jsonl")]
    assert losses[-1] < losses[0]


def test_resume_at_the_very_last_step_does_nothing_more(trainer: Make, tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.fit()
    again = stop_after(trainer(tmp_path), 0)  # any further step would raise
    assert again.fit().step == 12
    assert same(first, again)


@pytest.mark.parametrize("damage", ["truncate", "flip", "no manifest", "half-written"])
def test_a_damaged_newest_checkpoint_falls_back(trainer: Make, tmp_path: Path, damage: str) -> None:
    whole = trainer(tmp_path / "whole")
    whole.fit()
    with pytest.raises(ZeroDivisionError):
        stop_after(trainer(tmp_path / "broken"), 9).fit()
    newest = tmp_path / "broken/checkpoints/step_000008"
    target = newest / "optimizer.safetensors"
    if damage == "truncate":
        os.truncate(target, 100)
    elif damage == "flip":
        data = bytearray(target.read_bytes())
        data[-5] ^= 1
        target.write_bytes(data)
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    else:
        shutil.copytree(newest, newest.with_name(".step_000010.1.tmp"))
    resumed = trainer(tmp_path / "broken")
    resumed.fit()
    assert same(whole, resumed)
    if damage in ("truncate", "flip"):
        assert any("step_000008 is damaged" in message for message in resumed.progress.messages)  # type: ignore[attr-defined]


def test_checkpoints_keep_the_newest_and_the_best(trainer: Make, tmp_path: Path) -> None:
    losses = iter([5.0, 1.0, 2.0, 3.0, 4.0, 4.0])
    made = trainer(
        tmp_path,
        steps=12,
        save_every=2,
        evaluate=lambda: {"val_loss": next(losses)},
        config=LoopConfig(2, 2, 2),
    )
    made.fit()
    assert made.checkpoints.steps() == [4, 10, 12]


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


def test_sigterm_saves_and_goes_on_to_the_same_bits(trainer: Make, tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.fit()
    stopped = trainer(tmp_path / "stopped", save_every=0)
    inner, calls = stopped.loss, [0]

    def loss(**tensors: Tensor) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        if calls[0] == 4 * 5 + 2:  # in the middle of the sixth step
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(**tensors)

    stopped.loss = loss
    with pytest.raises(Interrupted, match="Stopped at step 6 of 12; saved") as caught:
        stopped.fit()
    assert caught.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = trainer(tmp_path / "stopped", save_every=0)
    resumed.fit()
    assert same(whole, resumed)


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer(tmp_path / "whole")
    whole.fit()
    import chatling.train.checkpoint as checkpoint

    real, calls = checkpoint.save_file, [0]

    def full(*arguments: Any) -> None:
        calls[0] += 1
        if calls[0] == 5:
            Path(arguments[1]).write_bytes(b"half")
            raise SafetensorError(
                "Error while serializing: I/O error: No space left on device (os error 28)"
            )  # as it really comes
        real(*arguments)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(MachineError, match="disk is full"):
        trainer(tmp_path / "full").fit()
    monkeypatch.undo()
    resumed = trainer(tmp_path / "full")
    resumed.fit()
    assert same(whole, resumed)
    assert not list((tmp_path / "full/checkpoints").glob(".*tmp"))


def slow_disk(monkeypatch: pytest.MonkeyPatch, wait: Callable[[Path], None]) -> None:
    """Have every file of a checkpoint but those of the first one wait before it is written."""
    import chatling.train.checkpoint as checkpoint

    real = checkpoint.save_file

    def save_file(tensors: Any, path: Path, *rest: Any) -> None:
        if "step_000000" not in str(path):
            wait(path)
        real(tensors, path, *rest)

    monkeypatch.setattr(checkpoint, "save_file", save_file)


def test_training_continues_while_a_checkpoint_is_written(
    trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer(tmp_path / "whole")
    whole.fit()
    made = trainer(tmp_path / "run")
    slow_disk(monkeypatch, lambda path: wait_for(lambda: made.position.step >= 7))
    made.fit()
    assert same(whole, made)
    for step in (8, 12):
        files = [
            f"checkpoints/step_{step:06d}/{name}.safetensors" for name in ("model", "optimizer")
        ]
        for file in files:
            one, other = (load_file(tmp_path / name / file) for name in ("whole", "run"))
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in one)


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer(tmp_path / "whole")
    whole.fit()
    child = os.fork()
    if child == 0:  # stays in the middle of its second checkpoint, and trains on to the third
        slow_disk(monkeypatch, lambda path: time.sleep(600) if "000008" in str(path) else None)
        trainer(tmp_path / "killed").fit()
        os._exit(1)
    log = tmp_path / "killed/metrics.jsonl"
    half = tmp_path / "killed/checkpoints"
    wait_for(lambda: bool([*half.glob(".step_000008*")]) and len(read_metrics(log)) >= 12)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert len(read_metrics(log)) == 12  # four steps beyond
    resumed = trainer(tmp_path / "killed")
    assert resumed.checkpoints.steps() == [0, 4]
    resumed.fit()
    assert same(whole, resumed)
    assert not [*half.glob(".*")]


def test_an_unwritable_folder_is_one_sentence(trainer: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="Cannot write"):
        trainer(tmp_path / "file" / "run").fit()


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


def test_saving_clears_what_kills_and_damage_left(trainer: Make, tmp_path: Path) -> None:
    first = trainer(tmp_path, steps=12, save_every=4)
    first.fit()
    folder = tmp_path / "checkpoints"
    (folder / "step_000012" / "model.safetensors").write_bytes(b"damaged")
    (folder / ".step_000012.99999.tmp").mkdir()
    again = trainer(
        tmp_path, steps=12, save_every=2, config=LoopConfig(save_every=2, evaluate_every=0, keep=1)
    )
    again._restore()
    assert again.position.step == 8
    again._save()
    again.checkpoints.settle()
    assert [path.name for path in folder.iterdir()] == ["step_000008"]


def test_with_every_checkpoint_damaged_it_starts_anew_to_the_same_bits(
    trainer: Make, tmp_path: Path
) -> None:
    whole = trainer(tmp_path / "run")
    whole.fit()
    for path in (tmp_path / "run" / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(b"damaged")
    again = trainer(tmp_path / "run")
    assert not again._restore()
    again.fit()
    assert same(whole, again)
    assert again.checkpoints.steps() == [8, 12]


def test_a_bfloat16_model_keeps_its_rotary_tables(trainer: Make, tmp_path: Path) -> None:
    model = trainer(tmp_path / "run").model
    save_model(model, tmp_path / "model", {})
    loaded = load_model(tmp_path / "model", dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(loaded.cos, model.cos)
