"""What machine this is, by looking and by measuring: device, cores, memory, compiler,
matrix-product rates.
"""

import contextlib
import hashlib
import os
import resource
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

Device = Literal["cuda", "mps", "cpu"]
# of a unified memory: an out-of-memory there freezes the whole box, so a quarter stays free
UNIFIED_SHARE = 0.75
# Share of the rate of plain matrix products that training reaches: H100 47.5 %, GB10 40-50 % in
# public runs; CPUs lose more to the rest, in fp32.
REACHED: dict[Device, float] = {"cuda": 0.45, "mps": 0.4, "cpu": 0.35}
PLANNED_SHARE, LEFT_SHARE = 0.85, 0.95  # of the memory, and of what others leave of it
BF16_GAIN = 1.2  # bf16 must beat fp32 by this much to be worth its rounding


@dataclass(frozen=True)
class Machine:
    """Facts about the machine that a run would train on. Memory is what a run may use, in bytes;
    rates are in TFLOP/s.
    """

    device: Device
    name: str
    cores: int
    memory: int
    unified: bool
    compiler: bool
    fp32_tflops: float
    bf16_tflops: float
    # bytes of a GPU's memory that other processes leave; None: not asked
    left: int | None = None

    @property
    def room(self) -> float:
        """Bytes that may be planned with: some are left for what no plan knows."""
        planned = PLANNED_SHARE * self.memory
        return planned if self.left is None else min(planned, LEFT_SHARE * self.left)

    @property
    def bf16_is_fast(self) -> bool:
        return self.bf16_tflops >= BF16_GAIN * self.fp32_tflops

    @property
    def tflops(self) -> float:
        """The measured rate in the dtype that `bf16_is_fast` chooses."""
        return self.bf16_tflops if self.bf16_is_fast else self.fp32_tflops

    @property
    def training_tflops(self) -> float:
        """What training is expected to reach. On a CPU all but the matrix products takes as long
        as in fp32, which matters where products in bf16 are many times faster (AMX).
        """
        reached = REACHED[self.device]
        if self.device != "cpu":
            return self.tflops * reached
        return 1 / (1 / self.tflops + (1 / reached - 1) / self.fp32_tflops)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Probe = Callable[[Device, torch.dtype], float]


def detect(probe: Probe | None = None, device: Device | None = None) -> Machine:
    """Look at the machine and time matrix products on it: under a second on a CPU.

    `device` looks at that one rather than the best; `probe` replaces the timing in tests.
    """
    probe = probe or gemm_tflops
    device = device or find_device()
    memory, unified = device_memory(device)
    return Machine(
        device=device,
        name=device_name(device),
        cores=usable_cores(),
        memory=memory,
        unified=unified,
        compiler=has_compiler(),
        fp32_tflops=probe(device, torch.float32),
        bf16_tflops=probe(device, torch.bfloat16),
    )


def find_device() -> Device:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_name(device: Device) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        names[0]
        if names
        else f"{'Apple GPU' if device == 'mps' else os.uname().machine} ({sys.platform})"
    )


CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores this process may run on: its affinity mask, and the quota of its container."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    old = " ".join(_read(cgroup / f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    quota, _, period = (_read(cgroup / "cpu.max") or old).partition(" ")
    return max(1, min(cores, int(quota) // int(period or 100_000))) if quota.isdecimal() else cores


def free_share(cores: int, seconds: float = 0.2) -> float:
    """The share of its cores' time that this process gets now: 1 where nobody else wants it."""
    block = bytes(1 << 22)  # hashing one is work outside of Python's lock

    def work(_: int) -> tuple[float, float]:
        begun, used = time.perf_counter(), time.thread_time()
        while (elapsed := time.perf_counter() - begun) < seconds:
            hashlib.sha256(block)
        return time.thread_time() - used, elapsed

    with ThreadPoolExecutor(cores) as threads:
        used, elapsed = zip(*threads.map(work, range(cores)), strict=True)
    return sum(used) / sum(elapsed)


def system_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Bytes of main memory, or of the container's share of it."""
    total = meminfo_bytes("MemTotal", meminfo)
    if total is None:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, memory_limit(cgroup) or total)


def meminfo_bytes(field: str, meminfo: Path = MEMINFO) -> int | None:
    """What the kernel tells of main memory; None where it tells nothing."""
    if not meminfo.exists():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) * 1024


def memory_limit(cgroup: Path = CGROUP) -> int | None:
    """Bytes that the container may use; None without such a limit. Control groups of both
    versions.
    """
    limit = _read(cgroup / "memory.max") or _read(cgroup / "memory/memory.limit_in_bytes")
    return int(limit) if limit.isdecimal() else None


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def device_memory(device: Device) -> tuple[int, bool]:
    """(bytes that a run may use, whether the device shares them with the processor)."""
    if device == "cuda" and not torch.cuda.get_device_properties(0).is_integrated:
        return torch.cuda.get_device_properties(0).total_memory, False
    if device == "mps":
        return int(torch.mps.recommended_max_memory()), True
    # Integrated GPUs report no memory of their own through NVML; the processor's figure is theirs
    # too.
    return int(system_memory() * UNIFIED_SHARE), device == "cuda"


def peak_memory(device: str) -> int:
    """Most bytes that this process has held so far: of the GPU's memory on CUDA, else of main
    memory.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def usage(device: str) -> dict[str, float]:
    """What a line of metrics says of the machine: the peak of this process's memory, and that of
    its GPU with the percentage of the last moment in which it was busy, where it tells
    (`nvidia-ml-py`).
    """
    found = {"memory_gb": round(peak_memory("cpu") / 1e9, 3)}
    if device == "cuda":
        found["gpu_memory_gb"] = round(peak_memory("cuda") / 1e9, 3)
        with contextlib.suppress(Exception):  # the driver's own kinds: training goes on without
            found["gpu_utilization"] = torch.cuda.utilization()
    return found


def find_compiler() -> str | None:
    """The path of a C++ compiler: the one that $CXX names, or one of the usual names."""
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def has_compiler() -> bool:
    """Whether torch.compile can build for the CPU: it needs a C++ compiler and Python's own
    headers.
    """
    return (
        find_compiler() is not None and Path(sysconfig.get_paths()["include"], "Python.h").exists()
    )


def gemm_tflops(device: Device, dtype: torch.dtype, seconds: float = 0.1) -> float:
    """Best rate over repeated square matrix products, in TFLOP/s. A size that fills the device,
    small enough for a slow CPU; a CPU that emulates the dtype is timed on a smaller one.
    """
    whole = {"cuda": 8192, "mps": 2048, "cpu": 1024}[device]
    # emulated bf16 takes seconds for a product of 1,024
    for size in (whole // 4, whole) if device == "cpu" else (whole,):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        best = _fastest_product(a, b, seconds)
        if best * 4**3 > seconds:
            break
    return 2 * size**3 / best / 1e12


def _fastest_product(a: Tensor, b: Tensor, seconds: float) -> float:
    """Seconds of the fastest of at least three products, unless one takes longer than allowed: the
    first warms up, the best is the least disturbed.
    """
    best, end, rounds = float("inf"), time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        _ = a @ b
        if a.device.type != "cpu":
            getattr(torch, a.device.type).synchronize()
        best = min(best, time.perf_counter() - start)
        rounds += 1
        if best > seconds:
            break
    return best
