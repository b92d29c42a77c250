"""The facts about a machine that only packages above `hardware` can find out, beside its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from chatling.data.hub import ask_hub
from chatling.errors import MachineError
from chatling.hardware import probes
from chatling.hardware.detect import find_device, free_share
from chatling.hardware.facts import Facts
from chatling.hardware.gather import existing, gather
from chatling.hardware.ptxas import mend_ptxas
from chatling.model.attention import Kernel, attend
from chatling.run_dir import home
from chatling.tools.sandbox import Sandbox

FLEX = """
import torch
from chatling.model.attention import Kernel, attend
q, k, v = (torch.randn(1, 1024, 2, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
           for _ in range(3))
torch.compile(attend)(q, k, v, 256, "flex").sum().backward()
"""


def examine() -> Facts:
    """Everything that `chatling doctor` judges, with what has to be tried: some seconds, more on a
    GPU, where code is compiled.
    """
    facts = gather(home())
    share = free_share(facts.cores or 1)  # before what follows takes its own
    device = find_device()
    tries: dict[str, Callable[[], dict[str, Any]]] = {
        "hub": ask_hub,
        "sandbox": _sandbox,
        "disk": lambda: {} if facts.home_error else probes.disk(existing(home())),
        "attention": lambda: {"attention_error": attention_error(device)},
    }
    if facts.compiler:
        tries["compiler"] = lambda: {"compiler_error": probes.compiler_error(facts.compiler or "")}
    if device != "cpu":
        tries["bf16"] = lambda: {"bf16_error": probes.bf16_error(device)}
    if device == "cuda":
        tries["triton"] = lambda: {"triton_error": triton_error()}
    if facts.gpus and facts.cuda:
        tries["clock"] = probes.under_load
    found: dict[str, Any] = {"free_share": share}
    failed = []
    with ThreadPoolExecutor(len(tries)) as pool:
        running = {name: pool.submit(each) for name, each in tries.items()}
        for name, future in running.items():
            try:
                found |= future.result()
            except (OSError, RuntimeError, MemoryError) as error:  # of a machine short of something
                failed.append(f"{name} ({str(error) or type(error).__name__})")
    return replace(facts, **found, failed=tuple(failed))


def triton_error() -> str:
    """Launch compiled code; where it fails for want of an assembler, again with another."""
    said = probes.triton_error()
    if said and mend_ptxas(*torch.cuda.get_device_capability()):
        said = probes.triton_error()
    return said


def attention_error(device: str) -> str:
    """Launch each kernel that training may choose on a device, forward and backward."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    kernels: tuple[Kernel, ...] = ("sdpa", "plain")
    for kernel in kernels:
        for window in (0, 32):
            q, k, v = (
                torch.ones(1, 64, 2, 32, device=device, dtype=dtype).requires_grad_()
                for _ in range(3)
            )
            try:
                out = attend(q, k, v, window, kernel)
                out.sum().backward()
            except RuntimeError as error:
                return f"{kernel}: {str(error).splitlines()[0][:300]}"
            if not torch.allclose(out.float(), torch.ones_like(out.float()), atol=0.02):
                return f"{kernel}: it computes wrongly."
    said = probes.child_error(FLEX) if device == "cuda" else ""
    return f"flex: {said}" if said else ""


def _sandbox() -> dict[str, Any]:
    try:
        sandbox = Sandbox()
    except MachineError as error:
        return {"sandbox_error": str(error)}
    outcome = sandbox.run("assert sum(range(4)) == 6")
    return {
        "sandbox": sandbox.name,
        "sandbox_error": "" if outcome.passed else f"A right program fails: {outcome.reason}",
    }
