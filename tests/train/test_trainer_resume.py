"""Stopped at any moment, with files damaged or the disk full, a run goes on to the same bits."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from chatling.config.stages import LoopConfig
from chatling.errors import DataError, Interrupted, MachineError, RunError
from chatling.model.adapter import AdaptedGPT, AdapterConfig, merged
from chatling.optim.param_groups import OptimConfig, Optimizer, resolve_optim
from chatling.train.metrics import read_metrics
from chatling.train.trainer import Trainer

from .trainer_runs import Make, same, stop_after


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
