"""Make a run of a model on the Hub."""

from chatling.commands.common import Command, command_parser
from chatling.run_dir import STAGES


def run(command: Command, words: list[str]) -> None:
    from chatling.importing.origin import import_run

    parser = command_parser(command)
    parser.add_argument("repo", metavar="OWNER/NAME", help="a repository of models on the Hub")
    parser.add_argument("--run", metavar="NAME", help="of the new run; the repository's own")
    parser.add_argument("--stage", choices=STAGES, help="what the model is taken for")
    given = parser.parse(words)
    folder = import_run(given.repo, given.run, given.stage, print, hub=True)
    print(f"Talk to it: chatling chat {given.run or folder.name}")
