"""Checkpoints: everything the next step depends on, whole or absent. And finished models, as every consumer loads them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from chatling.errors import DataError
from chatling.hardware.distributed import World, together
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT
from chatling.optim.groups import Optimizer
from chatling.workspace import building_folder, manifest_fault, read_json, write_json

MODEL, OPTIMIZER, CONFIG, LOOP = "model.safetensors", "optimizer.safetensors", "config.json", "loop.json"


class Checkpoints:
    """`<stage>/checkpoints/step_000500/`: weights, optimizer, loop state and RNG. Keeps the newest few, and the best by validation."""

    def __init__(self, folder: Path, world: World, keep: int = 2):
        self.folder, self.world, self.keep = folder, world, keep

    def steps(self) -> list[int]:
        """Steps that have a folder with a manifest, oldest first."""
        return sorted(int(path.parent.name.removeprefix("step_")) for path in self.folder.glob("step_*/manifest.json"))

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step:06d}"

    def save(self, step: int, model: GPT, optimizer: Optimizer, loop: dict[str, Any]) -> None:
        """A collective: every rank calls it; the first one writes. `loop` is JSON; `loop["best_step"]` is never deleted."""
        optimizer_state = {name: tensor.cpu().contiguous() for name, tensor in optimizer.state_dict().items()}
        with together(self.world):
            if self.world.first:
                with building_folder(self.path(step)) as folder:
                    _save_weights(model, folder)
                    _save_file(optimizer_state, folder / OPTIMIZER)
                    _save_file({"cpu": torch.get_rng_state()}, folder / "rng.safetensors")
                    write_json(folder / LOOP, loop)
                self._tidy(step, loop.get("best_step"))

    def _tidy(self, step: int, best: int | None) -> None:
        """Remove old checkpoints, damaged ones of later steps, and what a kill left half-written or half-removed."""
        whole = [old for old in self.steps() if old <= step]
        kept = {self.path(old).name for old in (*whole[-self.keep :], best) if old is not None}
        for path in self.folder.iterdir():
            if path.name.startswith(("step_", ".step_")) and path.name not in kept:
                shutil.rmtree(path)

    def restore(self, model: GPT, optimizer: Optimizer, say: Callable[[str], None]) -> dict[str, Any] | None:
        """Load the newest whole checkpoint and return its loop state; None when there is none. Damaged ones are named and passed over."""
        for step in reversed(self.steps()):
            folder = self.path(step)
            fault = manifest_fault(folder)
            if fault is None:
                load_weights(model, folder)
                optimizer.load_state_dict(_load_file(folder / OPTIMIZER))
                torch.set_rng_state(_load_file(folder / "rng.safetensors")["cpu"])
                loop = read_json(folder / LOOP)
                assert isinstance(loop, dict)
                return loop
            say(f"Checkpoint {folder} is damaged ({fault}); trying the one before it.")
        return None


def save_model(model: GPT, folder: Path, extra: dict[str, Any]) -> None:
    """Write `model.safetensors`, `config.json` (model, and `extra` such as stage and step) and a manifest, atomically."""
    with building_folder(folder) as temporary:
        _save_weights(model, temporary, extra)


def load_model(folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> GPT:
    """A finished model or a checkpoint, weights and computation in `dtype`. Raises DataError when it is damaged."""
    fault = manifest_fault(folder)
    if fault is not None:
        raise DataError(f"The model in {folder} is damaged: {fault}.", "Run `chatling run` again to make it anew.")
    config = ModelConfig.from_dict(read_json(folder / CONFIG)["model"])
    model = GPT(config, compute_dtype=dtype)
    load_weights(model, folder)
    for parameter in model.parameters():  # not the rotary tables, which compute in fp32 in training, too
        parameter.data = parameter.data.to(dtype)
    return model.to(device=device).eval()


def load_weights(model: GPT, folder: Path) -> None:
    """Copy the weights of a checkpoint or finished model into `model`. Raises DataError when they do not fit."""
    try:
        model.load_state_dict(_load_file(folder / MODEL))
    except RuntimeError as error:
        raise DataError(f"The weights in {folder} do not fit the model ({str(error).splitlines()[-1].strip()}).") from error


def _save_weights(model: GPT, folder: Path, extra: dict[str, Any] | None = None) -> None:
    _save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, folder / MODEL)
    write_json(folder / CONFIG, {"model": model.config.to_dict(), **(extra or {})})


def _save_file(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write tensors. What the operating system refuses raises OSError, which safetensors wraps in an error of its own."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _load_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
