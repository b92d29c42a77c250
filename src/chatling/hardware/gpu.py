"""Taking a GPU for this process: whether it can be used, which one, and how much of a memory that
the processor shares.
"""

import os
from pathlib import Path

import torch

from chatling.errors import MachineError
from chatling.hardware.detect import MEMINFO, Device, find_device, meminfo_bytes

# of what is free in a shared memory; the rest keeps the system alive
SHARED_FRACTION = 0.9


def open_device(rank: int = 0, device: str | None = None) -> Device:
    """This machine's device, or the one asked for, ready for process number `rank` of the machine.

    Raises MachineError where an NVIDIA GPU is there that PyTorch cannot use (training would
    silently take the processor instead), and where there are fewer GPUs than processes.
    """
    if device is None and (reason := unusable_gpu()):
        raise MachineError(
            f"There is an NVIDIA GPU here, and PyTorch cannot use it: {reason}",
            'Update its driver, or choose the processor (machine.device = "cpu" in a recipe;'
            " CUDA_VISIBLE_DEVICES= in the environment).",
        )
    found: Device = device or find_device()  # type: ignore[assignment]
    if found == "cuda" and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if rank >= count:
            raise MachineError(
                f"Process {rank + 1} of this machine finds no GPU for itself: there are {count}.",
                f"Start at most {count} processes on it (--processes {count}).",
            )
        torch.cuda.set_device(rank)
        limit_shared_memory(rank)
    return found


def unusable_gpu(devices: Path = Path("/dev")) -> str | None:
    """Why PyTorch, built for CUDA, cannot use an NVIDIA GPU that is there; None if all is well or
    the environment hides the GPUs.
    """
    there = (devices / "nvidia0").exists() or (devices / "dxg").exists()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    if torch.version.cuda is None or torch.cuda.is_available() or hidden or not there:
        return None
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None


def limit_shared_memory(rank: int, meminfo: Path = MEMINFO) -> None:
    """Where a GPU shares the processor's memory, let allocations beyond most of what is free now
    fail: without a limit they freeze the machine (DGX Spark).
    """
    properties = torch.cuda.get_device_properties(rank)
    if properties.is_integrated and meminfo.exists():
        share = SHARED_FRACTION * memory_left(rank, meminfo) / properties.total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), rank)


def memory_left(rank: int, meminfo: Path = MEMINFO) -> int:
    """Bytes of a GPU's memory that other processes leave to this one; what it holds already, such
    as another model, is its own.
    """
    free, properties = None, torch.cuda.get_device_properties(rank)
    if properties.is_integrated:  # CUDA does not count what can be freed
        free = meminfo_bytes("MemAvailable", meminfo)
    if free is None:
        free = torch.cuda.mem_get_info(rank)[0]
    return free + torch.cuda.memory_reserved(rank)
