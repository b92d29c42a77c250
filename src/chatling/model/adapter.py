"""Low-rank adapters (LoRA, arXiv 2106.09685): a frozen model learns through two small matrices
beside each matrix of its blocks.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from chatling.fields import bounded, config
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT, Linear

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")  # the matrices of each block
MOST_ALPHA = 1_000_000


@config
class AdapterConfig:
    """The `[sft.adapter]` table, or that of another stage after base."""

    rank: Annotated[int, bounded(ge=1, le=4_096)] = 8
    """Of what is added to each matrix: its two factors have so many rows and columns."""
    alpha: Annotated[float, bounded(gt=0, le=MOST_ALPHA)] = 16.0
    """What is added counts alpha / rank times."""

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class AdaptedLinear(Linear):
    """A frozen matrix W with what is learned beside it: W + scale B A."""

    def __init__(self, base: Linear, adapter: AdapterConfig):
        with torch.device("meta"):  # the matrix is the base's own
            super().__init__(base.in_features, base.out_features)
        self.weight, self.scale = base.weight, adapter.scale
        self.lora_A = Linear(base.in_features, adapter.rank)
        self.lora_B = Linear(adapter.rank, base.out_features)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * self.lora_B(self.lora_A(x))

    @torch.no_grad()
    def merged(self) -> Tensor:
        return self.weight + self.scale * (self.lora_B.weight @ self.lora_A.weight)


class AdaptedGPT(GPT):
    """A model whose blocks' matrices are adapted. Only the adapters learn, and `state_dict` is
    theirs alone. What lies below is known by `base`, the sha256 of its weights file, and to others
    by `source`, its name.
    """

    def __init__(
        self, config: ModelConfig, adapter: AdapterConfig, base: str, source: str, **options: Any
    ):
        """`options` as of GPT."""
        super().__init__(config, **options)
        self.adapter, self.base, self.source = adapter, base, source
        self.requires_grad_(False)
        for part in [part for block in self.layers for part in block.children()]:
            for name in ADAPTED:
                if hasattr(part, name):
                    setattr(part, name, AdaptedLinear(getattr(part, name), adapter))

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of its adapters."""
        return {"rank": self.adapter.rank, "alpha": self.adapter.alpha, "base": self.base}

    def adapted(self) -> dict[str, AdaptedLinear]:
        """The adapted matrices by name."""
        found = self.named_modules()
        return {name: each for name, each in found if isinstance(each, AdaptedLinear)}

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """As GPT; then B is zero, so that the function is the base's, and A is drawn."""
        super().initialize(generator)
        for each in self.adapted().values():
            bound = 1 / math.sqrt(each.in_features)
            each.lora_A.weight.uniform_(-bound, bound, generator=generator)
            each.lora_B.weight.zero_()

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Tensor]:  # type: ignore[override]
        found = super().state_dict(*args, **options)
        return {name: tensor for name, tensor in found.items() if ".lora_" in name}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """The adapters, or the model below them. Raises RuntimeError for what is neither."""
        whole, adapters = super().state_dict().keys(), self.state_dict().keys()
        if state_dict.keys() not in (adapters, whole - adapters):
            raise RuntimeError("neither the adapters nor the model below them")
        return super().load_state_dict(state_dict, strict=False)

    @torch.no_grad()
    def weaken(self, share: float) -> None:
        """Leave a share of what was learned."""
        for each in self.adapted().values():
            each.lora_B.weight.mul_(share)

    def merged(self) -> GPT:
        """A plain model of the same function, which shares all but the adapted matrices."""
        with torch.device("meta"):
            plain = GPT(self.config, compute_dtype=self.compute_dtype)
        adapted = {f"{name}.weight": each.merged() for name, each in self.adapted().items()}
        weights = super().state_dict()
        names = plain.state_dict().keys()
        plain.load_state_dict({name: weights[name] for name in names} | adapted, assign=True)
        for name, table in self.named_buffers():
            plain.register_buffer(name, table, persistent=False)
        return plain


def merged(model: GPT) -> GPT:
    """A model without adapters: itself where it has none."""
    return model.merged() if isinstance(model, AdaptedGPT) else model
