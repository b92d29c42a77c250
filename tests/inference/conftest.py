"""Small models with random weights everywhere: a fresh one has zero projections and would prove
nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch

from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Every byte, and a few merges so that some tokens are longer."""
    return Tokenizer(
        [bytes([byte]) for byte in range(256)]
        + [b"th", b"the", b" the", b"an", b" an", b"12", b"EN", b"END"],
        digits=2,
    )


@pytest.fixture(scope="session")
def make_model(tokenizer: Tokenizer) -> Callable[..., GPT]:
    def make(
        preset: str = "classic",
        *,
        kv_heads: int = 2,
        seed: int = 0,
        context: int = 128,
        scale: float = 1.0,
    ) -> GPT:
        """`yarn` is a modern model whose full layers see four times as far as they did."""
        longer = preset == "yarn"
        preset = "modern" if longer else preset
        recipe = ModelRecipe(
            preset=preset,
            depth=4,
            width=64,
            head_width=16,
            kv_heads=kv_heads,
            context=context,
            window_pattern="SL",
        )
        config = replace(
            recipe.resolve(tokenizer.vocab_size),
            windows=(24, 0, 24, 0) if preset == "modern" else (),
            yarn_factor=4.0 if longer else 1.0,
            yarn_context=context // 4 if longer else 0,
        )
        model = GPT(config)
        generator = torch.Generator().manual_seed(seed)
        model.initialize(generator)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                spread = 1.0 if "embed" in name else scale * parameter.shape[-1] ** -0.5
                parameter.copy_(torch.empty_like(parameter).normal_(0, spread, generator=generator))
            model.lm_head.weight *= 2  # some tokens clearly likelier than others
        return model.eval()

    return make


@pytest.fixture
def scripted(make_model: Callable[..., GPT]) -> Callable[[Iterable[int], int], "ScriptedModel"]:
    """A stand-in that says `script` after a prompt of the given length."""
    return lambda script, prompt: ScriptedModel(make_model(), script, prompt)


class ScriptedModel(torch.nn.Module):
    """Stands in for a GPT: says the tokens of its script one after the other, whatever it is given,
    and remembers what it read.
    """

    def __init__(self, model: GPT, script: Iterable[int], prompt: int):
        super().__init__()
        self.config, self.compute_dtype, self.script, self.prompt = (
            model.config,
            model.compute_dtype,
            list(script),
            prompt,
        )
        self.embed_tokens = model.embed_tokens
        self.read: list[int] = []

    def forward(self, ids: torch.Tensor, cache: object) -> torch.Tensor:
        if ids.shape[1] == 1:
            self.read.append(int(ids[0, 0]))
        positions = getattr(cache, "positions")  # noqa: B009
        return positions[..., None].float()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        said = [int(position) - self.prompt + 1 for position in hidden[:, 0]]
        goals = [self.script[at] if at < len(self.script) else 0 for at in said]
        return torch.nn.functional.one_hot(torch.tensor(goals), self.config.vocab_size).float() * 50
