"""Make a run of a model that was trained elsewhere."""

from chatling.commands.common import Command, command_parser
from chatling.run_dir import STAGES


def run(command: Command, words: list[str]) -> None:
    from chatling.importing.origin import import_run

    parser = command_parser(command)
    parser.add_argument("source", metavar="SOURCE", help="a folder, a run, or OWNER/NAME")
    parser.add_argument("--run", metavar="NAME", help="of the new run; the source's own")
    parser.add_argument(
        "--stage", choices=STAGES, help="what the model is taken for; sft, or a run's latest"
    )
    given = parser.parse(words)
    folder = import_run(given.source, given.run, given.stage, print)
    print(f"Talk to it: chatling chat {given.run or folder.name}")
