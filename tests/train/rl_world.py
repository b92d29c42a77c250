"""A model that often calls the calculator, questions that its answers differ on, and a run of
reinforcement learning over them.

As a script it trains in the folder given, and stops for good at the moment given: for tests that
kill it there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from chatling.config.recipe import Recipe
from chatling.config.stages import BaseConfig, FinetuneConfig, MixtureEntry, RLConfig
from chatling.data.loaders import Step
from chatling.data.shard_writer import write_conversation_shards
from chatling.hardware.distributed import DistContext
from chatling.inference.engine import Engine
from chatling.messages import Conversation, Part
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.tasks.task import Task
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render
from chatling.train import rl
from chatling.train.checkpoint import save_model
from chatling.train.context import Context
from chatling.train.replay import Replay
from chatling.train.rollouts import RolloutBatches
from chatling.train.runtime import RuntimeConfig

MODEL = ModelRecipe(depth=2, width=16, head_width=8, context=64)
CONFIG = RLConfig(
    questions_per_step=3,
    samples=5,
    max_tokens=10,
    max_batch_size=8,
    pad_to_multiple_of=8,
    learning_rate_fraction=1.0,
    steps=6,
    evaluate_every=3,
    evaluate_questions=4,
    evaluate_samples=2,
    save_every=2,
    top_k=6,
)


class Silent:
    def start(self, stage: str, steps: int, done: int) -> None: ...
    def step(self, metrics: dict[str, Any]) -> None: ...
    def message(self, text: str) -> None: ...
    def activity(self, name: str, done: int = 0, total: int = 0) -> None: ...
    def samples(self, found: object) -> None: ...


class Digits(Task):
    """Say digits: graded, so that hardly any two answers are worth the same."""

    name = "Digits"

    def __init__(self, count: int = 7):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Conversation:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return Conversation.of("Say digits" + "!" * index, "12")

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return self.reward(conversation, completion) > 0.1

    def reward(self, conversation: Conversation, completion: tuple[Part, ...]) -> float:
        text = "".join(part.text for part in completion)
        return sum(letter.isdigit() for letter in text) / 16


def tiny_tokenizer() -> Tokenizer:
    return Tokenizer([bytes([byte]) for byte in range(256)], digits=1)


def tiny_model(tokenizer: Tokenizer, dtype: torch.dtype = torch.float32) -> GPT:
    """Random weights everywhere, and a first coordinate that makes a calculator call likely:
    <|python_start|>, digits, <|python_end|>.
    """
    shape = MODEL.resolve(tokenizer.vocab_size)
    model = GPT(shape, compute_dtype=dtype).to(dtype)
    generator = torch.Generator().manual_seed(5)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty_like(parameter).normal_(0, 0.15, generator=generator))
        model.embed_tokens.weight[:, 0] = 4.0
        likely = [tokenizer.python_start, tokenizer.python_end, *tokenizer.encode("12")]
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[likely, 0] = 1.4
        model.lm_head.weight[tokenizer.assistant_end, 0] = 1.0
    return model


def known(folder: Path) -> Replay:
    """What SFT has shown: five conversations, two of them a step."""
    tokenizer = tiny_tokenizer()
    shown = [
        render(tokenizer, Conversation.of("Hello" + "!" * i, "12" * (i + 1))) for i in range(5)
    ]
    shards = folder / "data" / "sft-train"
    if not shards.exists():
        write_conversation_shards(shards, shown, tokenizer.vocab_size, fingerprint="known")
    table = FinetuneConfig(
        mixture=(MixtureEntry("pocket", count=5),),
        packed=False,
        batch_conversations=2,
        pad_to_multiple_of=8,
    )
    return Replay(table, shards)


def context(folder: Path, world: DistContext | None = None, dtype: str = "float32") -> Context:
    """A run whose SFT is the tiny model."""
    run, tokenizer = RunFolder(folder), tiny_tokenizer()
    if not run.tokenizer.exists():
        tokenizer.save(run.tokenizer)
        save_model(tiny_model(tokenizer), run.model("sft"), {})
        known(folder)
    execution = RuntimeConfig("cpu", dtype, "plain", False, 1, 64)  # type: ignore[arg-type]
    recipe = Recipe(seed=11, model=MODEL, base=BaseConfig(batch_tokens=1024))
    return Context(run, recipe, tokenizer, execution, world or DistContext(), Silent())


def train(folder: Path, config: RLConfig = CONFIG, world: DistContext | None = None) -> None:
    here = context(folder, world)
    # the replayed conversations stand in for those of an [sft] table
    recipe = replace(here.recipe, sft=known(folder).config, rl=config)
    rl.RL.train(replace(here, recipe=recipe), "sft", Digits(), Digits(4), known(folder))


def train_as(rank: int, folder: Path) -> None:
    """As one of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    train(folder, replace(CONFIG, questions_per_step=4, replay=0.5), DistContext(rank, 2))
    dist.destroy_process_group()


def stop_at(moment: str, call: int) -> None:
    """Wait for ever in the middle of some rollout ("step" of the engine) or update ("loss" of a
    micro-batch), having said so.
    """
    owner, name = (Engine, "step") if moment == "rollout" else (rl, "policy_loss")
    inner: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counting(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            print("here", flush=True)
            time.sleep(600)
        return inner(*arguments, **named)

    setattr(owner, name, counting)


def batches_of(
    model: GPT, tokenizer: Tokenizer, config: RLConfig = CONFIG, **changes: Any
) -> RolloutBatches:
    engine = Engine(model, tokenizer, max_batch_size=config.max_batch_size)
    parts: dict[str, Any] = {
        "task": Digits(),
        "world": DistContext(),
        "seed": 11,
        "micro_tokens": 64,
        **changes,
    }
    return RolloutBatches(
        model,
        engine,
        parts.pop("task"),
        config,
        parts.pop("world"),
        parts.pop("seed"),
        parts.pop("micro_tokens"),
        **parts,
    )


def first(batches: RolloutBatches) -> Step:
    return next(batches.steps())


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[2] == "rank":
        train_as(int(sys.argv[3]), Path(sys.argv[1]))
        raise SystemExit
    stop_at(sys.argv[2], int(sys.argv[3]))
    several = (
        RLConfig(**{**vars(CONFIG), "updates": 2, "clip": 0.2, "kl": 0.05, "replay": 0.5})
        if len(sys.argv) > 4
        else CONFIG
    )
    train(Path(sys.argv[1]), several)
