"""The entry point: a table of commands, each imported when it is called, and errors turned into
sentences.
"""

import importlib
import io
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from chatling.commands.common import Command, UsageError
from chatling.errors import ChatlingError, nearest
from chatling.hardware.environment import set_environment

_COMMANDS = (
    Command(
        "run",
        "run RECIPE [--run NAME] [--notify COMMAND] [--table.field value …]",
        "train: the whole pipeline, or what is left of it",
    ),
    Command(
        "launch",
        "launch RECIPE [--processes N] [--nodes N --node-rank N --rendezvous HOST:PORT] …",
        "train with several processes, which start again when one is lost",
    ),
    Command(
        "plan",
        "plan RECIPE [--machine NAME] [--nodes N] [--price X] [--table.field value …]",
        "what a recipe comes to: parameters, memory, time; nothing is run",
    ),
    Command("doctor", "doctor [--json]", "what is wrong with this machine, and how to mend it"),
    Command("status", "status [RUN]", "where a live or dead run stands"),
    Command("chat", "chat [RUN] [--stage STAGE] [--prompt TEXT] …", "talk in the terminal"),
    Command(
        "serve",
        "serve [RUN] [--port N] [--api-key KEY] …",
        "web chat, OpenAI-compatible API, live dashboard",
    ),
    Command(
        "eval",
        "eval RUN… chat|core|bpb|tokenizer|harness [--stage STAGE|all] …",
        "how good a run's models are",
    ),
    Command(
        "improve",
        "improve [RUN] [--keep | --drop]",
        "train on what you thought of a run's answers, compare, keep or drop",
    ),
    Command(
        "report",
        "report [RUN…]",
        "one page on a run, or on several side by side: curves, scores, samples",
    ),
    Command(
        "export",
        "export RUN hf|gguf|mlx|html [--stage STAGE] [--type TYPE] [--out DIR]",
        "a run's model for transformers, llama.cpp, a Mac, or a page that chats offline",
    ),
    Command(
        "import",
        "import SOURCE [--run NAME] [--stage STAGE]",
        "a run from a model of elsewhere: nanochat's, the Hub's, an export",
    ),
    Command(
        "push",
        "push RUN OWNER/NAME [--public] [--gguf] [--space]",
        "a run's model on the Hub, for you alone or for everybody",
    ),
    Command(
        "pull",
        "pull OWNER/NAME [--run NAME] [--stage STAGE]",
        "a run from a model on the Hub",
    ),
    Command(
        "data",
        "data fetch|import|inspect SOURCE …",
        "fetch real data, bring your own, and see what is in them",
    ),
    Command(
        "grow",
        "grow FILE… --name NAME [--language CODE] [--origin SOURCE] [--minutes N] …",
        "an assistant from your own files: notes, tables, questions, conversations",
    ),
    Command(
        "bench",
        "bench [NAME…] [--data FOLDER] [--json] | bench gpu [--device D] [--recipe R]",
        "how fast this machine is at each part of the work",
    ),
)
COMMANDS = {command.name: command for command in _COMMANDS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    warnings.showwarning = _note
    set_environment()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a terminal's encoding lacks ends no command
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(_overview())
        elif words[0] == "--version":
            from chatling.version import __version__

            print(f"chatling {__version__}")
        elif words[0] not in COMMANDS:
            raise UsageError(
                f"There is no command {words[0]!r}.",
                nearest(words[0], COMMANDS) or f"Commands: {', '.join(COMMANDS)}.",
            )
        else:
            importlib.import_module(f"chatling.commands.{words[0]}").run(
                COMMANDS[words[0]], words[1:]
            )
    except ChatlingError as error:
        print(f"chatling: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nchatling: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `chatling status | head`
        sys.stderr.close()
        return 0
    except OSError as error:
        # what no command foresaw: a name that is too long, a folder that vanished
        if error.filename is None:
            raise
        print(
            f"chatling: Cannot read or write {error.filename}: {error.strerror}.", file=sys.stderr
        )
        return 1
    except SystemExit as done:  # argparse's and tyro's own help
        return done.code if isinstance(done.code, int) else 0
    return 0


def _note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Warnings as sentences, without the line of code that gave them; those meant for developers
    are not shown.
    """
    if not issubclass(category, DeprecationWarning | FutureWarning):
        print(f"chatling: {message}", file=sys.stderr)


def _overview() -> str:
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [
        f"  chatling {command.usage:{width}}  {command.about}" for command in COMMANDS.values()
    ]
    title, hint = (
        "Grow your own ChatGPT, on the machine you have.",
        "Each has --help. Begin with: chatling run pocket",
    )
    return "\n".join([title, "", *lines, "", hint])
