"""The end of a run: what it measures of its models, and the report that it writes about itself.

Nothing here may undo what training has made: what fails is told, noted in the state for the report,
and left out.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from chatling.config.recipe import Recipe
from chatling.errors import ChatlingError, MachineError
from chatling.evals.chat import (
    Result,
    chat_task_names,
    evaluate_chat,
    open_chat_tasks,
    write_chat,
)
from chatling.evals.config import FULL, EvalConfig
from chatling.evals.core import evaluate_core, write_core
from chatling.evals.core_bundle import fetch_bundle, read_bundle
from chatling.evals.tokenizer import evaluate_tokenizer, evaluation_texts
from chatling.hardware.distributed import local_size
from chatling.inference.engine import Engine
from chatling.model.config import ModelConfig, flops_per_token
from chatling.model.gpt import GPT
from chatling.report.collect import collect
from chatling.report.document import compose
from chatling.report.render import write_report
from chatling.run_dir import MANIFEST, write_json
from chatling.tasks.registry import expected_length
from chatling.tokenizer.bpe import Tokenizer
from chatling.tools.sandbox import Sandbox
from chatling.toy.dataset import BUILT_IN
from chatling.train.checkpoint import load_model
from chatling.train.datasets import Sources, open_fetcher
from chatling.train.mixture import expected_tokens
from chatling.train.runtime import RuntimeConfig
from chatling.train.setup import core_bundle, left_out
from chatling.train.stage_base import Job, Stage, StagePlan, TrainingStage
from chatling.train.survey import Survey

WIDTH = 64  # questions answered together
MOST_TOKENS = 256  # of an answer
CORE_TOKENS = 73e6  # that the whole bundle reads at a context of 2,048 (docs/LOG.md)
GENERATIVE = ("GSM8K", "HumanEval", "SpellingBee")  # answered in words rather than by a letter


class Evaluation(Stage):
    """The eval stage: the tokenizer, CORE of the model that continues texts, the chat tasks of
    every model that chats.
    """

    every_rank = True

    def inputs(self, before: Sequence[Stage]) -> tuple[str, ...]:
        return tuple(stage.name for stage in before if isinstance(stage, TrainingStage))

    def work(self, job: Job) -> None:
        """Every rank calls it."""
        problems: list[str] = []
        if job.world.is_main:
            with left_out(job, "the tokenizer's evaluation", problems):
                tokenizer = Tokenizer.load(job.folder.tokenizer)
                found = evaluate_tokenizer(tokenizer, evaluation_texts(job.folder, tokenizer))
                write_json(job.folder.evals / "tokenizer.json", found.to_dict())
        bundle, chat = core_bundle(job), job.recipe.eval and job.recipe.eval.chat
        for stage in job.stages:
            if not isinstance(stage, TrainingStage) or stage.config(job.recipe) is None:
                continue
            if not stage.chats and bundle is not None:
                with left_out(job, "CORE", problems):
                    _core(job, stage.name, bundle)
            if stage.chats and chat and (job.folder.model(stage.name) / MANIFEST).exists():
                with left_out(job, f"the chat evaluation of {stage.name}", problems):
                    _chat(job, stage.name, problems)
        job.record({"problems": problems})

    def notes(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[str]:
        """Raises RecipeError and DataError for evaluations that there are not; yields which will be
        left out.
        """
        config: EvalConfig = self.config(recipe)
        names = chat_task_names(config.chat)
        if config.core not in (None, *BUILT_IN, FULL):
            read_bundle(Path(os.path.expanduser(config.core or "")))
        if "HumanEval" in names:
            try:
                Sandbox()
            except MachineError as error:
                yield f"HumanEval will be left out: {error}"

    def fetch(self, recipe: Recipe, sources: Sources, note: Callable[[str], None]) -> None:
        """A run continues without what cannot be had: it is left out, and that is said."""
        config: EvalConfig = self.config(recipe)
        try:
            if config.core == FULL:
                fetch_bundle(sources.fetcher())
            open_chat_tasks(config.chat, recipe.seed, config.questions, sources.fetcher)
        except ChatlingError as error:
            note(f"An evaluation cannot be fetched now: {error}")


class Report(Stage):
    """The report stage."""

    outputs = ("report",)
    data = ("evals",)

    def inputs(self, before: Sequence[Stage]) -> tuple[str, ...]:
        """All that all processes work on: the trained models and their evaluations."""
        return tuple(stage.name for stage in before if stage.every_rank)

    def fingerprint_inputs(self, recipe: Recipe) -> object:
        return ()

    def work(self, job: Job) -> None:
        with left_out(job, "the report"):
            write_report(compose([collect(job.folder, job.stages)]), job.folder.report)
            job.progress.message(f"Report: {job.folder.report / 'report.html'}")

    def disk(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> int:
        return 5_000_000


def _core(job: Job, stage: str, bundle: Path) -> None:
    result = evaluate_core(
        _model(job, stage),
        Tokenizer.load(job.folder.tokenizer),
        bundle,
        world=job.world,
        progress=lambda task, *count: job.progress.activity(f"CORE of {stage}, {task}", *count),
    )
    if job.world.is_main:
        write_core(job.folder, stage, result)
    job.progress.message(f"CORE of {stage}: {result.core:.4f} over {len(result.tasks)} tasks")


def _chat(job: Job, stage: str, problems: list[str]) -> None:
    config = job.recipe.eval
    assert config is not None
    fetcher = functools.partial(open_fetcher, job.recipe, job.progress.message)
    tasks = open_chat_tasks(config.chat, job.recipe.seed, config.questions, fetcher)
    engine = Engine(_model(job, stage), Tokenizer.load(job.folder.tokenizer), max_batch_size=WIDTH)
    results: list[Result] = []
    for task in tasks:
        with left_out(job, f"{task.name} of {stage}", problems):
            results += evaluate_chat(
                engine,
                engine.tokenizer,
                [task],
                MOST_TOKENS,
                seed=job.recipe.seed,
                world=job.world,
                progress=functools.partial(job.progress.activity, f"{task.name} of {stage}"),
            )
    if job.world.is_main:
        facts = {
            "seed": job.recipe.seed,
            "questions": config.questions,
            "samples": 1,
            "temperature": 0.0,
        }
        write_chat(job.folder, stage, results, [task.name for task in tasks], **facts)
    whole = [result.accuracy for result in results if not result.part]
    mean = sum(whole) / max(len(whole), 1)
    job.progress.message(
        f"{stage} answers {mean:.1%} of the chat questions correctly, mean of {len(whole)} tasks"
    )


def _model(job: Job, stage: str) -> GPT:
    """As it was trained: on the run's device, in its dtype."""
    execution = RuntimeConfig.from_dict(job.execution)
    if execution.device == "cpu":
        torch.set_num_threads(max(1, execution.threads // local_size()))
    return load_model(
        job.folder.model(stage),
        device=execution.device,
        dtype=execution.torch_dtype,
        world=job.world,
    )


def plan_evaluation(
    recipe: Recipe, model: ModelConfig, stages: Sequence[Stage]
) -> StagePlan | None:
    """What the evaluations in the end take; the built-in world's are done in seconds and left
    out.
    """
    config = recipe.eval
    if config is None:
        return None
    forward, tokens, decoded = flops_per_token(model) / 3, 0.0, 0.0
    if config.core == FULL:
        tokens += CORE_TOKENS * sum(isinstance(s, TrainingStage) and not s.chats for s in stages)
    for name in chat_task_names(config.chat):
        models = sum(isinstance(stage, TrainingStage) and stage.chats for stage in stages)
        count = models * min(expected_length(name, "test") or 0, config.questions or 1 << 40)
        tokens += count * expected_tokens(name)
        decoded += count * MOST_TOKENS / 2 * (name in GENERATIVE)
    work = (tokens + decoded) * forward
    return StagePlan(
        "eval",
        int(tokens + decoded),
        0,
        work,
        False,
        decoded=decoded,
        decode_rows=WIDTH,
        # one by one, as in RL
        decode_flops=decoded * forward,
    )


EVAL = Evaluation("eval", "eval")
REPORT = Report("report")
