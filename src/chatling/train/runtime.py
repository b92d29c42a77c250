"""How a run executes on its machine: dtype, attention kernel, compilation, threads, micro-batch.
Chosen once by measuring, then frozen.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import torch

from chatling.config.stages import MachineConfig
from chatling.errors import MachineError, RunError
from chatling.hardware.detect import Machine
from chatling.model.attention import FLASH, Kernel
from chatling.model.config import ModelConfig, activation_memory, logits_memory, model_memory
from chatling.run_dir import size
from chatling.train.kernels import fastest_kernel
from chatling.train.low_precision import fp8_pays

DTypeName = Literal["float32", "bfloat16", "float64"]
# enough to amortise each operation's overhead, little enough to stay near the caches
CPU_MICRO_TOKENS = 8192
GPU_MICRO_TOKENS = 65_536
COMPILE_PAYS_AFTER = 150  # steps
UNCOMPILED = (
    "There is no C++ compiler with Python's headers, so nothing is compiled, and training takes"
    " 1.3 to 2 times as long. Install them (Debian: g++ and python3-dev) and start another run."
)


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
    asked_rows: int = 0  # machine.rows of the recipe, when it last decided on `micro_tokens`
    deterministic: bool = False
    fp8: bool = False

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
            "deterministic": (True, False),
            "fp8": (True, False),
        }
        # earlier versions did not have them
        data = {"asked_rows": 0, "deterministic": False, "fp8": False, **data}
        odd = next((key for key, known in choices.items() if data.get(key) not in known), None)
        counts = (
            type(data.get(key)) is int and least <= data[key] < 1 << 31
            for key, least in (("threads", 1), ("micro_tokens", 1), ("asked_rows", 0))
        )
        flags = (type(data.get(key)) is bool for key in ("compile", "deterministic", "fp8"))
        if odd or not all(counts) or not all(flags) or len(data) != len(fields(RuntimeConfig)):
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
    another matter (`rows_at_once`).
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
    if config.kernel in FLASH and not (
        device == "cuda" and machine.bf16_is_fast and config.dtype in ("auto", "bfloat16")
    ):
        raise MachineError(
            f"The {config.kernel} kernel computes in bfloat16 and on CUDA.",
            "Leave machine.kernel at auto, or set it to sdpa.",
        )
    if config.fp8 == "auto" and config.shard:
        raise MachineError(
            "FP8 was never tried on weights that are spread over processes.",
            "Leave machine.fp8 or machine.shard out.",
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
    longest: int = 0,
    shards: int = 1,
) -> RuntimeConfig:
    """Decide what the recipe leaves open. On a GPU, `say` gets a sentence on its attention kernels.
    `rank` and `shards` as of `rows_at_once`, `longest` the context where a stage makes it longer.
    Raises MachineError for what this machine cannot do.
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
    if device == "cuda" and not machine.compiler and steps >= COMPILE_PAYS_AFTER:
        say(UNCOMPILED)
    # a processor's plain kernel would make all scores of the longer rows
    lengthy = device == "cpu" and longest > 1024
    timed = replace(model, context=longest) if lengthy else model
    kernel = (
        fastest_kernel(device, getattr(torch, dtype), timed, compiled, say)
        if config.kernel == "auto"
        else config.kernel
    )
    threads = config.threads or machine.cores
    rows = rows_at_once(config, machine, model, rank, say, shards)
    micro, strict = rows * model.context, config.deterministic
    fp8 = config.fp8 == "auto" and fp8_pays(device, getattr(torch, dtype), model, compiled, say)
    return RuntimeConfig(device, dtype, kernel, compiled, threads, micro, config.rows, strict, fp8)


def even_rows(share: int, most: int) -> int:
    """The most rows, up to `most` and at least 1, that divide a rank's share of a step."""
    return next(rows for rows in range(max(1, min(share, most)), 0, -1) if share % rows == 0)


def check_memory(machine: Machine, model: ModelConfig, rank: int = 0, shards: int = 1) -> None:
    """Raises MachineError when not even one row at a time fits."""
    _fitting(machine, model, rank, 1, shards)


def rows_at_once(
    config: MachineConfig,
    machine: Machine,
    model: ModelConfig,
    rank: int = 0,
    say: Callable[[str], None] = lambda text: None,
    shards: int = 1,
) -> int:
    """Rows of a micro-batch: as many as the recipe asks for, at most those that fit, which is said;
    where it asks for none, as many as fit and pay. Where only adapters learn, they are of a `rank`;
    blocks may be spread over as many processes as `shards`. Raises MachineError when not even one
    row fits.
    """
    usual = CPU_MICRO_TOKENS if machine.device == "cpu" else GPU_MICRO_TOKENS
    most = config.rows or max(1, usual // model.context)
    rows = _fitting(machine, model, rank, most, shards)
    others = rows < most and _fitting(replace(machine, left=None), model, rank, most, shards)
    if others and others > rows:
        assert machine.left is not None
        say(
            f"Other processes leave {size(machine.left)} of the GPU's memory: {rows} rows at a time"
            f" instead of {others}."
        )
    elif rows < config.rows:
        say(
            f"machine.rows is {config.rows}; in {size(machine.room)} of memory fit at most {rows}"
            " at a time, so no more are taken."
        )
    return rows


def _fitting(machine: Machine, model: ModelConfig, rank: int, most: int, shards: int) -> int:
    """The rows of the largest micro-batch that fits, up to `most`."""
    element = 2 if machine.bf16_is_fast else 4
    fixed = model_memory(model, training=True, rank=rank, shards=shards)

    def needed(rows: int) -> int:
        return fixed + activation_memory(model, rows, element) + logits_memory(model, rows)

    # needed memory grows with rows, so those that fit come first
    fit = bisect.bisect_right(range(1, most + 1), machine.room, key=needed)
    if fit < 1:
        raise MachineError(
            f"Training this model needs about {size(needed(1))}, one row at a time; a run may take"
            f" {size(machine.room)} of the memory here.",
            "Choose a smaller model.depth or model.context."
            if machine.room == replace(machine, left=None).room
            else "End what else uses the GPU, or set machine.device to cpu.",
        )
    return fit
