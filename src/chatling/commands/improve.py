"""Train a copy of a run's model on what was thought of its answers, compare, keep or drop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chatling.commands.common import Command, command_parser, open_run
from chatling.errors import RunError

if TYPE_CHECKING:
    from chatling.pipeline.improve import Improvement


def run(command: Command, words: list[str]) -> None:
    parser = command_parser(command)
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run's name or folder; the one last worked on"
    )
    decision = parser.add_mutually_exclusive_group()
    decision.add_argument("--keep", action="store_true", help="keep the new model, unasked")
    decision.add_argument(
        "--drop", action="store_true", help="drop the one that was not decided on"
    )
    given = parser.parse(words)
    folder = open_run(given.run)

    from rich.console import Console

    from chatling.hardware.distributed import launched_rank, launched_size
    from chatling.llm import open_engine
    from chatling.pipeline import improve
    from chatling.pipeline.session import run_recipe
    from chatling.run_dir import RunFolder
    from chatling.terminal.improve import show_comparison

    found = improve.undecided(folder)
    if given.drop:
        if found is None:
            raise RunError(f"Run {folder.name!r} has no improvement that waits for a decision.")
        _drop(found)
        return
    if found is None:
        found = improve.begin(folder, print)
        print(f"{found.facts['pairs']} pairs of yours become {found.run.name}.")
    else:
        print(f"{found.run.name}, begun with {found.facts['pairs']} pairs, is continued.")
    run_recipe(found.recipe, found.name)
    if launched_rank() > 0:
        return
    if launched_size() == 1 and (share := found.try_harder()) is not None:
        print(
            f"The better answer is the likelier one in {share:.0%} of your held-out pairs: once"
            " more, at twice the rate."
        )
        run_recipe(found.recipe, found.name)
    old = open_engine(
        RunFolder.open(found.facts["source"]), found.facts["stage"], max_batch_size=improve.ROWS
    )
    new = open_engine(found.run, found.stage, max_batch_size=improve.ROWS)
    seen = improve.compare(found, old, new)
    show_comparison(Console(width=None if sys.stdout.isatty() else 120), *seen)
    if given.keep or _asked(found) == "keep":
        found.keep()
        print(f"Kept. Talk to it: chatling chat {found.name}")


def _asked(found: Improvement) -> str:
    """What the person says of it; a drop is carried out."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        answer = ""
    else:
        try:
            answer = input(f"Keep {found.run.name}? keep / drop / later: ").strip().lower()
        except (EOFError, KeyboardInterrupt):
            answer = ""
    if answer and "drop".startswith(answer):
        _drop(found)
        return "drop"
    if answer and ("keep".startswith(answer) or "yes".startswith(answer)):
        return "keep"
    print(
        f"Not decided: `chatling improve {found.name} --keep` or `--drop`; compare the two on"
        " the chat page meanwhile."
    )
    return "later"


def _drop(found: Improvement) -> None:
    found.drop()
    print(f"Dropped: {found.run.name} is removed.")
