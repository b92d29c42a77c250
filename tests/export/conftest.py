"""A small model that has learned a few conversations by heart, calculator calls among them: its
answers are long, certain, and use every special token.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from chatling.export.source import Source
from chatling.inference.engine import Engine
from chatling.inference.request import Request
from chatling.inference.sampling import SamplingParams
from chatling.messages import Conversation, Message, Part
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.tokenizer.chat_template import render, render_prompt
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

QUESTIONS = 12
TOKENS = 60  # of an answer, at most


def _conversation(number: int) -> Conversation:
    draw = random.Random(number)
    left, right = draw.randint(10, 99), draw.randint(10, 99)
    call = (
        Part("text", "Let me see. "),
        Part("python", f"{left}*{right}"),
        Part("output", str(left * right)),
        Part("text", f" It is {left * right}."),
    )
    return Conversation((Message.of("user", f"{left} x {right}?"), Message("assistant", call)))


CONVERSATIONS = [_conversation(number) for number in range(QUESTIONS)] + [
    Conversation.of("Hello!", "Good day to you."),
    Conversation.of("Who are you?", "A very small model."),
]


def make_learned(preset: str, digits: int, steps: int, head_width: int) -> Source:
    """A model of two layers that, after 100 steps, says CONVERSATIONS by heart."""
    texts = [
        f"{turn.text} The quick brown fox, 12 of 345 (6,789)."
        for each in CONVERSATIONS
        for turn in each.messages
    ]
    words = train_tokenizer(iter(texts), TokenizerConfig(vocab_size=320, digits=digits))
    recipe = ModelRecipe(
        preset=preset,
        depth=2,
        width=64,
        head_width=head_width,
        kv_heads=2,
        context=96,
        window_pattern="SL" if preset == "modern" else None,
    )
    model = GPT(recipe.resolve(words.vocab_size))
    model.initialize(torch.Generator().manual_seed(0))
    rows = [render(words, each) for each in CONVERSATIONS]
    length = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [words.bos] * (length - len(row.ids)) for row in rows])
    targets = ids.clone()
    for row, target in zip(rows, targets, strict=True):
        target[len(row.ids) :] = -1
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _ in range(steps):
        total, count = model.loss(ids[:, :-1], targets[:, 1:])
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    return Source(model.eval(), words, f"{preset}-run", "sft")


@pytest.fixture(scope="session")
def learned() -> Callable[..., Source]:
    made: dict[tuple[str, int, int, int], Source] = {}

    def get(
        preset: str = "classic", digits: int = 1, steps: int = 100, head_width: int = 16
    ) -> Source:
        key = preset, digits, steps, head_width
        if key not in made:
            made[key] = make_learned(*key)
        return made[key]

    return get


def prompts(source: Source) -> list[list[int]]:
    """50 prompts: those learned, and others that lead who knows where."""
    asked = [each.prompt for each in CONVERSATIONS]
    asked += [Conversation.of(f"{number} x {number + 7}? Hello") for number in range(36)]
    return [render_prompt(source.tokenizer, each) for each in asked]


def answers(source: Source, asked: list[list[int]]) -> list[list[int]]:
    """What our engine says, most likely token by token, calculator's results included."""
    engine = Engine(source.model, source.tokenizer, max_batch_size=8)
    sampling = SamplingParams(temperature=0.0, max_tokens=TOKENS)
    return [done.ids for done in engine.generate([Request(tuple(ids), sampling) for ids in asked])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "export"
