"""Put a run's model on the Hub."""

from chatling.commands.common import Command, command_parser, open_run


def run(command: Command, words: list[str]) -> None:
    from chatling.export.push import push

    parser = command_parser(command)
    parser.add_argument("run", metavar="RUN", help="a run's name or folder")
    parser.add_argument("repo", metavar="OWNER/NAME", help="of the repository; made if needed")
    parser.add_argument("--public", action="store_true", help="for everybody; else for you alone")
    parser.add_argument("--gguf", action="store_true", help="add a file for llama.cpp and Ollama")
    parser.add_argument("--space", action="store_true", help="make a Space, whose page chats")
    given = parser.parse(words)
    folder = open_run(given.run)
    push(folder, given.repo, public=given.public, gguf=given.gguf, space=given.space)
    print(f"Get it back: chatling pull {given.repo}")
