"""What the machine is said to be, from files and timings given by the test."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from chatling.hardware import detect as module
from chatling.hardware.detect import (
    Device,
    Machine,
    detect,
    free_share,
    gemm_tflops,
    system_memory,
    usable_cores,
    usage,
)


def probe(fp32: float, bf16: float):  # type: ignore[no-untyped-def]
    return lambda device, dtype: fp32 if dtype == torch.float32 else bf16


def test_bf16_is_used_only_where_it_measures_faster() -> None:
    fast, slow = detect(probe(0.1, 0.2)), detect(probe(0.1, 0.01))
    assert (fast.bf16_is_fast, fast.tflops) == (True, 0.2)
    assert (slow.bf16_is_fast, slow.tflops) == (False, 0.1)


def test_what_is_not_a_product_is_as_fast_as_in_fp32() -> None:
    plain = detect(probe(0.1, 0.01), device="cpu")
    assert plain.training_tflops == pytest.approx(0.35 * 0.1)
    with_amx = detect(probe(0.27, 1.13), device="cpu")  # a Xeon
    measured = 22_000 * 7.08e6 / 1e12  # tokens/s of pocket's mid there, by FLOPs a token
    assert with_amx.training_tflops == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("tells", [True, False])
def test_use_of_a_gpu_is_told_where_its_driver_tells(
    monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    def utilization() -> int:
        if not tells:
            raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")
        return 87

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2_500_400_000)
    own = usage("cpu")
    assert own.keys() == {"memory_gb"}
    found = usage("cuda")
    assert found.pop("memory_gb") >= own["memory_gb"] > 0.05
    assert found == {"gpu_memory_gb": 2.5} | ({"gpu_utilization": 87} if tells else {})


def test_memory_is_the_containers_share(tmp_path: Path) -> None:
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    cgroup.mkdir()
    limit, old = cgroup / "memory.max", cgroup / "memory/memory.limit_in_bytes"
    meminfo.write_text("MemTotal:       16000000 kB\nMemFree:         1000 kB\n")
    assert system_memory(meminfo, cgroup) == 16_000_000 * 1024
    limit.write_text("max\n")
    assert system_memory(meminfo, cgroup) == 16_000_000 * 1024
    limit.write_text("1073741824\n")
    assert system_memory(meminfo, cgroup) == 1 << 30
    limit.unlink()
    old.parent.mkdir()  # as control groups of version 1 say it
    old.write_text("9223372036854771712\n")
    assert system_memory(meminfo, cgroup) == 16_000_000 * 1024
    old.write_text("2147483648\n")
    assert system_memory(meminfo, cgroup) == 2 << 30
    assert system_memory(tmp_path / "none", tmp_path / "none") > 0


def test_cores_heed_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    quota = tmp_path / "cpu.max"
    for text, cores in (
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("50000 100000\n", 1),
        ("9900000 100000\n", 8),
    ):
        quota.write_text(text)
        assert usable_cores(tmp_path) == cores
    assert usable_cores(tmp_path / "none") == 8
    old = tmp_path / "old/cpu"  # control groups of version 1
    old.mkdir(parents=True)
    for given, cores in (("-1", 8), ("300000", 3), ("50000", 1)):
        (old / "cpu.cfs_quota_us").write_text(f"{given}\n")
        (old / "cpu.cfs_period_us").write_text("100000\n")
        assert usable_cores(tmp_path / "old") == cores


def test_a_real_probe_is_quick_and_plausible() -> None:
    if module.find_device() != "cpu":
        pytest.skip("times a CPU")
    begun = time.monotonic()
    machine = detect()
    assert time.monotonic() - begun < 10  # under a second on a quiet machine
    assert machine.fp32_tflops > 0
    assert machine.memory > 1 << 28
    assert Machine(**machine.to_dict()) == machine


def test_the_rate_counts_two_operations_a_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))
    device: Device = "cpu"
    assert gemm_tflops(device, torch.float32, seconds=0.1) == pytest.approx(2 * 256**3 / 1e12)


def test_the_share_of_the_cores_falls_when_others_want_them() -> None:
    """Three busy processes for each core leave a quarter, and even a busy machine less than that
    of what there was.
    """
    cores = usable_cores()
    code = "import time; end = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3 * cores)]
    try:
        time.sleep(0.5)
        assert 0 < free_share(cores) < 0.7
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_the_share_of_the_cores_is_never_more_than_all() -> None:
    assert 0 < free_share(2, seconds=0.05) < 1.05
