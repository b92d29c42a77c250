"""Evaluate finished models."""

from __future__ import annotations

from chatling.commands.common import Command, UsageError, command_parser, load_engine, stage_of
from chatling.workspace import STAGES, RunFolder

EVAL_WIDTH = 64  # questions answered together


def run(command: Command, words: list[str]) -> None:
    parser = command_parser(command)
    parser.add_argument("runs", nargs="+", metavar="RUN… EVALUATION", help="runs by name or folder, then chat or tokenizer")
    parser.add_argument("--questions", type=int, default=400, metavar="N", help="held-out questions a skill and run (400)")
    parser.add_argument("--stage", choices=STAGES, help="which model; the most advanced one")
    given = parser.parse(words)
    *names, evaluation = given.runs
    if evaluation == "tokenizer" and names:
        _tokenizer([RunFolder.open(name) for name in names])
        return
    if evaluation != "chat" or not names:
        raise UsageError("Say which runs, then which evaluation.", "For example `chatling eval pocket chat`.")
    if given.questions < 1:
        raise UsageError("--questions must be at least 1.")
    runs = [(folder, stage_of(folder, given.stage)) for folder in map(RunFolder.open, names)]

    from dataclasses import asdict

    from rich.console import Console

    from chatling.evals.chat import evaluate_chat
    from chatling.pipeline import frozen_recipe
    from chatling.pocket import SKILLS, heldout
    from chatling.terminal.evals import show_results
    from chatling.workspace import write_json

    results = {}
    for folder, stage in runs:
        seed = frozen_recipe(folder).seed
        engine = load_engine(folder, stage, width=EVAL_WIDTH)
        found = evaluate_chat(engine, engine.tokenizer, [heldout(skill, seed, given.questions) for skill in SKILLS])
        rows = [asdict(result) | {"accuracy": result.accuracy, "interval": result.interval} for result in found]
        write_json(folder.evals / f"{stage}-chat.json", {"stage": stage, "seed": seed, "questions": given.questions, "results": rows})
        results[f"{folder.name} {stage}"] = found
    show_results(results, Console(width=max(120, 40 * (len(results) + 2))))


def _tokenizer(folders: list[RunFolder]) -> None:
    from rich.console import Console

    from chatling.evals.tokenizer import evaluate_run
    from chatling.terminal.tokenizer import show_tokenizer

    for folder in folders:
        show_tokenizer(evaluate_run(folder), Console(width=140))
        print(f"Written to {folder.evals / 'tokenizer.json'} and tokenizer.png.")
