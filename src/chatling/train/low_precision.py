"""Whether training in FP8 pays on this machine: each product of the model's shapes is compared with
the exact one, and a block is timed.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from chatling.model.attention import rotary_tables
from chatling.model.config import ModelConfig
from chatling.model.fp8 import LEAST_WIDTH, MULTIPLE, fp8_product
from chatling.model.gpt import Block

# Of the cosine between a product and the exact one. Rounding alone leaves .9993 where both sides
# are e4m3 and .99826 where one is e5m2, whatever the shape (docs/LOG.md), so .999 can be asked of
# the forward pass and not of gradients. Two sides in e5m2 would leave .9972, and numbers that were
# lost or stand at a wrong place much less.
LEAST_COSINE = {"forward": 0.999, "to the input": 0.998, "to the matrix": 0.998}
LEAST_GAIN = 1.05  # in the speed of a block
TOKENS = 4096


def fp8_pays(
    device: str,
    dtype: torch.dtype,
    model: ModelConfig,
    compiled: bool,
    say: Callable[[str], None],
) -> bool:
    """Measure, and `say` why or why not."""
    why = _unfit(device, dtype, model, compiled)
    if why is None:
        try:
            why = _wrong(device, dtype, model) or _slow(device, dtype, model)
        except Exception as error:  # compilers and drivers raise whatever they like
            why = str(error).splitlines()[0]
    say(f"FP8 is not used: {why}." if why else "The blocks of base train in FP8.")
    return why is None


def _unfit(device: str, dtype: torch.dtype, model: ModelConfig, compiled: bool) -> str | None:
    if device != "cuda" or dtype != torch.bfloat16 or not compiled:
        return "it needs a CUDA device, bfloat16 and compiled code"
    if model.width < LEAST_WIDTH:
        return f"below a width of {LEAST_WIDTH:,} it gains nothing"
    if odd := next((side for shape in shapes(model) for side in shape if side % MULTIPLE), None):
        return f"a matrix has a side of {odd}, no multiple of {MULTIPLE}"
    return None


def shapes(model: ModelConfig) -> set[tuple[int, int]]:
    """(outputs, inputs) of the matrices of a block."""
    width, kv_width = model.width, model.kv_heads * model.head_width
    return {(width, width), (kv_width, width), (model.mlp_width, width), (width, model.mlp_width)}


def cosines(
    device: str, dtype: torch.dtype, tokens: int, shape: tuple[int, int]
) -> dict[str, float]:
    """Of the product and its two gradients with the exact ones, by name; 0 where a number is not
    finite, or all are zero.
    """
    generator = torch.Generator().manual_seed(0)
    outputs, inputs = shape

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(device)

    x, weight, gradient = (
        draw(tokens, inputs).to(dtype).requires_grad_(),
        (draw(outputs, inputs) * inputs**-0.5).requires_grad_(),
        draw(tokens, outputs).to(dtype),
    )
    y = fp8_product(x, weight)
    y.backward(gradient)
    assert x.grad is not None
    assert weight.grad is not None
    exact = (
        x.detach().float() @ weight.detach().T,
        gradient.float() @ weight.detach(),
        gradient.float().T @ x.detach().float(),
    )
    found = (y.detach(), x.grad, weight.grad)
    return dict(zip(LEAST_COSINE, map(_cosine, found, exact), strict=True))


def _cosine(found: Tensor, exact: Tensor) -> float:
    a, b = found.flatten().double().cpu(), exact.flatten().double().cpu()
    if not a.isfinite().all() or not a.any():
        return 0.0
    return float(torch.cosine_similarity(a, b, dim=0))


def _wrong(device: str, dtype: torch.dtype, model: ModelConfig) -> str | None:
    for shape in sorted(shapes(model)):
        for name, cosine in cosines(device, dtype, TOKENS, shape).items():
            if cosine < LEAST_COSINE[name]:
                return (
                    f"the product {name} of a matrix {shape[0]:,} × {shape[1]:,} has a cosine of"
                    f" {cosine:.4f} with the exact one, less than {LEAST_COSINE[name]}"
                )
    return None


def _slow(device: str, dtype: torch.dtype, model: ModelConfig) -> str | None:
    plain, fast = (block_seconds(device, dtype, model, fp8=fp8) for fp8 in (False, True))
    if plain < LEAST_GAIN * fast:
        return f"a block takes {1000 * fast:.2f} ms with it and {1000 * plain:.2f} ms without"
    return None


def block_seconds(device: str, dtype: torch.dtype, model: ModelConfig, *, fp8: bool) -> float:
    """Forward and backward of a compiled block, the shortest of some rounds."""
    block = Block(model, model.depth - 1, "sdpa").to(device)
    block.use_fp8(fp8)
    block.compile(dynamic=False)
    length = min(model.context, TOKENS)
    tables = rotary_tables(length, model.head_width, model.rope_theta, torch.device(device))
    cos, sin = (table[None, :, None].to(dtype) for table in tables)
    x = torch.randn(max(1, TOKENS // length), length, model.width, device=device, dtype=dtype)
    x.requires_grad_()
    times = []
    for _ in range(8):  # the first ones compile and warm up
        start = time.perf_counter()
        block(x, cos, sin).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)
