"""Reinforcement learning from checkable answers: several answers to each question, better ones made
likelier than worse ones.

On-policy REINFORCE with the group's mean as baseline: no value model, no reference model, no
clipping, unless the recipe asks for the last two. The rollouts are the loop's batches.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from chatling.data.config import POCKET
from chatling.evals.pass_at_k import sampled_scores
from chatling.hardware.distributed import DistContext
from chatling.inference.engine import Engine, SamplingParams
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.model.losses import policy_gradient_loss
from chatling.optim.param_groups import OptimConfig, resolve_optim
from chatling.optim.schedule import Schedule
from chatling.tasks.registry import load_task
from chatling.tasks.task import Task
from chatling.tokenizer.chat_template import render_prompt
from chatling.toy import heldout, practice
from chatling.train.callbacks import LiveEvals
from chatling.train.checkpoint import load_weights, open_model, read_model
from chatling.train.context import Context, build, save_finished
from chatling.train.datasets import Sources
from chatling.train.replay import Replay, with_replay
from chatling.train.rollouts import ROOM_FOR_TOOLS, RLConfig, RolloutBatches, sample_seed
from chatling.train.trainer import Trainer

POCKET_QUESTIONS = (
    2_000  # of the built-in world's hard arithmetic, where the recipe gives no number
)


def open_task(config: RLConfig, split: Literal["train", "test"], sources: Sources) -> Task:
    """The questions to learn from, or those to evaluate on. Raises as `load_task` does."""
    count = config.questions if split == "train" else config.evaluate_questions
    if config.task == POCKET:
        count = count or POCKET_QUESTIONS
        return (
            practice(sources.seed, count)
            if split == "train"
            else heldout("hard_arithmetic", sources.seed, count)
        )
    task = load_task(config.task, split, sources.fetcher(), size=count, identity=sources.identity)
    return (
        task
        if count is None or count >= len(task)
        else task.shuffled(sources.seed).sliced(0, count)
    )


def rl_steps(config: RLConfig, questions: int) -> int:
    """Steps of `questions` usable questions."""
    return (
        config.steps or max(1, config.epochs * questions // config.questions_per_step)
    ) * config.updates


def train_rl(
    context: Context,
    start_from: str,
    config: RLConfig,
    model_recipe: ModelRecipe,
    optim: OptimConfig,
    base_batch_tokens: int,
    train: Task,
    test: Task,
    replay: Replay | None = None,
) -> None:
    """Improve the model of stage `start_from` at a task, evaluating on `test`; `replay` is needed
    by `config.replay`. Writes `rl/model`.
    """
    execution, world = context.execution, context.world
    folder = context.run.model(start_from)
    shape = open_model(folder, world)
    rates = resolve_optim(optim, model_recipe.preset, shape.width, base_batch_tokens, 1, 0)
    model, optimizer = build(context, shape, rates, matrices_only=config.matrices_only)
    load_weights(model, folder)
    start, reference = (
        read_model(folder, shape, device=execution.device, dtype=execution.torch_dtype)
        for _ in range(2)
    )
    longest = max(
        len(render_prompt(context.tokenizer, question.prompt))
        for task in (train, test)
        for question in task
    )
    engine = Engine(
        start,
        context.tokenizer,
        max_batch_size=rows(config, world),
        context=longest + config.max_tokens + ROOM_FOR_TOOLS,
    )
    batches = RolloutBatches(
        model,
        engine,
        train,
        config,
        world,
        context.seed,
        execution.micro_tokens,
        one_shape=execution.compile,
        reference=reference if config.kl else None,
    )
    if batches.left_out:
        context.progress.message(
            f"rl: {batches.left_out} of {len(train)} questions are too long for the context, and"
            " left out"
        )
    steps = rl_steps(config, len(batches.usable))
    schedule = Schedule(
        steps, min(config.warmup, steps // 4), config.warmdown, peak=config.learning_rate_fraction
    )
    draws = [
        SamplingParams(
            config.temperature,
            config.top_k,
            seed=sample_seed("evaluation", context.seed, k),
            max_tokens=config.max_tokens,
        )
        for k in range(config.evaluate_samples)
    ]

    def evaluate() -> dict[str, float]:
        engine.load_weights(model)
        return sampled_scores(engine, test, draws, world)

    loop = replace(context.loop, save_every=config.save_every, evaluate_every=config.evaluate_every)
    loss = functools.partial(policy_loss, model, config)
    source, total = (
        (batches, loss)
        if not config.replay
        else with_replay(context, model, batches, loss, config.replay, replay)
    )
    trainer = Trainer(
        "rl",
        context.run.stage("rl"),
        model,
        optimizer,
        schedule,
        source,
        total,
        evaluate,
        loop,
        world,
        context.progress,
        prefetch=False,
        evaluate_first=True,
        callback=LiveEvals(context, "rl", model),
    )
    position = trainer.fit()
    if config.interpolation < 1:
        open_model(folder, world)  # days may have passed
        interpolate(model, folder, config.interpolation)
        scores = evaluate()
        if world.is_main:
            trainer.metrics.append({"step": position.step, "event": "interpolated", **scores})
    save_finished(context, "rl", model, position)


@torch.no_grad()
def interpolate(model: GPT, start: Path, share: float) -> None:
    """Put a model on the line from the finished model in `start` to itself, that share of the way
    (WiSE-FT, arXiv 2109.01903).

    What was learnt on purpose grows with the way; what noise did to other skills with its square.
    """
    before_it = read_model(start, model.config, device=str(model.embed_tokens.weight.device))
    for mine, before in zip(model.parameters(), before_it.parameters(), strict=True):
        mine.copy_(before.to(mine.dtype).lerp(mine, share))


def rows(config: RLConfig, world: DistContext) -> int:
    """Rows of the engine: no more than a rank has answers to give at once."""
    return min(config.max_batch_size, config.questions_per_step * config.samples // world.size)


def policy_loss(
    model: GPT,
    config: RLConfig,
    inputs: Tensor,
    targets: Tensor,
    advantages: Tensor,
    old: Tensor | None = None,
    reference: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss of a micro-batch of answers: (sum, count)."""
    logprobs = model.logprobs(inputs, targets)
    return policy_gradient_loss(
        logprobs,
        targets,
        advantages.to(logprobs.dtype),
        old,
        reference,
        clip=config.clip,
        kl=config.kl,
    )
