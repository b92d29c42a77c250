"""Matrix products in FP8, tensor by tensor: numbers are scaled to the type's range, rounded to
eight bits and multiplied; sums are fp32.

Forward in e4m3 (three bits of mantissa), gradients in e5m2 (two, and more range), as in
Micikevicius et al., arXiv 2209.05433. Weights stay fp32. Where there are no such products (on a
processor), what was rounded is multiplied in fp32: the same numbers but for the order of the sums.
"""

from typing import Any

import torch
from torch import Tensor

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16  # of both sides of a matrix, for the scaled products
LEAST_WIDTH = 1280  # of a model; published runs lose speed below (docs/training.md)


def rounded(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """A tensor in an FP8 type, and the fp32 factor (1,) that gives its numbers back."""
    largest = torch.finfo(kind).max
    # a tensor of zeros has no range
    scale = x.detach().abs().amax().float().clamp_min(1e-12) / largest
    # rounding may leave the range by a bit, and e4m3 has no infinity to say so
    return (x.float() / scale).clamp(-largest, largest).to(kind), scale.reshape(1)


def product(
    a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor, out: torch.dtype, *, fast: bool
) -> Tensor:
    """a (N, K) @ b.T (K, M) of rounded a and b (M, K), in `out`. `fast` sums in fewer bits."""
    if a.is_cuda:
        found: Tensor = torch._scaled_mm(
            a, b.T, scale_a=a_scale, scale_b=b_scale, out_dtype=out, use_fast_accum=fast
        )
        return found
    return ((a.float() @ b.float().T) * (a_scale * b_scale)).to(out)


class _Fp8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        flat = x.flatten(0, -2)  # (N, inputs)
        x8, x_scale = rounded(flat, FORWARD)
        w8, w_scale = rounded(weight, FORWARD)  # (outputs, inputs)
        ctx.save_for_backward(x8, x_scale, w8, w_scale)
        ctx.kinds, ctx.shape = (x.dtype, weight.dtype), x.shape
        y = product(x8, x_scale, w8, w_scale, x.dtype, fast=True)
        return y.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        x8, x_scale, w8, w_scale = ctx.saved_tensors
        g8, g_scale = rounded(gradient.flatten(0, -2), BACKWARD)  # (N, outputs)
        # the products want both sides row by row
        d_x = product(g8, g_scale, w8.T.contiguous(), w_scale, ctx.kinds[0], fast=False)
        if not ctx.needs_input_grad[1]:  # below adapters
            return d_x.view(ctx.shape), None
        d_weight = product(
            g8.T.contiguous(), g_scale, x8.T.contiguous(), x_scale, ctx.kinds[0], fast=False
        )
        return d_x.view(ctx.shape), d_weight.to(ctx.kinds[1])


def fp8_product(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., inputs) @ weight.T of (outputs, inputs)."""
    found: Tensor = _Fp8Product.apply(x, weight)
    return found


def fits(x: Tensor) -> bool:
    """Whether x (..., inputs) has as many tokens as the scaled products take."""
    return x.shape[:-1].numel() % MULTIPLE == 0
