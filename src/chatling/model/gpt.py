"""The model. `classic` is the reference architecture; `modern` adds what its flags name. One page,
top to bottom.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chatling.model.attention import Cache, Kernel, Yarn, attend, rotary_tables, rotate
from chatling.model.config import SMEAR_GATE_INPUTS, VALUE_GATE_INPUTS, ModelConfig, gate_inputs
from chatling.model.fp8 import fits, fp8_product
from chatling.model.losses import (
    ChunkLoss,
    capped_logits,
    next_token_loss,
    softcapped_chunk,
    token_logprobs,
)

# variants of a compiled layer in all stages: shapes, windows, with and without gradients
COMPILED_SHAPES = 128


class Linear(nn.Linear):
    """A matrix without bias, kept in its own dtype (fp32 in training) and used in that of its
    input.
    """

    fp8 = False  # where gradients are made

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.fp8 and torch.is_grad_enabled() and fits(x):
            return fp8_product(x, self.weight)
        return F.linear(x, self.weight.to(x.dtype))


def norm(x: Tensor, eps: float) -> Tensor:
    """RMSNorm without parameters (arXiv 1910.07467)."""
    return F.rms_norm(x, (x.shape[-1],), eps=eps)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int, kernel: Kernel):
        super().__init__()
        self.config, self.layer, self.kernel = config, layer, kernel
        # its own attribute: reading `layer` would make the compiler build a graph for each layer
        self.window, self.scale = config.window(layer), config.attention_scale(layer)
        kv_width = config.kv_heads * config.head_width
        self.q_proj = Linear(config.width, config.width)
        self.k_proj = Linear(config.width, kv_width)
        self.v_proj = Linear(config.width, kv_width)
        self.o_proj = Linear(config.width, config.width)
        if config.has_value_embedding(layer):
            self.value_gate = Linear(gate_inputs(config, VALUE_GATE_INPUTS), config.kv_heads)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        value_embedding: Tensor | None,
        cache: Cache | None,
    ) -> Tensor:
        c = self.config
        heads = (*x.shape[:2], -1, c.head_width)  # (B, T, H or K, E)
        q, k, v = self.q_proj(x).view(heads), self.k_proj(x).view(heads), self.v_proj(x).view(heads)
        if value_embedding is not None:
            # (B, T, K)
            gate = 3 * torch.sigmoid(self.value_gate(x[..., : self.value_gate.in_features]))
            v = v + gate[..., None] * value_embedding.view(heads)
        q, k = (norm(rotate(t, cos, sin), c.norm_eps) * self.scale for t in (q, k))
        q, k = q.to(v.dtype), k.to(v.dtype)  # on a processor rotated and normed in fp32
        y = (
            attend(q, k, v, self.window, self.kernel)
            if cache is None
            else cache.attend(self.layer, q, k, v, self.window)
        )
        return self.o_proj(y.flatten(2))


class MLP(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.fc1 = Linear(config.width, config.mlp_width)
        self.fc2 = Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x)).square())  # ReLU squared (arXiv 2109.08668)


class Block(nn.Module):
    def __init__(self, config: ModelConfig, layer: int, kernel: Kernel):
        super().__init__()
        self.eps = config.norm_eps
        self.self_attn = Attention(config, layer, kernel)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        value_embedding: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        x = x + self.self_attn(norm(x, self.eps), cos, sin, value_embedding, cache)
        return x + self.mlp(norm(x, self.eps))

    def use_fp8(self, fp8: bool = True) -> None:
        """Train the matrices in FP8, but not the gates."""
        for name, part in self.named_modules():
            if isinstance(part, Linear) and not name.endswith("gate"):
                part.fp8 = fp8


class GPT(nn.Module):
    """A decoder-only transformer. Parameters are named as in `transformers`' NanoChat, whose
    function the classic preset computes.
    """

    # which optimizer settings apply; what is not named here goes by its dimensions
    parameter_roles: ClassVar = {
        "embed_tokens": "embedding",
        "lm_head": "head",
        "value_embeds": "value_embedding",
        "residual_scales": "residual_scales",
        "input_scales": "input_scales",
        "smear_gate": "scalar",
    }

    def __init__(
        self,
        config: ModelConfig,
        *,
        compute_dtype: torch.dtype = torch.float32,
        kernel: Kernel = "sdpa",
    ):
        super().__init__()
        self.config, self.compute_dtype = config, compute_dtype
        self.loss_chunk: ChunkLoss = softcapped_chunk
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Block(config, layer, kernel) for layer in range(config.depth))
        self.lm_head = Linear(config.width, config.vocab_size)
        kv_width = config.kv_heads * config.head_width
        self.value_embeds = nn.ModuleDict(
            {
                str(i): nn.Embedding(config.vocab_size, kv_width)
                for i in range(config.depth)
                if config.has_value_embedding(i)
            }
        )
        if config.layer_scalars:
            self.residual_scales = nn.Parameter(torch.empty(config.depth))
            self.input_scales = nn.Parameter(torch.empty(config.depth))
        if config.smear:
            self.smear_gate = Linear(gate_inputs(config, SMEAR_GATE_INPUTS), 1)
            self.smear_scale = nn.Parameter(torch.empty(1))
        if config.backout:
            self.backout_scale = nn.Parameter(torch.empty(1))
        self.cos: Tensor
        self.sin: Tensor
        self.window_cos: Tensor
        self.window_sin: Tensor
        self.make_rotary_tables()

    def make_rotary_tables(self, device: torch.device | None = None) -> None:
        """Make the tables of full layers, and where they have their own, those of layers with a
        window.
        """
        c = self.config
        yarn = Yarn(c.yarn_factor, c.yarn_context) if c.yarn_factor > 1 else None
        made = {"": rotary_tables(c.context, c.head_width, c.rope_theta, device, yarn)}
        if c.two_rotations:
            theta = c.window_theta or c.rope_theta
            made["window_"] = rotary_tables(c.context, c.head_width, theta, device)
        for kind, (cos, sin) in made.items():
            self.register_buffer(f"{kind}cos", cos, persistent=False)
            self.register_buffer(f"{kind}sin", sin, persistent=False)

    def _rotation(
        self, cos: Tensor, sin: Tensor, ids: Tensor, cache: Cache | None
    ) -> tuple[Tensor, Tensor]:
        """The rows of two tables at the places of ids (B, T)."""
        if cache is None:
            # (1, T, 1, E/2)
            cos, sin = cos[None, : ids.shape[1], None], sin[None, : ids.shape[1], None]
        else:
            # (B, T, 1, E/2)
            cos, sin = cos[cache.positions][:, :, None], sin[cache.positions][:, :, None]
        if ids.is_cuda:  # rotated in fp32, q and k are kept in fp32: a tenth of what a block keeps
            return cos.to(self.compute_dtype), sin.to(self.compute_dtype)
        return cos, sin

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Token ids (B, T) to the hidden states after the last norm, (B, T, D) in the compute
        dtype.
        """
        c = self.config
        full = short = self._rotation(self.cos, self.sin, ids, cache)
        if c.two_rotations:
            short = self._rotation(self.window_cos, self.window_sin, ids, cache)
        x = norm(self.embed_tokens(ids).to(self.compute_dtype), c.norm_eps)
        if c.smear:
            # (B, T, D) of each token's predecessor, zeros before the first
            before = F.pad(x, (0, 0, 1, 0))[:, :-1]
            if cache is not None:
                earlier = norm(
                    self.embed_tokens(cache.previous.clamp_min(0)).to(self.compute_dtype),
                    c.norm_eps,
                )
                before = torch.cat(
                    (earlier * (cache.previous >= 0)[..., None], before[:, earlier.shape[1] :]),
                    dim=1,
                )
            gate = torch.sigmoid(self.smear_gate(x[..., : self.smear_gate.in_features]))
            x = x + (self.smear_scale.to(x.dtype) * gate) * before
        first = middle = x
        for i, block in enumerate(self.layers):
            if c.layer_scalars:
                x = (
                    self.residual_scales[i].to(x.dtype) * x
                    + self.input_scales[i].to(x.dtype) * first
                )
            values = (
                self.value_embeds[str(i)](ids).to(x.dtype) if c.has_value_embedding(i) else None
            )
            x = block(x, *(short if c.window(i) else full), values, cache)
            if i == c.middle_layer:
                middle = x
        if c.backout:
            x = x - self.backout_scale.to(x.dtype) * middle
        return norm(x, c.norm_eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """Softcapped logits (..., V) in fp32 (or wider)."""
        return capped_logits(hidden, self.lm_head.weight, self.config.softcap)

    def loss(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Next-token loss of inputs (B, T) against targets (B, T): (sum in nats, count)."""
        return next_token_loss(
            self(inputs), self.lm_head.weight, targets, self.config.softcap, self.loss_chunk
        )

    def logprobs(self, inputs: Tensor, targets: Tensor, places: Tensor | None = None) -> Tensor:
        """Log-probability of each of targets (B, T) after inputs (B, T), 0 where ignored;
        differentiable. `places` as of `token_logprobs`.
        """
        hidden, softcap = self(inputs), self.config.softcap
        return token_logprobs(hidden, self.lm_head.weight, targets, softcap, places)

    def set_kernel(self, kernel: Kernel) -> None:
        for block in self.layers:
            block.self_attn.kernel = kernel  # type: ignore[union-attr]

    def compile_training(self) -> None:
        """Compile each block and the loss: alike layers share one graph, so this costs seconds, not
        a minute.
        """
        # beyond the limit (8) code would run uncompiled, and which shapes do would depend on their
        # order: a resumed run's bits with it
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        torch._dynamo.config.recompile_limit = max(
            COMPILED_SHAPES, torch._dynamo.config.recompile_limit
        )
        for block in self.layers:
            block.compile(dynamic=False)
        self.loss_chunk = torch.compile(softcapped_chunk, dynamic=False)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw fresh weights on the generator's device (DESIGN section 4 and RECIPES): zero output
        projections, small head.
        """
        c = self.config
        self.embed_tokens.weight.normal_(0, 0.8 if c.modern_init else 1.0, generator=generator)
        self.lm_head.weight.zero_()
        if c.modern_init:
            self.lm_head.weight.normal_(0, 0.001, generator=generator)
        for block in self.layers:
            assert isinstance(block, Block)
            for matrix in (
                block.self_attn.q_proj,
                block.self_attn.k_proj,
                block.self_attn.v_proj,
                block.mlp.fc1,
            ):
                self._draw(matrix, 0.4 if matrix is block.mlp.fc1 else 1.0, generator)
            block.self_attn.o_proj.weight.zero_()
            block.mlp.fc2.weight.zero_()
            if c.has_value_embedding(block.self_attn.layer):
                block.self_attn.value_gate.weight.uniform_(0, 0.02, generator=generator)
        for table in self.value_embeds.values():
            assert isinstance(table, nn.Embedding)
            bound = math.sqrt(3 / c.width)
            table.weight.uniform_(-bound, bound, generator=generator)
        if c.layer_scalars:
            self.residual_scales.copy_(torch.linspace(1.15, 1.05, c.depth))
            self.input_scales.copy_(torch.linspace(0.20, 0.05, c.depth))
        if c.smear:
            self.smear_gate.weight.uniform_(0, 0.02, generator=generator)
            self.smear_scale.zero_()
        if c.backout:
            self.backout_scale.fill_(0.2)

    def _draw(self, matrix: Linear, modern_factor: float, generator: torch.Generator) -> None:
        outputs, inputs = matrix.weight.shape
        if self.config.modern_init:
            # a uniform of standard deviation 1/sqrt(D)
            bound = math.sqrt(3 / inputs) * modern_factor
            matrix.weight.uniform_(-bound, bound, generator=generator)
        else:
            matrix.weight.normal_(
                0, min(1.0, math.sqrt(outputs / inputs)) / math.sqrt(inputs), generator=generator
            )
