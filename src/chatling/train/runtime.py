"""How a run executes on its machine: dtype, attention kernel, compilation, threads, micro-batch.
Chosen once by measuring, then frozen.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch

from chatling.config.stages import MachineConfig
from chatling.errors import MachineError, RunError
from chatling.hardware.detect import Machine
from chatling.model.attention import Kernel, attend
from chatling.model.config import ModelConfig, activation_memory, logits_memory, model_memory

DTypeName = Literal["float32", "bfloat16", "float64"]
# enough to amortise each operation's overhead, little enough to stay near the caches
CPU_MICRO_TOKENS = 8192
GPU_MICRO_TOKENS = 65_536
COMPILE_PAYS_AFTER = 150  # steps


@dataclass(frozen=True)
class RuntimeConfig:
    """The choices of one run, kept in its state.json: a resume reuses them, so that the bits stay
    the same.
    """

    device: str
    dtype: DTypeName
    kernel: Kernel
    compile: bool
    threads: int
    micro_tokens: int  # most tokens in a micro-batch

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> RuntimeConfig:
        """Raises RunError for what `to_dict` did not write."""
        choices: dict[str, tuple[Any, ...]] = {
            "device": ("cuda", "mps", "cpu"),
            "dtype": get_args(DTypeName),
            "kernel": get_args(Kernel),
            "compile": (True, False),
        }
        odd = next((key for key, known in choices.items() if data.get(key) not in known), None)
        counts = (
            type(data.get(key)) is int and 0 < data[key] < 1 << 31
            for key in ("threads", "micro_tokens")
        )
        if odd or not all(counts) or len(data) != 6 or type(data["compile"]) is not bool:
            raise RunError(
                "The run's state does not say how it was executed.",
                "Choose another run with --run.",
            )
        return RuntimeConfig(**data)

    @property
    def torch_dtype(self) -> torch.dtype:
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[
            self.dtype
        ]

    def micro_rows(self, row_tokens: int, rows_per_rank: int) -> int:
        """The largest divisor of a rank's rows whose micro-batch stays within `micro_tokens`."""
        return even_rows(rows_per_rank, self.micro_tokens // row_tokens)


def check_machine(config: MachineConfig, machine: Machine, steps: int) -> None:
    """Raises MachineError for what the recipe asks for and this machine cannot do; memory is
    another matter (`micro_tokens`).
    """
    device = machine.device if config.device == "auto" else config.device
    if device != machine.device and device != "cpu":
        raise MachineError(f"This machine has no {device} device.", "Leave machine.device at auto.")
    if config.compile == "on" and device == "cpu" and not machine.compiler:
        raise MachineError(
            "machine.compile is on, but there is no C++ compiler.",
            "Install g++ or clang, or set machine.compile to auto.",
        )
    if config.kernel == "flex" and not (device == "cuda" and compiles(config, machine, steps)):
        raise MachineError(
            "The flex kernel trains only compiled and on CUDA.",
            "Leave machine.kernel at auto, or set it to sdpa.",
        )
    if device == "mps" and config.dtype == "float64":
        raise MachineError(
            "Apple's GPUs have no float64.",
            "Set machine.device to cpu, or leave machine.dtype at auto.",
        )


def compiles(config: MachineConfig, machine: Machine, steps: int) -> bool:
    """Whether so many steps are trained with compiled code."""
    device = machine.device if config.device == "auto" else config.device
    return config.compile == "on" or (
        config.compile == "auto"
        and device != "mps"
        and machine.compiler
        and steps >= COMPILE_PAYS_AFTER
    )


def choose_runtime(
    config: MachineConfig,
    machine: Machine,
    model: ModelConfig,
    steps: int,
    say: Callable[[str], None] = print,
    rank: int = 0,
) -> RuntimeConfig:
    """Decide what the recipe leaves open. On a GPU, `say` gets a sentence on its attention kernels.
    `rank` as of `micro_tokens`. Raises MachineError for what this machine cannot do.
    """
    check_machine(config, machine, steps)
    device = machine.device if config.device == "auto" else config.device
    dtype: DTypeName = (
        config.dtype
        if config.dtype != "auto"
        else "bfloat16"
        if machine.bf16_is_fast
        else "float32"
    )
    compiled = compiles(config, machine, steps)
    kernel = (
        fastest_kernel(device, getattr(torch, dtype), model, compiled, say)
        if config.kernel == "auto"
        else config.kernel
    )
    micro = config.rows * model.context if config.rows else micro_tokens(machine, model, rank)
    return RuntimeConfig(device, dtype, kernel, compiled, config.threads or machine.cores, micro)


def even_rows(share: int, most: int) -> int:
    """The most rows, up to `most` and at least 1, that divide a rank's share of a step."""
    return next(rows for rows in range(max(1, min(share, most)), 0, -1) if share % rows == 0)


def micro_tokens(machine: Machine, model: ModelConfig, rank: int = 0) -> int:
    """Tokens of the largest micro-batch that fits, a whole number of rows; where only adapters
    learn, of a `rank`. Raises MachineError when not even one row does.
    """
    element = 2 if machine.bf16_is_fast else 4
    fixed = model_memory(model, training=True, rank=rank)

    def needed(rows: int) -> int:
        return fixed + activation_memory(model, rows, element) + logits_memory(model, rows)

    most = CPU_MICRO_TOKENS if machine.device == "cpu" else GPU_MICRO_TOKENS
    choices = range(1, max(1, most // model.context) + 1)
    # needed memory grows with rows, so those that fit come first
    fit = bisect.bisect_right(choices, 0.85 * machine.memory, key=needed)
    if fit < 1:
        raise MachineError(
            f"Training this model needs about {needed(1) / 2**30:.1f} GiB, and"
            f" {machine.memory / 2**30:.1f} GiB are there.",
            "Choose a smaller model.depth or model.context.",
        )
    return model.context * fit


def fastest_kernel(
    device: str,
    dtype: torch.dtype,
    model: ModelConfig,
    compiled: bool,
    say: Callable[[str], None],
) -> Kernel:
    """Launch each attention kernel, forward and backward, at the model's shape; the fastest one
    that runs wins. Raises MachineError when none does.
    """
    candidates: tuple[Kernel, ...] = ("sdpa",)
    if device == "cpu" and model.context <= 1024:
        candidates = ("sdpa", "plain")
    elif device == "cuda" and compiled and model.windows:
        candidates = ("flex", "sdpa")
    times: dict[Kernel, float] = {}
    for kernel in candidates:
        try:
            times[kernel] = _kernel_seconds(kernel, device, dtype, model)
        except Exception as error:  # compilers and drivers raise whatever they like
            if device == "cpu":
                raise
            say(f"The attention kernel {kernel} does not run here: {str(error).splitlines()[0]}")
    if not times:
        raise MachineError(
            "No attention kernel runs on this GPU.",
            "Run chatling doctor; or set machine.device to cpu.",
        )
    best = min(times, key=lambda kernel: times[kernel])
    if device == "cuda":
        each = ", ".join(f"{kernel} {1000 * seconds:.1f} ms" for kernel, seconds in times.items())
        say(f"Attention: {best} ({each}).")
    return best


def _kernel_seconds(kernel: Kernel, device: str, dtype: torch.dtype, model: ModelConfig) -> float:
    """Of forward and backward in the first layer, whose window is the smallest."""
    rows = max(1, 4096 // model.context)
    run = torch.compile(attend, dynamic=False) if kernel == "flex" else attend
    seconds = 0.0
    shape = (rows, model.context, model.heads, model.head_width)
    q = torch.randn(shape, device=device).to(dtype).requires_grad_()
    kv_shape = (rows, model.context, model.kv_heads, model.head_width)
    k, v = (torch.randn(kv_shape, device=device).to(dtype).requires_grad_() for _ in range(2))
    for _ in range(3):  # the last round counts: the first ones warm up
        start = time.perf_counter()
        run(q, k, v, model.window(0), kernel).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return seconds
