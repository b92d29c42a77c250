"""What CUDA's kernels keep for the backward pass, for a build of torch without them."""

from typing import Any

import torch
from torch import Tensor, nn

import chatling.model.attention as attention_module
import chatling.model.gpt as gpt_module


class _FusedNorm(torch.autograd.Function):
    """One kernel, which keeps its input and a number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.empty_like(ctx.saved_tensors[0])


def norm(x: Tensor, eps: float) -> Tensor:
    return _FusedNorm.apply(x)


class Functional:
    @staticmethod
    def scaled_dot_product_attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        enable_gqa: bool = False,
    ) -> Tensor:
        """The flash kernel, with a mask the memory-efficient one, with a mask and grouped heads
        products of matrices: what `scaled_dot_product_attention` takes on CUDA.
        """
        if enable_gqa:
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        if attn_mask is None:
            out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(
                q, k, v, 0.0, is_causal
            )[0]
            return out
        if enable_gqa and torch.is_grad_enabled():
            scores = (q @ k.mT).float() * q.shape[-1] ** -0.5
            return scores.masked_fill(~attn_mask, float("-inf")).softmax(-1).to(v.dtype) @ v
        bias = attn_mask
        if attn_mask.dtype == torch.bool:
            bias = torch.zeros(attn_mask.shape, dtype=q.dtype, device=q.device)
            bias = bias.masked_fill(~attn_mask, float("-inf"))
        bias = bias.expand(q.shape[0], q.shape[1], *bias.shape[-2:])
        efficient = torch.ops.aten._scaled_dot_product_efficient_attention
        out = efficient(q, k, v, bias, torch.is_grad_enabled())[0]
        return out


def _flex(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """The windowed kernel, which keeps what the flash kernel keeps."""
    grouped = q.shape[1] != k.shape[1]
    return Functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)


def _apply(module: nn.Module, change: Any, recurse: bool = True) -> nn.Module:
    """`Module.to` for fake tensors, which cannot be swapped."""
    for child in module.children():
        _apply(child, change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            new = change(parameter.detach())
            module._parameters[name] = nn.Parameter(new, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


def install() -> None:
    gpt_module.norm, attention_module._flex = norm, _flex
    attention_module.F = Functional  # type: ignore[misc, assignment]
    nn.Module._apply = _apply  # type: ignore[method-assign, assignment]
    torch._C._ensureCUDADeviceGuardSet()
