"""An assistant from your own files, in one command."""

from chatling.commands.common import Command, UsageError, command_parser


def run(command: Command, words: list[str]) -> None:
    parser = command_parser(command)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="files or folders: notes, tables, conversations"
    )
    parser.add_argument("--name", required=True, metavar="NAME", help="what it calls itself")
    parser.add_argument(
        "--language", metavar="CODE", help="en, de or zh, or another; told by the files"
    )
    parser.add_argument(
        "--origin",
        metavar="SOURCE",
        help="continue from a model that can talk: a run, or OWNER/NAME on the Hub",
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, metavar="N", help="of training, about (10)"
    )
    parser.add_argument("--run", metavar="NAME", help="what the run is called; as the assistant")
    parser.add_argument("--no-chat", action="store_true", help="do not open the chat in the end")
    parser.add_argument(
        "--dry-run", action="store_true", help="write what it would learn from, and stop"
    )
    given = parser.parse(words)
    if not 0 < given.minutes <= 100_000:
        raise UsageError("--minutes must be above 0.")
    if not given.name.strip():
        raise UsageError("--name must not be empty.")

    from rich.console import Console

    from chatling.pipeline.grow import prepare
    from chatling.pipeline.grow_files import Wish, understand
    from chatling.terminal.grow import show_scores, show_sources

    wish = Wish(
        tuple(given.files),
        given.name.strip(),
        given.language,
        given.origin,
        given.minutes,
        given.run,
    )
    console = Console()
    seen = understand(wish)
    show_sources(seen.sources, console)
    recipe = prepare(wish, seen, lambda line: console.print(line, highlight=False))
    if given.dry_run:
        return

    from chatling.pipeline.session import run_recipe

    folder = run_recipe(recipe, wish.run_name)
    show_scores(folder, console)
    if not given.no_chat:
        from chatling.inference.sampling import SamplingParams
        from chatling.llm import open_engine
        from chatling.terminal.chat import Chat

        stage = folder.finished_stage()
        print(f"Talking to {given.name} ({stage}). /help lists commands; Ctrl-D leaves.")
        Chat(open_engine(folder, stage), SamplingParams(0.0, max_tokens=256)).run()
