"""Small models with random weights everywhere, in float64 so that equal means equal, and a
tokenizer that knows some English.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from chatling.toy import conversations

from ..tasks.conftest import fetcher  # noqa: F401 - a fixture for the tests beside this file

MakeModel = Callable[..., GPT]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = [
        message.text for conversation in conversations(0, 2000) for message in conversation.messages
    ]
    return train_tokenizer(iter(texts), TokenizerConfig(vocab_size=512))


@pytest.fixture(scope="session")
def make_model(tokenizer: Tokenizer) -> MakeModel:
    def make(
        preset: str = "classic",
        *,
        context: int = 64,
        width: int = 32,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
    ) -> GPT:
        recipe = ModelRecipe(
            preset=preset,
            depth=3,
            width=width,
            head_width=16,
            kv_heads=1,
            context=context,
            window_pattern="SL",
        )
        config = replace(
            recipe.resolve(tokenizer.vocab_size), windows=(5, 0, 0) if preset == "modern" else ()
        )
        model = GPT(config, compute_dtype=dtype)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                spread = 1.0 if "embed" in name else 2 * parameter.shape[-1] ** -0.5
                parameter.copy_(torch.empty_like(parameter).normal_(0, spread, generator=generator))
        return model.to(dtype).eval()

    return make
