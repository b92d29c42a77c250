"""Reinforcement learning from checkable answers: several answers to each question, better ones made
likelier than worse ones.

On-policy REINFORCE with the group's mean as baseline: no value model, no reference model, no
clipping, unless the recipe asks for the last two or names a variant. The rollouts are the loop's
batches.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import Tensor

from chatling.config.recipe import Recipe
from chatling.config.stages import RLConfig
from chatling.errors import DataError, RecipeError
from chatling.evals.chat import sampled_scores
from chatling.hardware.distributed import DistContext
from chatling.inference.engine import Engine, SamplingParams
from chatling.model.config import ModelConfig, flops_per_token
from chatling.model.gpt import GPT
from chatling.model.losses import policy_gradient_loss
from chatling.tasks.registry import check_judged, expected_length, load_task
from chatling.tasks.task import Task
from chatling.tokenizer.chat_template import render_prompt
from chatling.toy.dataset import BUILT_IN
from chatling.train.charts import LOSS, OPTIMIZATION, Chart
from chatling.train.checkpoint import open_model, read_model
from chatling.train.context import Context, build_from
from chatling.train.datasets import Sources, open_sources
from chatling.train.replay import Replay, prepare_replay, with_replay
from chatling.train.retention import interpolate
from chatling.train.rollouts import ROOM_FOR_TOOLS, RolloutBatches, sample_seed
from chatling.train.setup import open_context
from chatling.train.stage_base import (
    ORIGIN,
    Job,
    StagePlan,
    StepShare,
    TrainingStage,
    fractional_schedule,
    train_stage,
)
from chatling.train.survey import LONGEST_TOKEN, Survey
from chatling.train.trainer import Trainer

TOKENS_PER_QUESTION = 100  # of GSM8K, roughly; an answer takes about half of what it may
# times as long as learning from them, about: decoding waits for memory, training for arithmetic
ROLLOUTS = 3


class Reinforcement(TrainingStage):
    """The `[rl]` stage."""

    charts = (
        Chart("reward", "Reward of sampled answers", {"reward": "reward"}),
        Chart(
            "right",
            "Questions answered correctly",
            {"pass@1": "one sample", "pass@8": "of eight", "val_accuracy": "question accuracy"},
        ),
        Chart("length", "Tokens in an answer", {"answer_tokens": "tokens in an answer"}),
        Chart("kl", "Distance from the model before, nats a token", {"kl": "distance"}),
        replace(LOSS, title="Loss of the policy gradient"),
        *OPTIMIZATION,
    )

    def config(self, recipe: Recipe) -> RLConfig:
        config: RLConfig = super().config(recipe)
        return config

    def fingerprint_inputs(self, recipe: Recipe) -> object:
        return recipe.seed, recipe.optim, recipe.identity, self.config(recipe)

    def prepare(self, job: Job) -> None:
        self._tasks(job)  # fetched by one process
        if self.config(job.recipe).replay:
            prepare_replay(job)

    def work(self, job: Job) -> None:
        replay = Replay.of(job)
        self.train(open_context(job), self.start_from(job), *self._tasks(job), replay)

    def _tasks(self, job: Job) -> tuple[Task, Task]:
        """What is trained on, and what is evaluated on."""
        config, sources = self.config(job.recipe), open_sources(job.recipe, job.progress.message)
        return open_task(config, "train", sources), open_task(config, "test", sources)

    def train(
        self,
        context: Context,
        start_from: str,
        train: Task,
        test: Task,
        replay: Replay | None = None,
    ) -> None:
        """Improve the model of stage `start_from` at a task, evaluating on `test`; `replay` is
        needed by the table's `replay`.
        """
        config, execution, world = self.config(context.recipe), context.execution, context.world
        folder = context.run.model(start_from)
        model, optimizer = build_from(
            context, start_from, config, matrices_only=config.matrices_only
        )
        start, reference = (
            read_model(folder, model.config, device=execution.device, dtype=execution.torch_dtype)
            for _ in range(2)
        )
        if config.questions and len(train) < config.questions:
            context.progress.message(
                f"rl: {len(train):,} questions instead of {config.questions:,}: {config.task} has"
                " no more."
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
                f"rl: {batches.left_out} of {len(train)} questions are too long for the context,"
                " and left out"
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

        def finish(trainer: Trainer) -> None:
            if config.interpolation < 1:
                open_model(folder, world)  # days may have passed
                interpolate(model, folder, config.interpolation)
                scores = evaluate()
                if world.is_main:
                    step = trainer.position.step
                    trainer.metrics.append({"step": step, "event": "interpolated", **scores})

        loss = functools.partial(policy_loss, model, config)
        source, total = (
            (batches, loss)
            if not config.replay
            else with_replay(context, model, batches, loss, config.replay, replay)
        )
        train_stage(
            context,
            self,
            model,
            optimizer,
            fractional_schedule(config, rl_steps(config, len(batches.usable))),
            source,
            evaluate,
            loss=total,
            loop=replace(
                context.recipe.loop,
                save_every=config.save_every,
                evaluate_every=config.evaluate_every,
            ),
            prefetch=False,
            evaluate_first=True,
            finish=finish,
        )

    def check(self, recipe: Recipe, model: ModelConfig) -> None:
        config = self.config(recipe)
        # up to the context, answers are cut where it ends
        if config.max_tokens > model.context:
            what = (
                f"rl.max_tokens is {config.max_tokens}, and the context {model.context}: no room is"
                " left for a question."
            )
            raise RecipeError(what, "Set rl.max_tokens lower, or model.context higher.")
        if made := BUILT_IN.get(config.task):
            talks = made.practice(recipe.seed, 100)
            shortest = min(len(talk.prompt.messages[-1].text) for talk in talks)
            if shortest / LONGEST_TOKEN > model.context:
                raise DataError(
                    f"No question of {config.task} fits the model's context of"
                    f" {model.context} tokens.",
                    "Choose a longer context.",
                )
            return
        check_judged(config.task, "train")
        check_judged(config.task, "test")

    def step_share(self, recipe: Recipe, model: ModelConfig) -> StepShare:
        return StepShare("questions_per_step", "questions", self.config(recipe).questions_per_step)

    def fetch(self, recipe: Recipe, sources: Sources, note: Callable[[str], None]) -> None:
        open_task(self.config(recipe), "train", sources)
        open_task(self.config(recipe), "test", sources)

    def plan(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> StagePlan:
        config = self.config(recipe)
        if made := BUILT_IN.get(config.task):
            questions, each = config.questions or made.practice_count, made.tokens_per_rollout
        else:
            known = expected_length(config.task, "train") or config.questions or 0
            questions = min(config.questions or known, known)
            each = TOKENS_PER_QUESTION + config.max_tokens // 2
        steps = rl_steps(config, questions)
        tokens = steps * config.questions_per_step * config.samples * each
        once = tokens * flops_per_token(model)
        answers = steps * config.questions_per_step * config.samples
        return StagePlan(
            self.name,
            tokens,
            steps,
            tokens * flops_per_token(model, rank=self.rank(recipe)) + once * ROLLOUTS,
            False,
            decoded=tokens - answers * TOKENS_PER_QUESTION * (made is None),
            decode_rows=min(config.max_batch_size, config.questions_per_step * config.samples),
            decode_flops=once * ROLLOUTS,
        )


RL = Reinforcement(
    "rl", seed_id=4, requires=(ORIGIN, "base", "extend", "mid", "sft", "distill", "dpo")
)


def open_task(config: RLConfig, split: Literal["train", "test"], sources: Sources) -> Task:
    """The questions to learn from, or those to evaluate on. Raises as `load_task` does."""
    count = config.questions if split == "train" else config.evaluate_questions
    if made := BUILT_IN.get(config.task):
        ask = made.practice if split == "train" else made.exam
        return ask(sources.seed, count or made.practice_count)
    task = load_task(config.task, split, sources.fetcher(), size=count, identity=sources.identity)
    whole = count is None or count >= len(task)
    return task if whole else task.shuffled(sources.seed).sliced(0, count)


def rl_steps(config: RLConfig, questions: int) -> int:
    """Steps of `questions` usable questions."""
    once = config.steps or max(1, config.epochs * questions // config.questions_per_step)
    return once * config.updates


def rows(config: RLConfig, world: DistContext) -> int:
    """Rows of the engine: no more than a rank has answers to give at once."""
    return min(config.max_batch_size, config.questions_per_step * config.samples // world.size)


def policy_loss(
    model: GPT,
    config: RLConfig,
    inputs: Tensor,
    targets: Tensor,
    advantages: Tensor,
    places: Tensor,
    old: Tensor | None = None,
    reference: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss of a micro-batch of answers: (sum, count)."""
    logprobs, method = model.logprobs(inputs, targets, places), config.method
    return policy_gradient_loss(
        logprobs,
        targets,
        advantages.to(logprobs.dtype),
        old,
        reference,
        clip=method.clip,
        clip_high=method.clip_high,
        weighted=method.weighted,
        kl=config.kl,
    )
