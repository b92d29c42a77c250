"""What can only be told by trying it: load, compile, write. Each probe says what went wrong, or
nothing.
"""

import ctypes
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from chatling.hardware.ask import Output, output
from chatling.hardware.gpu_facts import numbers, nvidia_rows, slowed

LIBRARY = """
#include <Python.h>
#include <vector>
extern "C" int f() { return (int)std::vector<int>(3).size(); }
"""
TRITON = """
import torch
x = torch.ones(64, 64, device="cuda")
assert torch.compile(lambda x: (x * 2).sin().sum())(x).isfinite()
"""
WRITTEN = 64_000_000  # bytes


def compiler_error(compiler: str) -> str:
    """Build and load a library, as torch.compile does."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "source", Path(folder) / "library"
        source.write_text(LIBRARY)
        openmp = ("-fopenmp",) if sys.platform == "linux" else ("-undefined", "dynamic_lookup")
        include = f"-I{sysconfig.get_paths()['include']}"
        words = (
            compiler,
            "-shared",
            "-fPIC",
            *openmp,
            include,
            "-x",
            "c++",
            str(source),
            "-o",
            str(library),
        )
        said = output(*words, seconds=8)
        if not library.exists():
            return _first(said) or f"{compiler} wrote nothing."
        try:
            return "" if ctypes.CDLL(str(library)).f() == 3 else "it computes wrongly"
        except OSError as error:
            return str(error)


def disk(folder: Path) -> dict[str, object]:
    """MB/s of a file written and synced, or why it cannot be."""
    block = os.urandom(1_000_000)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            begun = time.perf_counter()
            for _ in range(WRITTEN // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            return {"disk_speed": WRITTEN / 1e6 / (time.perf_counter() - begun)}
    except OSError as error:
        return {"home_error": error.strerror or str(error)}


def triton_error() -> str:
    """Compile and launch a function on the GPU in a process of its own, which may hang or crash."""
    return child_error(TRITON)


def child_error(code: str, seconds: float = 60.0) -> str:
    """How a program fails in a process of its own: its last line."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {seconds:.0f} s."
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"it ended with code {done.returncode}."


def bf16_error(device: str) -> str:
    """A matrix product in bfloat16."""
    try:
        ones = torch.ones(16, 16, device=device, dtype=torch.bfloat16)
        return "" if (ones @ ones).sum().item() == 16**3 else "it computes wrongly"
    except (RuntimeError, TypeError) as error:
        return _first(str(error))


def under_load(ask: Output = output, seconds: float = 1.0) -> dict[str, object]:
    """nvidia-smi's clock, and what slows it, while the GPU multiplies matrices."""
    a = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    with ThreadPoolExecutor(1) as pool:
        end = time.perf_counter() + seconds
        asked = pool.submit(_rows_later, ask, seconds / 2)
        while time.perf_counter() < end or not asked.done():
            for _ in range(10):
                a @ a
            torch.cuda.synchronize()
        rows = asked.result()
    return {"clock": max(numbers(rows, "clock"), default=None), "slowed": slowed(rows)}


def _rows_later(ask: Output, seconds: float) -> list[dict[str, str]]:
    time.sleep(seconds)
    return nvidia_rows(ask)


def _first(text: str | None) -> str:
    """The first line that says something."""
    lines = (text or "").splitlines()
    return next((line.strip()[:300] for line in lines if line.strip()), "")
