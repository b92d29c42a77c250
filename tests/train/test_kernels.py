"""Attention kernels are launched, compared and timed before one of them is chosen."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from chatling.config.stages import MachineConfig
from chatling.errors import MachineError
from chatling.hardware.detect import Machine
from chatling.model.attention import FLASH, select_flash
from chatling.model.config import ModelRecipe
from chatling.train import kernels
from chatling.train.kernels import fastest_kernel
from chatling.train.runtime import choose_runtime

MODEL = ModelRecipe(preset="modern", depth=12, context=256).resolve(512)
GPU = Machine("cuda", "test", 2, 8 << 30, False, True, 0.1, 1.0)
ALL = {"flex": 0.001, "sdpa": 0.002, "flash": 0.003}


def chosen(
    monkeypatch: pytest.MonkeyPatch,
    seconds: dict[str, float | Exception],
    config: MachineConfig | None = None,
) -> tuple[str, list[str]]:
    """The kernel that is chosen on a GPU where each takes so long or fails, and what is said."""

    def timed(kernel: str, *_: object) -> float:
        found = seconds.pop(kernel)
        if isinstance(found, Exception):
            raise found
        return found

    seconds = dict(seconds)
    monkeypatch.setattr(kernels, "_kernel_seconds", timed)
    said: list[str] = []
    config = config or MachineConfig(compile="on")
    kernel = choose_runtime(config, GPU, MODEL, 1000, said.append).kernel
    assert seconds == {}  # each was tried
    return kernel, said


def test_windows_on_a_gpu_take_the_fastest_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Attention: flex (flex 1.0 ms, sdpa 2.0 ms, flash 3.0 ms)."
    assert chosen(monkeypatch, dict(ALL)) == ("flex", [said])
    assert chosen(monkeypatch, {**ALL, "flash": 0.0005})[0] == "flash"
    uncompiled, fp32 = MachineConfig(compile="off"), MachineConfig(compile="on", dtype="float32")
    assert chosen(monkeypatch, {"sdpa": 0.002, "flash": 0.003}, uncompiled)[0] == "sdpa"
    assert chosen(monkeypatch, {"flex": 0.003, "sdpa": 0.002}, fp32)[0] == "sdpa"


def test_libraries_that_are_installed_are_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"torch", "flash_attn_interface"}
    monkeypatch.setattr(kernels, "_is_here", here.__contains__)
    assert chosen(monkeypatch, {**ALL, "flash3": 0.0009})[0] == "flash3"


def test_a_kernel_that_fails_is_told_and_another_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = RuntimeError("out of resource: shared memory, Required: 114688\nmore")
    kernel, said = chosen(monkeypatch, {**ALL, "flex": failure})
    assert kernel == "sdpa"
    assert "flex does not run here: out of resource: shared memory, Required: 114688" in said[0]
    with pytest.raises(MachineError, match="No attention kernel"):
        chosen(monkeypatch, dict.fromkeys(ALL, failure))


def test_a_kernel_that_computes_something_else_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A window that is one token too wide is noticed."""
    attend = kernels.attend

    def odd(q: Tensor, k: Tensor, v: Tensor, window: int, kernel: str) -> Tensor:
        return attend(q, k, v, window + (kernel == "plain"), kernel)  # type: ignore[arg-type]

    model = replace(MODEL, depth=2)
    assert fastest_kernel("cpu", torch.float32, model, False, print) in ("sdpa", "plain")
    monkeypatch.setattr(kernels, "attend", odd)
    with pytest.raises(MachineError, match="computes wrongly"):
        kernels._kernel_seconds("plain", "cpu", torch.float32, model)


@pytest.mark.parametrize("kernel", [kernel for kernel, (name, _) in FLASH.items() if name])
def test_a_library_that_is_not_installed_is_named(kernel: str) -> None:
    with pytest.raises(MachineError, match=f"{kernel} needs flash_attn"):
        select_flash(kernel)  # type: ignore[arg-type]
