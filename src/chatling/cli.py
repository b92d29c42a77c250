"""The front door: a table of commands, each imported when it is called, and errors turned into sentences."""

from __future__ import annotations

import argparse
import difflib
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from chatling.errors import ChatlingError, RunError
from chatling.workspace import MANIFEST, STAGES, RunFolder, find_run, home

if TYPE_CHECKING:
    from chatling.inference.engine import Engine
    from chatling.recipe import Recipe

EVAL_WIDTH = 64  # questions answered together


class UsageError(ChatlingError):
    """A command line that makes no sense."""

    exit_code = 2


@dataclass(frozen=True)
class Command:
    """A subcommand: how it is written, what it does, and the function that takes the words after its name."""

    usage: str
    about: str
    function: Callable[[list[str]], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    warnings.showwarning = _note
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(_overview())
        elif words[0] == "--version":
            from chatling import __version__

            print(f"chatling {__version__}")
        elif words[0] not in COMMANDS:
            raise UsageError(f"There is no command {words[0]!r}.", _nearest(words[0], COMMANDS) or f"Commands: {', '.join(COMMANDS)}.")
        else:
            COMMANDS[words[0]].function(words[1:])
    except ChatlingError as error:
        print(f"chatling: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nchatling: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `chatling status | head`
        sys.stderr.close()
        return 0
    except SystemExit as done:  # argparse's and tyro's own help
        return done.code if isinstance(done.code, int) else 0
    return 0


def _note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Warnings as sentences, without the line of code that gave them; those meant for developers are not shown."""
    if not issubclass(category, DeprecationWarning | FutureWarning):
        print(f"chatling: {message}", file=sys.stderr)


def _overview() -> str:
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"  chatling {command.usage:{width}}  {command.about}" for command in COMMANDS.values()]
    title, hint = "Grow your own ChatGPT, on the machine you have.", "Each has --help. Begin with: chatling run pocket"
    return "\n".join([title, "", *lines, "", hint])


def _nearest(word: str, known: Sequence[str] | dict[str, Command]) -> str | None:
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"Did you mean {nearest[0]!r}?" if nearest else None


class _Parser(argparse.ArgumentParser):
    """argparse, with errors as sentences and the nearest option for an unknown one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}.", f"`{self.prog} --help` tells more.")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        given, unknown = self.parse_known_args(words)
        if unknown:
            option = unknown[0].partition("=")[0]
            options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
            raise UsageError(f"`{self.prog}` does not know {option!r}.", _nearest(option, options) or f"See `{self.prog} --help`.")
        return given


def _parser(name: str, *, help_option: bool = True) -> _Parser:
    command = COMMANDS[name]
    return _Parser(prog=f"chatling {name}", usage=f"chatling {command.usage}", description=command.about,
                   allow_abbrev=False, add_help=help_option)


def _recipe_and_run(name: str, words: list[str]) -> tuple[Recipe, str | None]:
    """The recipe that `[RECIPE] [--run NAME] [--table.field value …]` asks for, and the run's name.

    RECIPE may also be the name of a run, which then goes on with its own recipe.
    """
    from chatling.recipe import builtin_recipes, load_recipe

    parser = _parser(name, help_option=False)
    parser.add_argument("--run", metavar="NAME")
    given, rest = parser.parse_known_args(words)
    ready = ", ".join(builtin_recipes())
    if not rest or rest[0].startswith("-"):
        if {"-h", "--help"} & set(rest):
            print(f"usage: chatling {COMMANDS[name].usage}\n\n{COMMANDS[name].about}\n")
            print(f"Ready recipes: {ready}; the path of a TOML file works too.\n`chatling {name} RECIPE --help` lists every field.")
            raise SystemExit(0)
        raise UsageError("Which recipe?", f"Ready ones: {ready}; for example `chatling {name} pocket`.")
    recipe_name, overrides, run = rest[0], rest[1:], given.run
    frozen = find_run(recipe_name) / "recipe.toml"
    if recipe_name not in builtin_recipes() and not Path(recipe_name).is_file() and frozen.is_file():
        run, recipe_name = run or recipe_name, str(frozen)
    return load_recipe(recipe_name, overrides, prog=f"chatling {name} {recipe_name}"), run


def _run(words: list[str]) -> None:
    recipe, name = _recipe_and_run("run", words)

    import torch

    from chatling import pipeline
    from chatling.hardware.detect import find_device
    from chatling.hardware.distributed import local_rank, process_group
    from chatling.planner import plan
    from chatling.stages import chatling_stages
    from chatling.terminal.progress import Progress, duration

    folder = RunFolder(find_run(name or recipe.name))
    device = torch.device(find_device() if recipe.machine.device == "auto" else recipe.machine.device)
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    begun, outline = time.monotonic(), plan(recipe)
    with process_group(device) as world, Progress(silent=not world.first, work=outline.work) as progress:
        progress.message(f"Run {folder.name!r} at {folder.path}")
        pipeline.run(recipe, folder, chatling_stages(), progress, world, disk=outline.disk)
        progress.message(f"Done in {duration(time.monotonic() - begun)}. Talk to it: chatling chat {name or recipe.name}")


def _plan(words: list[str]) -> None:
    recipe, _ = _recipe_and_run("plan", words)

    from rich.console import Console

    from chatling.hardware.detect import detect
    from chatling.planner import micro_rows_for, plan, show_plan

    machine = detect()
    outline = plan(recipe)
    rows = micro_rows_for(outline.model, machine, recipe.base.batch_tokens // outline.model.context)
    show_plan(plan(recipe, micro_rows=rows), recipe, machine, Console())


def _status(words: list[str]) -> None:
    parser = _parser("status")
    parser.add_argument("run", nargs="?", metavar="RUN")
    given = parser.parse(words)

    from rich.console import Console

    from chatling.terminal.status import read_status, show_status

    show_status(read_status(_open_run(given.run)), Console(width=None if sys.stdout.isatty() else 140))


def _open_run(name: str | None) -> RunFolder:
    """A run by name, or the one last worked on."""
    if name is not None:
        return RunFolder.open(name)
    states = sorted((home() / "runs").glob("*/state.json"), key=lambda path: path.stat().st_mtime)
    if not states:
        raise RunError(f"There are no runs in {home() / 'runs'} yet.", "`chatling run pocket` makes one.")
    return RunFolder(states[-1].parent)


def _engine(folder: RunFolder, stage: str, width: int) -> Engine:
    """The finished model of a stage on this machine's device, in the dtype it was trained in if that is fast here."""
    import torch

    from chatling.hardware.detect import find_device
    from chatling.inference.engine import Engine
    from chatling.tokenizer.bpe import Tokenizer
    from chatling.train.checkpoint import load_model

    device, execution = find_device(), folder.read_state()["execution"]
    in_bf16 = execution.get("dtype") == "bfloat16" and (execution.get("device") == device or device == "cuda")
    model = load_model(folder.model(stage), device=device, dtype=torch.bfloat16 if in_bf16 else torch.float32)
    return Engine(model, Tokenizer.load(folder.tokenizer), width=width)


def _stage_of(folder: RunFolder, name: str | None) -> str:
    """The stage asked for, checked, or the most advanced one there is."""
    if name is None:
        return folder.latest_stage()
    if not (folder.model(name) / MANIFEST).exists():
        there = [stage for stage in STAGES if (folder.model(stage) / MANIFEST).exists()]
        raise RunError(f"Run {folder.name!r} has no finished {name} model.", f"It has: {', '.join(there) or 'none'}.")
    return name


def _chat(words: list[str]) -> None:
    parser = _parser("chat")
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's name or folder; the one last worked on")
    parser.add_argument("--stage", choices=STAGES, help="which model; the most advanced one")
    parser.add_argument("--prompt", metavar="TEXT", help="answer this once and exit")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token; higher varies more (0)")
    parser.add_argument("--top-k", type=int, default=0, help="choose among this many likeliest tokens; 0 = all (0)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (0)")
    parser.add_argument("--max-tokens", type=int, default=256, help="of an answer (256)")
    given = parser.parse(words)
    folder = _open_run(given.run)
    stage = _stage_of(folder, given.stage)

    from chatling.inference.sampling import Sampling
    from chatling.terminal.chat import Chat, answer_once

    sampling = Sampling(given.temperature, given.top_k, seed=given.seed, max_tokens=given.max_tokens)
    engine = _engine(folder, stage, width=1)
    if given.prompt is not None:
        answer_once(engine, given.prompt, sampling)
    else:
        print(f"Talking to {folder.name} ({stage}). /help lists commands; Ctrl-D leaves.")
        Chat(engine, sampling).run()


def _eval(words: list[str]) -> None:
    parser = _parser("eval")
    parser.add_argument("runs", nargs="+", metavar="RUN… chat", help="runs by name or folder, then the evaluation: chat")
    parser.add_argument("--questions", type=int, default=400, metavar="N", help="held-out questions a skill and run (400)")
    parser.add_argument("--stage", choices=STAGES, help="which model; the most advanced one")
    given = parser.parse(words)
    *names, evaluation = given.runs
    if evaluation != "chat" or not names:
        raise UsageError("Say which runs, then which evaluation.", "For example `chatling eval pocket chat`.")
    if given.questions < 1:
        raise UsageError("--questions must be at least 1.")
    runs = [(folder, _stage_of(folder, given.stage)) for folder in map(RunFolder.open, names)]

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
        engine = _engine(folder, stage, width=EVAL_WIDTH)
        found = evaluate_chat(engine, engine.tokenizer, [heldout(skill, seed, given.questions) for skill in SKILLS])
        rows = [asdict(result) | {"accuracy": result.accuracy, "interval": result.interval} for result in found]
        write_json(folder.evals / f"{stage}-chat.json", {"stage": stage, "seed": seed, "questions": given.questions, "results": rows})
        results[f"{folder.name} {stage}"] = found
    show_results(results, Console(width=max(120, 40 * (len(results) + 2))))


def _bench(words: list[str]) -> None:
    from chatling.bench.suite import BENCHES, run_benches, show_figures

    parser = _parser("bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure, of {', '.join(BENCHES)}; all of them")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="parquet files for encode and bpe; the built-in world")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse(words)
    for name in given.names:
        if name not in BENCHES:
            raise UsageError(f"There is no benchmark {name!r}.", _nearest(name, list(BENCHES)) or f"There are {', '.join(BENCHES)}.")

    import json

    figures = run_benches(given.names or list(BENCHES), given.data)
    if given.json:
        print(json.dumps(figures, indent=1))
    else:
        show_figures(figures)


COMMANDS = {
    "run": Command("run RECIPE [--run NAME] [--table.field value …]", "train: the whole pipeline, or what is left of it", _run),
    "plan": Command("plan RECIPE [--table.field value …]", "what a recipe comes to: parameters, memory, time; nothing is run", _plan),
    "status": Command("status [RUN]", "where a live or dead run stands", _status),
    "chat": Command("chat [RUN] [--stage STAGE] [--prompt TEXT] …", "talk in the terminal", _chat),
    "eval": Command("eval RUN… chat [--questions N] [--stage STAGE]", "held-out questions by skill, with 95 % intervals", _eval),
    "bench": Command("bench [NAME…] [--data FOLDER] [--json]", "how fast this machine is at each part of the work", _bench),
}
