"""Where a run stands."""

import sys

from chatling.commands.common import Command, command_parser, open_run


def run(command: Command, words: list[str]) -> None:
    parser = command_parser(command)
    parser.add_argument("run", nargs="?", metavar="RUN")
    given = parser.parse(words)

    from rich.console import Console

    from chatling.terminal.status import show_status
    from chatling.train.status import read_status

    show_status(
        read_status(open_run(given.run)), Console(width=None if sys.stdout.isatty() else 140)
    )
