"""What the bus, the driver and PyTorch tell of this machine's GPUs."""

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import torch

from chatling.hardware.ask import Output, read

NVIDIA_SMI = {
    "name": "name",
    "driver": "driver_version",
    "temperature": "temperature.gpu",
    "clock": "clocks.sm",
    "used": "memory.used",
    "ecc": "ecc.errors.uncorrected.volatile.total",
    "width": "pcie.link.width.current",
    "most": "pcie.link.width.max",
    "mig": "mig.mode.current",
    "thermal": "{reasons}.hw_thermal_slowdown",
    "brake": "{reasons}.hw_power_brake_slowdown",
    "slowdown": "{reasons}.hw_slowdown",
}
SLOWDOWNS = {"thermal": "heat", "brake": "the power supply's brake", "slowdown": "the hardware"}


def nvidia_rows(ask: Output) -> list[dict[str, str]]:
    """What nvidia-smi tells of each GPU; nothing where there is none."""
    for reasons in ("clocks_event_reasons", "clocks_throttle_reasons"):  # before driver 535
        query = ",".join(NVIDIA_SMI.values()).format(reasons=reasons)
        text = ask("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits") or ""
        rows = [line.split(", ") for line in text.splitlines()]
        if rows and all(len(row) == len(NVIDIA_SMI) for row in rows):
            return [dict(zip(NVIDIA_SMI, row, strict=True)) for row in rows]
    return []


def numbers(rows: list[dict[str, str]], key: str) -> list[float]:
    """The numbers of one column; GPUs that do not have it are left out."""
    found = []
    for row in rows:
        with contextlib.suppress(ValueError):
            found.append(float(row[key]))
    return found


def cards(root: Path, ask: Output) -> dict[str, Any]:
    """NVIDIA's GPUs, as the bus and the driver see them."""
    devices = (root / "sys/bus/pci/devices").glob("*/vendor")
    found = sum(
        read(each) == "0x10de" and (read(each.parent / "class") or "").startswith("0x03")
        for each in devices
    )
    facts: dict[str, Any] = {
        "nvidia_cards": found,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    facts["amd_compute"] = (root / "dev/kfd").exists() or None
    if found:
        facts["nouveau"] = bool(re.search("^nouveau ", read(root / "proc/modules") or "", re.M))
    rows = nvidia_rows(ask)
    if not rows:
        said = ask("nvidia-smi", "-L") or "nvidia-smi is not there, or does not answer"
        if found and not said.startswith("GPU "):
            facts["nvidia_error"] = said.strip().splitlines()[-1]
        return facts
    apps = ask("nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader") or ""
    others = {pid for pid in apps.split() if pid.isdecimal()} - {str(os.getpid())}
    log = ask("dmesg") or ""
    return facts | {
        "nvidia_error": "",
        "gpu": rows[0]["name"],
        "gpus": len(rows),
        "gpu_kinds": len({row["name"] for row in rows}),
        "driver": int(rows[0]["driver"].partition(".")[0]),
        "gpu_processes": len(others),
        "gpu_memory_used": max(numbers(rows, "used"), default=0.0) / 1000,
        "temperature": max(numbers(rows, "temperature"), default=None),
        "slowed": slowed(rows),
        "ecc_errors": int(sum(numbers(rows, "ecc"))),
        "link_width": int(min(numbers(rows, "width"), default=0)) or None,
        "link_width_most": int(min(numbers(rows, "most"), default=0)) or None,
        "mig": any(row["mig"] == "Enabled" for row in rows),
        "xid": tuple(sorted(set(re.findall(r"NVRM: Xid \([^)]*\): (\d+)", log)))),
    }


def slowed(rows: list[dict[str, str]]) -> str:
    """What slows the clocks of any GPU now; empty where nothing does."""
    found = (why for key, why in SLOWDOWNS.items() if any(row[key] == "Active" for row in rows))
    return next(found, "")


def torch_facts() -> dict[str, Any]:
    built = torch.version.cuda
    facts: dict[str, Any] = {
        "torch_cuda": int(built.partition(".")[0]) if built else None,
        "torch_build": "CUDA" if built else "ROCm" if torch.version.hip else "CPU",
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available() or None,
    }
    if facts["cuda"]:
        major, minor = torch.cuda.get_device_capability()
        facts |= {
            "gpu": torch.cuda.get_device_name(),
            "capability": f"{major}.{minor}",
            "architecture_built": runs_on(torch.cuda.get_arch_list(), major, minor),
            "unified": bool(torch.cuda.get_device_properties(0).is_integrated),
        }
    return facts


def runs_on(built: list[str], major: int, minor: int) -> bool:
    """Whether a build for these architectures runs on a card of this capability: code for the same
    major version and no higher minor one, or a portable form of an older one.
    """
    for name in built:
        kind, _, digits = name.partition("_")
        number = int(re.sub(r"\D", "", digits) or 0)
        theirs = divmod(number, 10)
        if kind == "sm" and theirs[0] == major and theirs[1] <= minor:
            return True
        if kind == "compute" and theirs <= (major, minor):
            return True
        if kind.startswith("gfx"):  # AMD's are checked by its own runtime
            return True
    return False
