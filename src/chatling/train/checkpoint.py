"""Checkpoints: everything the next step depends on, whole or absent. And finished models, as every
consumer loads them.
"""

import contextlib
import functools
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from chatling.errors import DataError
from chatling.hardware.distributed import DistContext, main_process_first
from chatling.hardware.homes import forget, share
from chatling.model.adapter import AdaptedGPT
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT
from chatling.model.sharding import is_sharded, spread, whole_weights
from chatling.optim.param_groups import Optimizer
from chatling.run_dir import (
    building_folder,
    manifest_fault,
    open_plain,
    read_json,
    read_manifest,
    write_json,
)
from chatling.run_state import FORMAT, FORMAT_KEY, check_format

MODEL, OPTIMIZER, CONFIG, LOOP, RNG = (
    "model.safetensors",
    "optimizer.safetensors",
    "config.json",
    "loop.json",
    "rng.safetensors",
)
MODEL_FILES = (MODEL, CONFIG)
ADAPTER = "adapter"  # in a checkpoint's config.json
MOST_CONFIG = 4 << 20  # bytes of config.json
PART = "shard-"  # how the names of files begin that ranks wrote
STATE_FILES = (CONFIG, RNG, LOOP)
CHECKPOINT_FILES = (MODEL, OPTIMIZER, *STATE_FILES)  # unless ranks wrote their parts
MADE_AGAIN = (
    "Put it back from a copy, or start the run again: it makes the model again from its stage's"
    " last checkpoint, or says how."
)


class Checkpoints:
    """`<stage>/checkpoints/step_000500/`: weights, optimizer, loop state and RNG. Keeps the newest
    few, and the best by validation. Of an adapted model, the weights are the adapters alone.
    """

    def __init__(self, folder: Path, world: DistContext, keep: int = 2):
        self.folder, self.world, self.keep = folder, world, keep
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None
        self._parts: Any = None  # PartsWriter, where weights are sharded

    def steps(self) -> list[int]:
        """Steps that have a folder with a manifest, oldest first."""
        names = (
            path.parent.name.removeprefix("step_")
            for path in self.folder.glob("step_*/manifest.json")
        )
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step:06d}"

    def save(self, step: int, model: GPT, optimizer: Optimizer, loop: dict[str, Any]) -> None:
        """A collective: every rank calls it; the first one copies the whole state into main memory,
        and a thread of it writes that while training continues. Raises what failed in the save
        before. `loop` is JSON; `loop["best_step"]` is never deleted.
        """
        self.settle()
        files, parts = {RNG: {"cpu": torch.get_rng_state()}}, None
        if is_sharded(model) and self.world.leaders is None:  # all write to one disk
            from chatling.train.checkpoint_parts import PartsWriter  # not where it is not needed

            parts = self._parts = self._parts or PartsWriter(self.world)
            folder = parts.begin(self.path(step), model, optimizer)
        else:
            main, folder = self.world.is_main, building_folder(self.path(step))
            files[OPTIMIZER] = {n: _copy(t) for n, t in optimizer.gathered() if main}
            files[MODEL] = {n: _copy(t) for n, t in whole_weights(model) if main}
        if self.world.is_main:
            facts = model_facts(model)
            self._writing = self._thread.submit(self._write, folder, parts, files, facts, loop)

    def settle(self) -> None:
        """Wait until the newest save is on the disk; raises what failed. A collective."""
        with main_process_first(self.world):
            writing, self._writing = self._writing, None
            if writing is not None:
                writing.result()
        if self._parts:
            self._parts.wait()

    def close(self) -> None:
        """Wait for the thread, whatever became of its work."""
        self._thread.shutdown()

    def _write(
        self,
        opened: contextlib.AbstractContextManager[Path],
        parts: Any,
        files: dict[str, dict[str, Tensor]],
        facts: dict[str, Any],
        loop: dict[str, Any],
    ) -> None:
        with opened as folder:
            for name, tensors in files.items():
                save_tensors(tensors, folder / name)
            write_json(folder / CONFIG, facts)
            write_json(folder / LOOP, loop)
            if parts is not None:
                parts.wait()
        self._tidy(loop["step"], loop.get("best_step"))

    def _tidy(self, step: int, best: int | None) -> None:
        """Remove old checkpoints, damaged ones of later steps, and what a kill left half-written or
        half-removed.
        """
        whole = [old for old in self.steps() if old <= step]
        kept = {self.path(old).name for old in (*whole[-self.keep :], best) if old is not None}
        for path in self.folder.iterdir():
            if path.name.startswith(("step_", ".step_")) and path.name not in kept:
                shutil.rmtree(path)

    def restore(
        self, model: GPT, optimizer: Optimizer, say: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """Load the newest whole checkpoint and return its loop state; None when there is none.
        Damaged ones are named and passed over.

        A collective. Raises DataError for a whole one that is of another model.
        """
        self.settle()
        for step in reversed(self.world.broadcast_object(self.steps())):
            folder = self.path(step)
            share(self.world, folder)
            fault = self.world.first_fault(functools.partial(_fault, folder))
            if fault is None:
                if read_json(folder / CONFIG).get(ADAPTER) != adapter_facts(model):
                    raise DataError(
                        f"The adapters in {folder} belong to another model than this one.",
                        f"Put that model back, or delete {self.folder} to begin again.",
                    )
                if (folder / MODEL).exists():
                    load_weights(model, folder)
                    optimizer.load_state_dict(_load_file(folder / OPTIMIZER))
                else:
                    from chatling.train.checkpoint_parts import load_parts

                    load_parts(folder, model, optimizer)
                _restore_random(folder / RNG)
                loop = read_json(folder / LOOP)
                if not isinstance(loop, dict) or loop.get("step") != step:
                    raise DataError(
                        f"{folder / LOOP} is not the loop state of step {step}.",
                        f"Delete {folder}; the one before is used.",
                    )
                forget(self.world, folder)
                return loop
            say(f"Checkpoint {folder} is damaged ({fault}); trying the one before it.")
        return None


def whole_checkpoint(folder: Path, step: int) -> bool:
    """Whether a stage's folder has the checkpoint of that step, undamaged."""
    return _fault(Checkpoints(folder / "checkpoints", DistContext()).path(step)) is None


def _fault(folder: Path) -> str | None:
    """Why it is no whole checkpoint."""
    if (fault := manifest_fault(folder, required=STATE_FILES)) is not None:
        return fault
    if any(name.startswith(PART) for name in read_manifest(folder)):
        return None
    return manifest_fault(folder, required=CHECKPOINT_FILES, checksums=False)


def save_model(
    model: GPT,
    folder: Path,
    extra: dict[str, Any],
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Write `model.safetensors`, `config.json` (model, and `extra` such as stage and step) and a
    manifest, atomically. `weights` are given where the model itself has but a part of them.
    """
    if weights is None:
        tensors = model.state_dict().items()
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors}
    with building_folder(folder) as temporary:
        save_tensors(weights, temporary / MODEL)
        write_json(temporary / CONFIG, model_facts(model) | extra)


def open_model(folder: Path, world: DistContext | None = None) -> ModelConfig:
    """The shape of a finished model or a checkpoint, after each of its files was held to the
    manifest (once on each machine of `world`, all of whose processes call), and the weights' own
    index to that shape. Raises DataError naming what is damaged; nothing is allocated.
    """
    fault = (world or DistContext()).first_fault(
        lambda: manifest_fault(folder, required=MODEL_FILES)
    )
    if fault is not None:
        raise DataError(f"The model in {folder} is damaged: {fault}.", MADE_AGAIN)
    config = model_shape(folder)
    _compare(folder / MODEL, config)
    return config


def model_shape(folder: Path) -> ModelConfig:
    """What a model's config.json says. Raises DataError, also for a newer format."""
    found = read_json(folder / CONFIG, MOST_CONFIG)
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise DataError(f"{folder / CONFIG} does not describe a model.", MADE_AGAIN)
    check_format(found, folder / CONFIG)
    try:
        return ModelConfig.from_dict(found["model"])
    except DataError as error:
        raise DataError(f"{folder / CONFIG}: {error.what}", error.hint or MADE_AGAIN) from None


def load_model(
    folder: Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    world: DistContext | None = None,
) -> GPT:
    """A finished model or a checkpoint, weights and computation in `dtype`. Raises DataError when
    it is damaged.
    """
    return read_model(folder, open_model(folder, world), device=device, dtype=dtype)


def read_model(
    folder: Path, config: ModelConfig, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> GPT:
    """The weights of a model that `open_model` gave the shape of."""
    model = GPT(config, compute_dtype=dtype)
    load_weights(model, folder)
    # not the rotary tables, which compute in fp32 in training, too
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.to(device=device).eval()


def load_weights(model: GPT, folder: Path) -> None:
    """Copy the weights of a checkpoint or finished model into `model`. Raises DataError when they
    do not fit.
    """
    try:
        model.load_state_dict(spread(model, _load_file(folder / MODEL)))
    except RuntimeError as error:
        raise DataError(
            f"The weights in {folder} do not fit the model ({str(error).splitlines()[-1].strip()})."
        ) from error


def _compare(path: Path, config: ModelConfig) -> None:
    """Hold the index of a weights file to a model's shape before there is a model."""
    try:
        with open_plain(path), safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            found = {
                name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}).", MADE_AGAIN) from error
    what = f"{path} is not of the model that {CONFIG} beside it describes"
    # else the comparison itself would take what a wrong depth asks for
    if config.depth > len(found):
        raise DataError(f"{what}: {len(found)} tensors, {config.depth:,} layers.", MADE_AGAIN)
    try:
        with torch.device("meta"):
            expected = {
                name: tuple(tensor.shape) for name, tensor in GPT(config).state_dict().items()
            }
    except (RuntimeError, OverflowError) as error:
        raise DataError(f"{what} ({str(error).splitlines()[0]}).", MADE_AGAIN) from error
    if odd := sorted(expected.keys() ^ found.keys()):
        raise DataError(f"{what}: {odd[0]} is only in one of them.", MADE_AGAIN)
    for name, (shape, dtype) in found.items():
        if shape != expected[name] or dtype not in ("F32", "F64", "BF16", "F16"):
            raise DataError(
                f"{what}: {name} is {dtype} {list(shape)}, expected {list(expected[name])}.",
                MADE_AGAIN,
            )


def _restore_random(path: Path) -> None:
    try:
        torch.set_rng_state(_load_file(path)["cpu"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{path} holds no state of random numbers.",
            f"Delete {path.parent}; the checkpoint before it is used.",
        ) from error


def _copy(tensor: Tensor) -> Tensor:
    """In main memory, so that training may change the tensor itself."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def model_facts(model: GPT) -> dict[str, Any]:
    """What config.json says of it."""
    facts = {FORMAT_KEY: FORMAT, "model": model.config.to_dict()}
    adapter = adapter_facts(model)
    return facts if adapter is None else {**facts, ADAPTER: adapter}


def adapter_facts(model: GPT) -> dict[str, Any] | None:
    return model.facts if isinstance(model, AdaptedGPT) else None


def save_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors. What the operating system refuses raises OSError, which safetensors wraps in
    an error of its own.
    """
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _load_file(path: Path) -> dict[str, Tensor]:
    try:
        with open_plain(path):
            return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
