"""Which GPU a process takes, on machines that the test makes up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from chatling.errors import MachineError
from chatling.hardware import gpu
from chatling.hardware.gpu import (
    limit_shared_memory,
    memory_left,
    open_device,
    unusable_gpu,
)

TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040).\nUpdate it."


class Cuda:
    """What a test says of torch.cuda; remembers what was set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, available: bool, count: int = 1):
        self.taken: list[int] = []
        self.fractions: list[float] = []
        self.integrated = False
        self.reserved = 0
        made = {
            "is_available": lambda: available,
            "device_count": lambda: count,
            "set_device": self.taken.append,
            "get_device_properties": lambda rank: SimpleNamespace(
                is_integrated=self.integrated, total_memory=128 << 30
            ),
            "set_per_process_memory_fraction": lambda share, rank: self.fractions.append(share),
            "memory_reserved": lambda rank: self.reserved,
            "mem_get_info": lambda rank: (24 << 30, 128 << 30),
            "init": self.init,
        }
        for name, value in made.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def init(self) -> None:
        raise RuntimeError(TOO_OLD)


@pytest.mark.parametrize("name", ["nvidia0", "dxg"])
def test_a_driver_that_is_too_old_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Cuda(monkeypatch, available=False)
    assert unusable_gpu(tmp_path) is None  # no card
    (tmp_path / name).touch()
    assert unusable_gpu(tmp_path) == TOO_OLD.splitlines()[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert unusable_gpu(tmp_path) is None  # the user wants none
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert unusable_gpu(tmp_path) is None  # a build for processors


def test_a_run_ends_before_it_trains_on_the_processor_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Cuda(monkeypatch, available=False)
    monkeypatch.setattr(gpu, "unusable_gpu", lambda: "too old")
    with pytest.raises(MachineError, match=r"cannot use it: too old[\s\S]*machine.device"):
        open_device()
    assert open_device(0, "cpu") == "cpu"


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch, available=True, count=2)
    assert [open_device(rank) for rank in (0, 1)] == ["cuda", "cuda"]
    assert cuda.taken == [0, 1]
    assert cuda.fractions == []
    with pytest.raises(MachineError, match=r"Process 3 .* there are 2"):
        open_device(2)


def test_a_shared_memory_is_limited_to_what_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cuda = Cuda(monkeypatch, available=True)
    cuda.integrated = True
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: {128 << 20} kB\nMemAvailable: {64 << 20} kB\n")
    limit_shared_memory(0, meminfo)
    assert cuda.fractions == [pytest.approx(0.45)]
    cuda.reserved = 32 << 30  # by a model that was loaded before
    limit_shared_memory(0, meminfo)
    assert cuda.fractions[1] == pytest.approx(0.675)
    limit_shared_memory(0, tmp_path / "none")
    assert len(cuda.fractions) == 2


def test_what_other_processes_leave_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cuda, meminfo = Cuda(monkeypatch, available=True), tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: {128 << 20} kB\nMemAvailable: {64 << 20} kB\n")
    cuda.reserved = 2 << 30
    assert memory_left(0, meminfo) == 26 << 30
    cuda.integrated = True  # what the system could free counts, too
    assert memory_left(0, meminfo) == 66 << 30
    assert memory_left(0, tmp_path / "none") == 26 << 30
