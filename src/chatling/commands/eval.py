"""Evaluate finished models: chat tasks, CORE, bits per byte, the tokenizer, or lm-eval's tasks."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chatling.commands.common import Command, UsageError, command_parser
from chatling.errors import nearest
from chatling.run_dir import MANIFEST, STAGES, RunFolder, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from chatling.config.recipe import Recipe
    from chatling.data.hub import Fetcher
    from chatling.hardware.distributed import DistContext

EVAL_WIDTH = 64  # questions answered together
ALL = "all"
TOKENIZER = "tokenizer"
HUB_PREFIX = "hf:"
SMALL_TOKENS, TASK_TOKENS = 128, 512  # that an answer may have

Models = Sequence[tuple[RunFolder, str]]  # with the stage
Evaluation = Callable[[Models, argparse.Namespace, "DistContext", "Console"], None]


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
    hub = [name.removeprefix(HUB_PREFIX) for name in names if name.startswith(HUB_PREFIX)]
    if hub and evaluation != "core":
        raise UsageError(f"Models of the Hub take only the evaluation core, not {evaluation}.")
    folders = [RunFolder.open(name) for name in names if not name.startswith(HUB_PREFIX)]
    if evaluation == TOKENIZER:  # it needs no model
        _tokenizer(folders)
        return
    models = [(folder, stage) for folder in folders for stage in _stages(folder, given.stage)]

    import torch
    from rich.console import Console

    from chatling.hardware.detect import find_device
    from chatling.hardware.distributed import local_rank, process_group

    device = torch.device(find_device())
    if device.type == "cuda":
        torch.cuda.set_device(local_rank())
    with process_group(device) as world:
        console = Console(width=max(120, 40 * (len(models) + 2)), quiet=not world.is_main)
        given.hub = hub
        EVALUATIONS[evaluation](models, given, world, console)


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
    bpb = parser.add_argument_group("bpb")
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
    return [stage for stage in STAGES if (folder.model(stage) / MANIFEST).exists()] or [
        folder.finished_stage()
    ]


def _recipe(folder: RunFolder, given: argparse.Namespace) -> Recipe:
    """The run's, with what the command line says of its data."""
    from chatling.pipeline.runner import frozen_recipe

    recipe = frozen_recipe(folder)
    return (
        recipe
        if given.local is None
        else replace(recipe, data=replace(recipe.data, local=str(given.local)))
    )


def _fetcher(recipe: Recipe) -> Callable[[], Fetcher]:
    from chatling.train.datasets import open_fetcher

    return functools.partial(open_fetcher, recipe, print)


def _chat(models: Models, given: argparse.Namespace, world: DistContext, console: Console) -> None:
    from chatling.errors import MachineError
    from chatling.evals.chat import Result, evaluate_chat, open_chat_tasks, write_chat
    from chatling.llm import open_engine
    from chatling.terminal.evals import show_results

    results: dict[str, list[Result]] = {}
    for folder, stage in models:
        recipe = _recipe(folder, given)
        small = recipe.data.built_in and given.tasks is None
        tasks = open_chat_tasks(
            given.tasks or [recipe.data.source if small else ALL],
            recipe.seed,
            given.questions,
            _fetcher(recipe),
        )
        engine = open_engine(folder, stage, max_batch_size=EVAL_WIDTH)
        temperature = float(given.samples > 1) if given.temperature is None else given.temperature
        found: list[Result] = []
        for task in tasks:
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
                    world=world,
                )
            except (
                MachineError
            ) as error:  # one that was not asked for by name does not end the others
                if given.tasks is not None:
                    raise
                console.print(f"{task.name} is left out: {error}", markup=False)
        if world.is_main:
            facts = {
                "seed": recipe.seed,
                "questions": given.questions,
                "samples": given.samples,
                "temperature": temperature,
            }
            write_chat(
                folder, stage, found, [] if given.tasks else [task.name for task in tasks], **facts
            )
        results[f"{folder.name} {stage}"] = found
    show_results(results, console, together=len({folder.path for folder, _ in models}) > 1)


def _core(models: Models, given: argparse.Namespace, world: DistContext, console: Console) -> None:
    from chatling.evals.config import FULL
    from chatling.evals.core import CoreResult, evaluate_core, write_core
    from chatling.evals.core_bundle import open_bundle
    from chatling.hardware.detect import find_device
    from chatling.hardware.distributed import main_process_first
    from chatling.llm import open_engine
    from chatling.terminal.evals import show_core

    def note(line: str) -> None:
        console.print(line, style="dim", markup=False, highlight=False)

    results: dict[str, CoreResult] = {}
    for folder, stage in models:
        recipe = _recipe(folder, given)
        name = (
            given.bundle
            or (recipe.eval.core if recipe.eval else None)
            or (recipe.data.source if recipe.data.built_in else FULL)
        )
        with main_process_first(world):
            if world.is_main:
                open_bundle(name, folder, recipe.seed, _fetcher(recipe))
        bundle = open_bundle(name, folder, recipe.seed, _fetcher(recipe))
        engine = open_engine(folder, stage, max_batch_size=1)
        result = evaluate_core(
            engine.model, engine.tokenizer, bundle, limit=given.questions, world=world, note=note
        )
        if world.is_main:
            write_core(folder, stage, result)
        results[f"{folder.name} {stage}"] = result
    for name in given.hub:
        from chatling.evals.hf_models import load_hub_model

        if given.bundle is None:
            raise UsageError(f"Which bundle for {name}?", "Name its folder with --bundle.")
        scorer, tokenizer = load_hub_model(name, find_device())
        results[name] = evaluate_core(
            scorer, tokenizer, Path(given.bundle), limit=given.questions, world=world, note=note
        )
        if world.is_main and given.output is not None:
            write_json(
                given.output, {"model": name, "eval": "core", "results": results[name].to_dict()}
            )
    show_core(results, console)


def _bpb(models: Models, given: argparse.Namespace, world: DistContext, console: Console) -> None:
    from chatling.data.token_shards import TokenShards
    from chatling.evals.bpb import TokenScores, score_shards, write_bpb
    from chatling.llm import open_engine
    from chatling.terminal.evals import show_bpb

    results: dict[str, dict[str, TokenScores]] = {}
    for folder, stage in models:
        recipe, engine = _recipe(folder, given), open_engine(folder, stage, max_batch_size=1)
        context = given.context or engine.model.config.context
        tokens = given.tokens or recipe.base.validation_tokens
        scores = {}
        for split in ("train", "validation"):
            shards = TokenShards.open(folder.data / f"base-{split}")
            scores[split] = score_shards(
                engine.model,
                engine.tokenizer,
                shards,
                context=context,
                tokens=tokens,
                seed=recipe.seed,
                world=world,
            )
        if world.is_main:
            write_bpb(folder, stage, scores, context)
        results[f"{folder.name} {stage}"] = scores
    show_bpb(results, console)


def _harness(
    models: Models, given: argparse.Namespace, world: DistContext, console: Console
) -> None:
    from chatling.errors import MachineError
    from chatling.llm import open_engine
    from chatling.terminal.evals import show_harness

    if not given.tasks:
        raise UsageError(
            "Which of lm-eval's tasks?",
            "For example --tasks arc_easy hellaswag; `lm-eval ls tasks` lists them.",
        )
    if world.size > 1:
        raise UsageError(
            "The harness evaluation runs on one process.", "Start it without torchrun."
        )
    try:
        from chatling.evals.lm_eval_adapter import LMEvalAdapter, run_harness
    except ImportError as error:
        raise MachineError(
            "lm-eval is not installed.", "pip install 'chatling[harness]'"
        ) from error
    results = {}
    for folder, stage in models:
        model = LMEvalAdapter(
            open_engine(folder, stage, max_batch_size=EVAL_WIDTH), chat=given.as_chat
        )
        found = run_harness(model, given.tasks, shots=given.shots, limit=given.questions)
        facts = {
            "stage": stage,
            "eval": "harness",
            "shots": given.shots,
            "limit": given.questions,
            "results": found,
        }
        write_json(folder.evals / f"{stage}-harness.json", facts)
        results[f"{folder.name} {stage}"] = found
    show_harness(results, console)


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
    "harness": _harness,
}
