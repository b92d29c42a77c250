"""Which attention kernel trains a model fastest: each is launched, compared and timed."""

import time
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from chatling.errors import MachineError
from chatling.model.attention import FLASH, Kernel, attend, select_flash
from chatling.model.config import ModelConfig

ROUNDS = 8  # the first ones warm up
ERROR = 0.03  # of the largest number; bf16 rounds each to 0.4 %


def fastest_kernel(
    device: str,
    dtype: torch.dtype,
    model: ModelConfig,
    compiled: bool,
    say: Callable[[str], None],
) -> Kernel:
    """Launch each attention kernel, forward and backward, at the model's shape; of those that
    compute what `sdpa` does, the fastest wins. Raises MachineError when none runs.
    """
    times: dict[Kernel, float] = {}
    for kernel in _candidates(device, dtype, model, compiled):
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


def _candidates(
    device: str, dtype: torch.dtype, model: ModelConfig, compiled: bool
) -> tuple[Kernel, ...]:
    if device == "cpu":
        return ("sdpa", "plain") if model.context <= 1024 else ("sdpa",)
    if device != "cuda":
        return ("sdpa",)
    flash: tuple[Kernel, ...] = ()
    if dtype == torch.bfloat16:
        flash = tuple(kernel for kernel, (_, module) in FLASH.items() if _is_here(module))
    if not model.windows:  # there SDPA takes flash attention itself
        flash = tuple(kernel for kernel in flash if kernel != "flash")
    return (*(("flex",) if compiled and model.windows else ()), "sdpa", *flash)


def _is_here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def kernel_results(
    kernel: Kernel, inputs: list[Tensor], window: int, run: Callable[..., Tensor] = attend
) -> list[Tensor]:
    """Attention of queries, keys and values (B, T, H or K, E), and the gradients of its squares'
    sum.
    """
    q, k, v = (each.detach().requires_grad_() for each in inputs)
    out = run(q, k, v, window, kernel)
    return [out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))]


def largest_error(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference, as a share of the largest number."""
    pairs = zip(found, wanted, strict=True)
    return max(
        ((a.float() - b.float()).abs().max() / b.float().abs().max()).item() for a, b in pairs
    )


def _kernel_seconds(kernel: Kernel, device: str, dtype: torch.dtype, model: ModelConfig) -> float:
    """Of forward and backward in the first layer, whose window is the smallest. Raises MachineError
    where they are not those of `sdpa`.
    """
    rows, window = max(1, 4096 // model.context), model.window(0)
    run = torch.compile(attend, dynamic=False) if kernel == "flex" else attend
    inputs = [
        torch.randn((rows, model.context, heads, model.head_width), device=device).to(dtype)
        for heads in (model.heads, model.kv_heads, model.kv_heads)
    ]
    wanted = kernel_results("sdpa", inputs, window)
    select_flash(kernel)
    rounds = list[float]()
    try:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            found = kernel_results(kernel, inputs, window, run)
            if device == "cuda":
                torch.cuda.synchronize()
            rounds.append(time.perf_counter() - start)
    finally:
        select_flash("sdpa")
    if (error := largest_error(found, wanted)) > ERROR:
        raise MachineError(f"it computes wrongly, by {error:.0%} of the largest number")
    return min(rounds)  # what else the machine does only adds
