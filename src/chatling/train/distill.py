"""The distill stage: a model answers, and a larger one with the same tokenizer says of each token
what it would have written there instead (on-policy distillation).

The rollouts are those of RL, without a reward: the loss is the divergence from the teacher, token
by token, over the whole vocabulary.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from chatling.config.distill import DistillConfig
from chatling.config.recipe import Recipe
from chatling.data.shuffle import seeded_order
from chatling.errors import ChatlingError, DataError
from chatling.hardware.distributed import widest_float
from chatling.inference.engine import Completion, Engine
from chatling.messages import Conversation
from chatling.model.config import ModelConfig, flops_per_token
from chatling.model.gpt import GPT
from chatling.model.losses import reverse_kl_loss
from chatling.run_dir import RunFolder, read_manifest
from chatling.tasks.registry import Split
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render_prompt
from chatling.train.charts import OPTIMIZATION, Chart
from chatling.train.checkpoint import MODEL, load_model, model_shape, open_model, read_model
from chatling.train.context import build_from, tensors
from chatling.train.datasets import Sources, open_sources
from chatling.train.mixture import expected_tokens, taken
from chatling.train.rollouts import ROOM_FOR_TOOLS, Rollout, RolloutBatches
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
from chatling.train.survey import Survey

# times as long as learning from them, about (as in RL)
ROLLOUTS = 3


class Distillation(TrainingStage):
    """The `[distill]` stage."""

    charts = (
        Chart(
            "kl",
            "Divergence from the teacher, nats a token",
            {"loss": "training", "val_loss": "held-out questions"},
            clip=True,
        ),
        Chart("length", "Tokens in an answer", {"answer_tokens": "tokens in an answer"}),
        *OPTIMIZATION,
    )

    def config(self, recipe: Recipe) -> DistillConfig:
        config: DistillConfig = super().config(recipe)
        return config

    def fingerprint_inputs(self, recipe: Recipe) -> object:
        mark = None  # of a teacher that is there
        with contextlib.suppress(ChatlingError):
            folder, stage = open_teacher(self.config(recipe))
            mark = read_manifest(folder.model(stage))[MODEL].sha256
        asked = recipe.sft and recipe.sft.mixture
        return recipe.seed, recipe.optim, self.config(recipe), asked, mark

    def work(self, job: Job) -> None:
        context, config = open_context(job), self.config(job.recipe)
        teacher = self._teacher(job, context.tokenizer)
        start_from = self.start_from(job)
        folder = context.run.model(start_from)
        model, optimizer = build_from(
            context, start_from, config, matrices_only=config.matrices_only
        )
        execution, world = context.execution, context.world
        start = read_model(
            folder, model.config, device=execution.device, dtype=execution.torch_dtype
        )
        sources = open_sources(job.recipe, job.progress.message)
        asked, held_out = (
            self._questions(job.recipe, sources, split) for split in ("train", "validation")
        )
        if len(asked) < config.questions:
            job.progress.message(
                f"{self.name}: {len(asked):,} questions instead of {config.questions:,}: [sft]'s"
                " mixture has no more."
            )
        longest = max(len(render_prompt(context.tokenizer, each)) for each in (*asked, *held_out))
        at_once = min(
            config.max_batch_size, config.questions_per_step * config.samples // world.size
        )
        engine = Engine(
            start,
            context.tokenizer,
            max_batch_size=max(1, at_once),
            context=longest + config.max_tokens + ROOM_FOR_TOOLS,
        )
        batches, validation = (
            AnswersToTeach(
                model,
                engine,
                questions,
                settings,
                world,
                context.seed,
                execution.micro_tokens,
                one_shape=execution.compile,
            )
            for questions, settings in (
                (asked, config),
                (held_out, replace(config, questions_per_step=_even(held_out, world.size))),
            )
        )
        if batches.left_out:
            context.progress.message(
                f"{self.name}: {batches.left_out} of {len(asked)} questions are too long for the"
                " context, and left out"
            )

        def loss(
            inputs: Tensor, targets: Tensor, advantages: Tensor, places: Tensor
        ) -> tuple[Tensor, Tensor]:
            return divergence(model, teacher, inputs, places)

        @torch.no_grad()
        def evaluate() -> dict[str, float]:
            """Of fresh answers to the held-out questions, always with the same seeds."""
            step = next(validation.steps())
            total = torch.zeros((), dtype=widest_float(context.device), device=context.device)
            for batch in step.micro_batches:
                total += loss(*tensors(batch, context.device))[0]
            count = world.all_reduce_scalars([float(step.count)], context.device)[0]
            return {"val_loss": float(world.all_reduce(total)) / max(count, 1.0)}

        train_stage(
            context,
            self,
            model,
            optimizer,
            fractional_schedule(config, distill_steps(config, len(batches.usable))),
            batches,
            evaluate,
            loss=loss,
            loop=replace(
                context.recipe.loop,
                save_every=config.save_every,
                evaluate_every=config.evaluate_every,
            ),
            prefetch=False,
            evaluate_first=True,
        )

    def _teacher(self, job: Job, tokenizer: Tokenizer) -> GPT:
        folder, stage = open_teacher(self.config(job.recipe))
        if Tokenizer.load(folder.tokenizer).fingerprint != tokenizer.fingerprint:
            raise DataError(
                f"Run {folder.name!r} has another tokenizer than this one, so its words for a token"
                " mean nothing here.",
                "Train both on the same text, with the same [tokenizer] and seed.",
            )
        open_model(folder.model(stage), job.world)
        runtime = job.execution or {}
        dtype = getattr(torch, str(runtime.get("dtype", "float32")))
        device = str(runtime.get("device", "cpu"))
        teacher = load_model(folder.model(stage), device=device, dtype=dtype)
        return teacher.requires_grad_(False)

    def _questions(self, recipe: Recipe, sources: Sources, split: Split) -> list[Conversation]:
        """What is asked: the beginnings of SFT's conversations."""
        config = self.config(recipe)
        assert recipe.sft is not None
        entries = recipe.sft.mixture if split == "train" else recipe.sft.held_out
        count = config.questions if split == "train" else config.evaluate_questions
        mixture = sources.mixture(entries, self.seed_id, split)
        order = seeded_order(len(mixture), recipe.seed, self.seed_id)[:count]
        return [mixture[int(i)].prompt for i in order]

    def check(self, recipe: Recipe, model: ModelConfig) -> None:
        folder, stage = open_teacher(self.config(recipe))
        theirs = model_shape(folder.model(stage)).vocab_size
        if theirs != recipe.tokenizer.vocab_size and recipe.origin is None:
            raise DataError(
                f"Run {folder.name!r} has {theirs:,} tokens, and tokenizer.vocab_size is"
                f" {recipe.tokenizer.vocab_size:,}.",
                "A teacher needs the same tokenizer.",
            )

    def step_share(self, recipe: Recipe, model: ModelConfig) -> StepShare:
        return StepShare("questions_per_step", "questions", self.config(recipe).questions_per_step)

    def plan(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> StagePlan:
        config = self.config(recipe)
        assert recipe.sft is not None
        there = sum(taken(entry, survey) for entry in recipe.sft.mixture)
        steps, answers = (
            distill_steps(config, min(config.questions, there)),
            config.questions_per_step * config.samples,
        )
        each = min(expected_tokens(recipe.sft.mixture[0].task), model.context)
        tokens = steps * answers * each
        folder, stage = open_teacher(config)
        teacher = flops_per_token(model_shape(folder.model(stage)), each) / 3
        once = tokens * flops_per_token(model)
        learning = tokens * (flops_per_token(model, rank=self.rank(recipe)) + teacher)
        return StagePlan(
            self.name,
            tokens,
            steps,
            learning + once * ROLLOUTS,
            False,
            decoded=tokens / 2,
            decode_rows=min(config.max_batch_size, answers),
            decode_flops=once * ROLLOUTS,
        )


DISTILL = Distillation("distill", seed_id=6, requires=(ORIGIN, "base", "extend", "mid", "sft"))


class AnswersToTeach(RolloutBatches):
    """Rollouts without a reward: every sampled token is learned from."""

    def _used(self, rollouts: list[Rollout]) -> list[Rollout]:
        return rollouts

    def _rewards(self, question: Conversation, answers: Sequence[Completion]) -> list[float]:
        return [0.0] * len(answers)

    def _metrics(self, groups: list[list[Rollout]]) -> dict[str, float]:
        return {"answer_tokens": super()._metrics(groups)["answer_tokens"]}


def divergence(model: GPT, teacher: GPT, inputs: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """KL(model || teacher) summed over places of inputs (B, T), and their number."""
    with torch.no_grad():
        theirs = teacher(inputs).flatten(0, 1)[places]
    return reverse_kl_loss(
        model(inputs).flatten(0, 1)[places],
        model.lm_head.weight,
        theirs,
        teacher.lm_head.weight,
        (model.config.softcap, teacher.config.softcap),
    )


def open_teacher(config: DistillConfig) -> tuple[RunFolder, str]:
    """The teacher's run and stage. Raises RunError where there is none."""
    run, _, stage = config.run_and_stage
    folder = RunFolder.open(run)
    return folder, folder.finished_stage(stage or None)


def distill_steps(config: DistillConfig, questions: int) -> int:
    """Steps of `questions` usable questions."""
    return config.steps or max(1, config.epochs * questions // config.questions_per_step)


def _even(questions: Sequence[Conversation], processes: int) -> int:
    """As many of the questions as divide over the processes."""
    return max(processes, len(questions) // processes * processes)
