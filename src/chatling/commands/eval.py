"""Evaluate finished models: chat tasks, CORE, bits per byte, longer contexts, lm-eval's tasks."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chatling.commands.common import Command, UsageError, command_parser
from chatling.errors import MachineError, nearest
from chatling.evals.config import FULL, write_results
from chatling.run_dir import STAGES, RunFolder, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from chatling.config.recipe import Recipe
    from chatling.data.hub import Fetcher
    from chatling.hardware.distributed import DistContext
    from chatling.inference.engine import Engine
    from chatling.terminal.progress import Progress

MAX_BATCH_SIZE = 64  # questions answered together
ALL = "all"
TOKENIZER = "tokenizer"
HUB_PREFIX = "hf:"
SMALL_TOKENS, TASK_TOKENS = 128, 512  # that an answer may have


@dataclass(frozen=True)
class Session:
    """One call of the command: what was asked, and who is told how it goes."""

    given: argparse.Namespace
    world: DistContext
    progress: Progress

    def recipe(self, folder: RunFolder) -> Recipe:
        """The run's, with what the command line says of its data."""
        from chatling.pipeline.runner import frozen_recipe

        recipe = frozen_recipe(folder)
        if self.given.local is None:
            return recipe
        return replace(recipe, data=replace(recipe.data, local=str(self.given.local)))

    def open_engine(self, folder: RunFolder, stage: str, max_batch_size: int = 1) -> Engine:
        from chatling.llm import open_engine

        return open_engine(folder, stage, max_batch_size=max_batch_size)


Models = Mapping[str, tuple[RunFolder, str]]  # label -> run, stage
Show = Callable[["Console"], None]
Evaluation = Callable[[Session, Models], Show]


def run(command: Command, words: list[str]) -> None:
    given = _parse(command, words)
    *names, evaluation = given.runs
    known = (*EVALUATIONS, TOKENIZER)
    if evaluation not in known or not names:
        hint = nearest(evaluation, known) or f"Evaluations: {', '.join(known)}."
        raise UsageError(
            "Say which runs, then which evaluation.",
            f"For example `chatling eval pocket chat`. {hint}",
        )
    given.hub = [name.removeprefix(HUB_PREFIX) for name in names if name.startswith(HUB_PREFIX)]
    if given.hub and evaluation != "core":
        raise UsageError(f"Models of the Hub take only the evaluation core, not {evaluation}.")
    folders = [RunFolder.open(name) for name in names if not name.startswith(HUB_PREFIX)]
    if evaluation == TOKENIZER:  # it needs no model
        _tokenizer(folders)
        return
    models = {
        f"{folder.name} {stage}": (folder, stage)
        for folder in folders
        for stage in _stages(folder, given.stage)
    }

    import torch
    from rich.console import Console

    from chatling.hardware.distributed import local_rank, process_group
    from chatling.hardware.gpu import open_device
    from chatling.terminal.progress import Progress

    device = torch.device(open_device(local_rank()))
    with process_group(device) as world:
        # the results alone on the standard output
        with Progress(silent=not world.is_main, console=Console(stderr=True)) as progress:
            show = EVALUATIONS[evaluation](Session(given, world, progress), models)
        show(Console(width=max(120, 40 * (len(models) + 2)), quiet=not world.is_main))


def _parse(command: Command, words: list[str]) -> argparse.Namespace:
    parser = command_parser(command)
    evaluations = f"{', '.join(EVALUATIONS)} or {TOKENIZER}"
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN… EVALUATION",
        help=f"runs by name or folder, then {evaluations}",
    )
    parser.add_argument(
        "--stage",
        choices=(*STAGES, ALL),
        help="which model; the most advanced one. all: side by side",
    )
    parser.add_argument(
        "--questions",
        type=int,
        metavar="N",
        help="at most so many questions of each task (all; pocket's chat: 400)",
    )
    parser.add_argument(
        "--data.local",
        dest="local",
        type=Path,
        metavar="FOLDER",
        help="looked into before anything is fetched",
    )
    chat = parser.add_argument_group("chat and harness")
    chat.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="by name; chat knows all (the six of the reference) and pocket, too",
    )
    chat.add_argument(
        "--samples",
        type=int,
        default=1,
        metavar="N",
        help="answers to each question, for pass@k (1)",
    )
    chat.add_argument(
        "--temperature", type=float, help="0: the likeliest answer; 1 with several samples"
    )
    chat.add_argument(
        "--top-k",
        type=int,
        default=0,
        metavar="K",
        help="draw from the K likeliest tokens (0: from all)",
    )
    chat.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help=f"of an answer ({TASK_TOKENS}; pocket: {SMALL_TOKENS})",
    )
    chat.add_argument(
        "--shots", type=int, metavar="N", help="harness: examples shown; each task's own number"
    )
    chat.add_argument(
        "--as-chat",
        action="store_true",
        help="harness: what is to be generated is asked as a question to the assistant",
    )
    core = parser.add_argument_group("core")
    core.add_argument(
        "--bundle", metavar="FOLDER", help="or full, which is fetched, or pocket; the run's own"
    )
    core.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"where the results of a model of the Hub ({HUB_PREFIX}NAME) are written",
    )
    bpb = parser.add_argument_group("bpb and long")
    bpb.add_argument(
        "--context",
        type=int,
        metavar="T",
        help="tokens of a row, also more than in training; the model's",
    )
    bpb.add_argument(
        "--tokens",
        type=int,
        metavar="N",
        help="of each split; as many as validation in training reads",
    )
    given = parser.parse(words)
    for name in ("questions", "samples", "max_tokens", "context", "tokens"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1.")
    if given.samples > 1 and given.temperature == 0:
        raise UsageError(
            "Several samples at temperature 0 are all the same.",
            "Leave --temperature out, or --samples.",
        )
    return given


def _stages(folder: RunFolder, asked: str | None) -> list[str]:
    if asked != ALL:
        return [folder.finished_stage(asked)]
    return folder.finished_stages() or [folder.finished_stage()]


def _fetcher(recipe: Recipe) -> Callable[[], Fetcher]:
    from chatling.train.datasets import open_fetcher

    return functools.partial(open_fetcher, recipe, print)


def _chat(session: Session, models: Models) -> Show:
    from chatling.evals.chat import Result, evaluate_chat, open_chat_tasks, write_chat
    from chatling.terminal.evals import show_results

    given, results = session.given, dict[str, list[Result]]()
    temperature = float(given.samples > 1) if given.temperature is None else given.temperature
    for label, (folder, stage) in models.items():
        recipe = session.recipe(folder)
        small = recipe.data.built_in and given.tasks is None
        names = given.tasks or [recipe.data.source if small else ALL]
        tasks = open_chat_tasks(names, recipe.seed, given.questions, _fetcher(recipe))
        engine = session.open_engine(folder, stage, MAX_BATCH_SIZE)
        found = results[label] = []
        for task in tasks:
            told = functools.partial(session.progress.activity, f"{task.name} of {label}")
            try:
                found += evaluate_chat(
                    engine,
                    engine.tokenizer,
                    [task],
                    given.max_tokens or (SMALL_TOKENS if small else TASK_TOKENS),
                    samples=given.samples,
                    temperature=temperature,
                    top_k=given.top_k,
                    seed=recipe.seed,
                    world=session.world,
                    progress=told,
                )
            # One that was not asked for by name does not end the others.
            except MachineError as error:
                if given.tasks is not None:
                    raise
                session.progress.message(f"{task.name} is left out: {error}")
        if session.world.is_main:
            whole = [] if given.tasks else [task.name for task in tasks]
            facts = {"questions": given.questions, "samples": given.samples}
            facts |= {"seed": recipe.seed, "temperature": temperature}
            write_chat(folder, stage, found, whole, **facts)
    together = len({folder.path for folder, _ in models.values()}) > 1
    return functools.partial(show_results, results, together=together)


def _core(session: Session, models: Models) -> Show:
    from chatling.evals.core import evaluate_core, write_core
    from chatling.evals.core_bundle import open_bundle
    from chatling.evals.hf_models import load_hub_model
    from chatling.hardware.detect import find_device
    from chatling.hardware.distributed import main_process_first
    from chatling.terminal.evals import show_core

    given, world, results = session.given, session.world, {}
    evaluate = functools.partial(
        evaluate_core,
        limit=given.questions,
        world=world,
        note=session.progress.message,
        progress=lambda task, *count: session.progress.activity(f"CORE, {task}", *count),
    )
    for label, (folder, stage) in models.items():
        recipe = session.recipe(folder)
        own = (recipe.eval.core if recipe.eval else None) or (
            recipe.data.source if recipe.data.built_in else FULL
        )
        find = functools.partial(
            open_bundle, given.bundle or own, folder, recipe.seed, _fetcher(recipe)
        )
        with main_process_first(world):
            if world.is_main:
                find()
        bundle = find()
        engine = session.open_engine(folder, stage)
        results[label] = evaluate(engine.model, engine.tokenizer, bundle)
        if world.is_main:
            write_core(folder, stage, results[label])
    for name in given.hub:
        if given.bundle is None:
            raise UsageError(f"Which bundle for {name}?", "Name its folder with --bundle.")
        results[name] = evaluate(*load_hub_model(name, find_device()), Path(given.bundle))
        if world.is_main and given.output is not None:
            found = {"model": name, "eval": "core", "results": results[name].to_dict()}
            write_json(given.output, found)
    return functools.partial(show_core, results)


def _bpb(session: Session, models: Models) -> Show:
    from chatling.data.token_shards import TokenShards
    from chatling.evals.bpb import score_shards, write_bpb
    from chatling.terminal.evals import show_bpb

    given, results = session.given, {}
    for label, (folder, stage) in models.items():
        session.progress.activity(f"bits per byte of {label}")
        recipe, engine = session.recipe(folder), session.open_engine(folder, stage)
        context = given.context or engine.model.config.context
        results[label] = {
            split: score_shards(
                engine.model,
                engine.tokenizer,
                TokenShards.open(folder.data / f"base-{split}"),
                context=context,
                tokens=given.tokens or recipe.base.validation_tokens,
                seed=recipe.seed,
                world=session.world,
            )
            for split in ("train", "validation")
        }
        if session.world.is_main:
            write_bpb(folder, stage, results[label], context)
    return functools.partial(show_bpb, results)


def _long(session: Session, models: Models) -> Show:
    from chatling.data.token_shards import TokenShards
    from chatling.evals.long_context import evaluate_long, write_long
    from chatling.terminal.evals import show_long
    from chatling.train.corpus import text_shards

    given, results = session.given, {}
    for label, (folder, stage) in models.items():
        session.progress.activity(f"the long context of {label}")
        recipe, engine = session.recipe(folder), session.open_engine(folder, stage)
        before = session.open_engine(folder, folder.finished_stage("base")).model
        if before.config.context >= engine.model.config.context:
            raise UsageError(
                f"The context of {label} is that of base.",
                "A recipe's table [extend] makes it longer.",
            )
        results[label] = evaluate_long(
            engine.model,
            before,
            engine.tokenizer,
            TokenShards.open(text_shards(folder, "validation")),
            tokens=given.tokens or recipe.base.validation_tokens,
            seed=recipe.seed,
            world=session.world,
        )
        if session.world.is_main:
            write_long(folder, stage, results[label])
    return functools.partial(show_long, results)


def _harness(session: Session, models: Models) -> Show:
    from chatling.terminal.evals import show_harness

    given, results = session.given, {}
    if not given.tasks:
        raise UsageError(
            "Which of lm-eval's tasks?",
            "For example --tasks arc_easy hellaswag; `lm-eval ls tasks` lists them.",
        )
    if session.world.size > 1:
        raise UsageError(
            "The harness evaluation runs on one process.", "Start it without torchrun."
        )
    try:
        from chatling.evals.lm_eval_adapter import LMEvalAdapter, run_harness
    except ImportError as error:
        raise MachineError(
            "lm-eval is not installed.", "pip install 'chatling[harness]'"
        ) from error
    for label, (folder, stage) in models.items():
        engine = session.open_engine(folder, stage, MAX_BATCH_SIZE)
        session.progress.activity(f"lm-eval of {label}")
        facts = {"shots": given.shots, "limit": given.questions}
        results[label] = run_harness(
            LMEvalAdapter(engine, chat=given.as_chat), given.tasks, **facts
        )
        write_results(folder, stage, "harness", results[label], **facts)
    return functools.partial(show_harness, results)


def _tokenizer(folders: list[RunFolder]) -> None:
    from rich.console import Console

    from chatling.evals.tokenizer import evaluate_run
    from chatling.terminal.tokenizer import show_tokenizer

    for folder in folders:
        show_tokenizer(evaluate_run(folder), Console(width=140))
        print(f"Written to {folder.evals / 'tokenizer.json'} and tokenizer.png.")


EVALUATIONS: dict[str, Evaluation] = {
    "chat": _chat,
    "core": _core,
    "bpb": _bpb,
    "long": _long,
    "harness": _harness,
}
