"""Train with several processes, on one machine or on several."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from chatling.commands.common import (
    Command,
    Parser,
    UsageError,
    command_parser,
    recipe_and_run,
    recipe_parser,
)
from chatling.commands.run import add_notify

if TYPE_CHECKING:
    from chatling.config.recipe import Recipe


def run(command: Command, words: list[str]) -> None:
    parser = recipe_parser(command)
    add_notify(parser)
    _add_options(parser)
    parser.add_argument(
        "--print",
        metavar="FORM",
        help="a file that starts it: slurm, sky, kubernetes, or spark-pair for two DGX Sparks",
    )
    parser.add_argument("--machine", metavar="NAME", help="of --print: each node, such as 8xh100")
    recipe, given = recipe_and_run(command, words, parser)
    if given.print is not None:
        _print(recipe, given, words)
        return
    host, port = _check(given)
    own = command_parser(command, help_option=False)
    _add_options(own)
    _, rest = own.parse_known_args(words)

    import torch

    from chatling.hardware.launcher import Launch, launch
    from chatling.run_dir import RunFolder, find_run

    folder = RunFolder(find_run(given.run or recipe.name))
    gpus = 0 if recipe.machine.device == "cpu" else torch.cuda.device_count()
    processes = given.processes or max(1, gpus)
    timeout = given.timeout
    plan = Launch(given.nodes, given.node_rank, host, port, processes, given.restarts, timeout)
    words = ["-m", "chatling", "run", *rest]
    launch(plan, words, folder.path, folder.stopped, lambda line: print(line, flush=True))


def _print(recipe: Recipe, given: argparse.Namespace, words: list[str]) -> None:
    """Write a file that starts the run, by the plan for a machine."""
    from chatling.hardware.machines import named_machine
    from chatling.pipeline.launch_files import FORMS, Script
    from chatling.pipeline.plan import plan
    from chatling.pipeline.timetable import Throughput

    if given.print not in FORMS:
        raise UsageError(
            f"Argument --print: there is no form {given.print!r}.", f"Forms: {', '.join(FORMS)}."
        )
    pair = given.print == "spark-pair"
    if not pair and given.machine is None:
        raise UsageError("Which machine is a node?", "Give --machine, such as 8xh100.")
    named = named_machine("spark-pair") if pair else named_machine(given.machine, given.nodes)
    outline = plan(recipe)
    own = Parser(allow_abbrev=False, add_help=False)
    own.add_argument("--print")
    own.add_argument("--machine")
    _add_options(own)
    _, rest = own.parse_known_args(words)
    rates = Throughput.published(named, outline.model)
    script = Script(given.run or recipe.name, rest, outline, rates, named)
    print(script.render(given.print), end="")


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--processes", type=int, metavar="N", help="on each node; one for each of its GPUs")
    add("--nodes", type=int, default=1, metavar="N", help="machines that train together; 1")
    add("--node-rank", type=int, default=0, metavar="N", help="which of them this is, from 0")
    add(
        "--rendezvous",
        metavar="HOST:PORT",
        help="where they meet: an address of node 0, and a free port there (29400)",
    )
    add(
        "--restarts",
        type=int,
        default=3,
        metavar="N",
        help="how often all start again when a process is lost; 3",
    )
    add(
        "--timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds that a step waits for another process before that one counts as lost; 600",
    )


def _check(given: argparse.Namespace) -> tuple[str, int]:
    """The rendezvous's host and port. Raises UsageError for what makes no launch."""
    from chatling.hardware.rendezvous import PORT

    for name, value, least, most in (
        ("--processes", given.processes, 1, 1024),
        ("--nodes", given.nodes, 1, 10_000),
        ("--node-rank", given.node_rank, 0, given.nodes - 1),
        ("--restarts", given.restarts, 0, 1000),
        ("--timeout", given.timeout, 1, 86_400),
    ):
        if value is not None and not least <= value <= most:
            raise UsageError(f"Argument {name}: {value} is not from {least:,} to {most:,}.")
    if given.nodes > 1 and given.rendezvous is None:
        raise UsageError(
            "Several nodes need a place to meet.",
            "Give --rendezvous HOST:PORT, an address of node 0, the same on all of them.",
        )
    host, _, port = (given.rendezvous or "127.0.0.1").rpartition(":")
    if not host:
        host, port = port, str(PORT)
    host = host.removeprefix("[").removesuffix("]")  # an IPv6 address
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise UsageError(f"Argument --rendezvous: {given.rendezvous!r} is no HOST:PORT.")
    return host, int(port)
