"""The end of a run: what it measures of its models, and the report that it writes about itself.

Nothing here may undo what training has made: what fails is told, noted in the state for the report,
and left out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from chatling.errors import ChatlingError, Interrupted
from chatling.evals.chat import Result, evaluate_chat, open_chat_tasks, write_chat
from chatling.evals.core import evaluate_core, write_core
from chatling.evals.core_bundle import open_bundle
from chatling.evals.tokenizer import evaluate_tokenizer, evaluation_texts
from chatling.inference.engine import Engine
from chatling.model.gpt import GPT
from chatling.pipeline.downloads import open_fetcher
from chatling.pipeline.runner import Job
from chatling.report.collect import collect
from chatling.report.document import compose
from chatling.report.render import write_report
from chatling.run_dir import MANIFEST, STAGES, write_json
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.callbacks import BASE
from chatling.train.checkpoint import load_model
from chatling.train.runtime import RuntimeConfig

WIDTH = 64  # questions answered together
MOST_TOKENS = 256  # of an answer


def core_bundle(job: Job) -> Path | None:
    """The folder of the CORE bundle that the recipe names, the same on every rank; None when there
    is none, which is told.
    """
    config, found = job.recipe.eval, None
    if config is not None and config.core is not None and job.world.is_main:
        with _left_out(job, "CORE"):
            fetcher = functools.partial(open_fetcher, job.recipe, job.progress.message)
            found = str(open_bundle(config.core, job.folder, job.recipe.seed, fetcher))
    found = job.world.broadcast_object(found)
    return None if found is None else Path(found)


def evaluate_run(job: Job) -> None:
    """The eval stage: the tokenizer, CORE of the base model, the chat tasks of every model that
    chats. Every rank calls it.
    """
    problems: list[str] = []
    if job.world.is_main:
        with _left_out(job, "the tokenizer's evaluation", problems):
            tokenizer = Tokenizer.load(job.folder.tokenizer)
            found = evaluate_tokenizer(tokenizer, evaluation_texts(job.folder, tokenizer))
            write_json(job.folder.evals / "tokenizer.json", found.to_dict())
    bundle = core_bundle(job)
    if bundle is not None:
        with _left_out(job, "CORE", problems):
            _core(job, bundle)
    for stage in STAGES[1:]:
        if (
            job.recipe.eval
            and job.recipe.eval.chat
            and (job.folder.model(stage) / MANIFEST).exists()
        ):
            with _left_out(job, f"the chat evaluation of {stage}", problems):
                _chat(job, stage, problems)
    job.record({"problems": problems})


def report_run(job: Job) -> None:
    """The report stage."""
    with _left_out(job, "the report"):
        write_report(compose([collect(job.folder)]), job.folder.report)
        job.progress.message(f"Report: {job.folder.report / 'report.html'}")


def _core(job: Job, bundle: Path) -> None:
    result = evaluate_core(
        _model(job, BASE), Tokenizer.load(job.folder.tokenizer), bundle, world=job.world
    )
    if job.world.is_main:
        write_core(job.folder, BASE, result)
    job.progress.message(f"CORE of {BASE}: {result.core:.4f} over {len(result.tasks)} tasks")


def _chat(job: Job, stage: str, problems: list[str]) -> None:
    config = job.recipe.eval
    assert config is not None
    fetcher = functools.partial(open_fetcher, job.recipe, job.progress.message)
    tasks = open_chat_tasks(config.chat, job.recipe.seed, config.questions, fetcher)
    engine = Engine(_model(job, stage), Tokenizer.load(job.folder.tokenizer), max_batch_size=WIDTH)
    results: list[Result] = []
    for task in tasks:
        with _left_out(job, f"{task.name} of {stage}", problems):
            results += evaluate_chat(
                engine, engine.tokenizer, [task], MOST_TOKENS, seed=job.recipe.seed, world=job.world
            )
    if job.world.is_main:
        facts = {
            "seed": job.recipe.seed,
            "questions": config.questions,
            "samples": 1,
            "temperature": 0.0,
        }
        write_chat(job.folder, stage, results, [task.name for task in tasks], **facts)
    mean = sum(result.accuracy for result in results) / max(len(results), 1)
    job.progress.message(
        f"{stage} answers {mean:.1%} of the chat questions rightly, mean of {len(results)} tasks"
    )


def _model(job: Job, stage: str) -> GPT:
    """As it was trained: on the run's device, in its dtype."""
    execution = RuntimeConfig.from_dict(job.execution)
    if execution.device == "cpu":
        torch.set_num_threads(max(1, execution.threads // job.world.size))
    return load_model(
        job.folder.model(stage),
        device=execution.device,
        dtype=execution.torch_dtype,
        world=job.world,
    )


@contextmanager
def _left_out(job: Job, what: str, problems: list[str] | None = None) -> Iterator[None]:
    """Tell of a failure and go on without what failed. Interruptions are none."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        why = str(error) if isinstance(error, ChatlingError) else f"{type(error).__name__}: {error}"
        job.progress.message(f"{what[:1].upper()}{what[1:]} is left out: {why}")
        if problems is not None:
            problems.append(f"{what} was left out: {why.partition(chr(10))[0].removesuffix('.')}")
