"""Web chat, OpenAI-compatible API and live dashboard."""

from __future__ import annotations

import codecs
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chatling.commands.common import (
    Command,
    UsageError,
    command_parser,
    open_run,
)
from chatling.errors import DataError, MachineError, RunError
from chatling.run_dir import STAGES, RunFolder, home, latest_runs

if TYPE_CHECKING:
    from chatling.data.passages import PassageIndex
    from chatling.inference.async_engine import AsyncEngine

PORT = 8421
WIDTH = 32  # answers decoded together


def run(command: Command, words: list[str]) -> None:
    from dataclasses import fields

    from chatling.serve.errors import Limits

    parser = command_parser(command)
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="the default model's run; the one last worked on"
    )
    parser.add_argument(
        "--stage", choices=STAGES, help="the default model's stage; the most advanced one"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 is everywhere (127.0.0.1)",
    )
    parser.add_argument(
        "--port", type=int, help=f"0 takes any free one ({PORT}, or where it is taken any free one)"
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="ask clients for this bearer key; @FILE reads it from a file",
    )
    parser.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let this origin's pages call the API; repeatable",
    )
    parser.add_argument(
        "--max-batch-size",
        type=int,
        default=WIDTH,
        help=f"answers decoded together, a model ({WIDTH})",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="make decoding fast when a model is loaded, not at the first answers: half a minute"
        " of compilation, then several times faster; on CUDA graphs, which it has anyway",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="round the models' matrices to eight bits: half the memory of bf16 (torchao)",
    )
    parser.add_argument(
        "--log-text",
        action="store_true",
        help="write messages and answers into the access log, too",
    )
    parser.add_argument(
        "--documents",
        metavar="FOLDER",
        help="search these files for each question, put what is found before it where the model's"
        " context has room, and show it as sources",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    for field in fields(Limits):
        about = f"{field.metadata['help']} ({field.default:,})"
        parser.add_argument(
            f"--max-{field.name}", type=int, default=field.default, metavar="N", help=about
        )
    given = parser.parse(words)
    if given.max_batch_size < 1 or not 0 <= (given.port or 0) < 65_536:
        raise UsageError("--max-batch-size must be at least 1, --port between 0 and 65535.")
    if given.compile and given.int8:
        raise UsageError("--compile and --int8 do not go together yet.", "Take one of them.")
    limits = Limits(**{field.name: getattr(given, f"max_{field.name}") for field in fields(Limits)})
    key = read_key(given.api_key)
    first = _first(given.run, given.stage)
    documents = None if given.documents is None else _documents(given.documents, first)

    import logging

    import torch

    from chatling.hardware.detect import find_device, has_compiler
    from chatling.hardware.device_errors import OutOfMemory, memory_errors
    from chatling.inference.async_engine import AsyncEngine
    from chatling.inference.quantize import quantize
    from chatling.llm import open_engine
    from chatling.pipeline.stages import STAGES as REGISTRY
    from chatling.serve.app import create_app
    from chatling.serve.model_manager import ModelManager
    from chatling.serve.server import is_loopback, listen, serve

    device = find_device()
    if given.compile and not (device == "cuda" or (device == "cpu" and has_compiler())):
        raise MachineError(
            "--compile is for CUDA and for processors, and needs a C++ compiler on these.",
            "Leave it out, or install g++ or clang.",
        )

    def load(folder: RunFolder, stage: str) -> AsyncEngine:
        with memory_errors(OutOfMemory("loading a model")):
            replicas = range(torch.cuda.device_count()) or (None,)  # a whole model on each GPU
            engines = [
                open_engine(
                    folder,
                    stage,
                    max_batch_size=given.max_batch_size,
                    gpu=gpu,
                    compile=given.compile or None,
                )
                for gpu in replicas
            ]
            for engine in engines:
                if given.int8:
                    quantize(engine.model)
                if given.compile:
                    engine.build()
            return AsyncEngine(engines, queue_limit=limits.waiting)

    torch.set_num_threads(max(1, torch.get_num_threads() - 1))  # one core is left to the clients
    listener = listen(
        given.host, PORT if given.port is None else given.port, otherwise_any=given.port is None
    )
    port, local = listener.getsockname()[1], is_loopback(listener)
    if not local and key is None:
        print(
            "chatling: anybody who reaches this machine can use the server; --api-key KEY keeps"
            " others out.",
            file=sys.stderr,
        )
    models = ModelManager(home() / "runs", load, limits.models, first)
    app = create_app(
        models,
        limits,
        key=key,
        origins=given.cors,
        local_only=local and key is None,
        log_text=given.log_text,
        documents=documents,
        stages=REGISTRY,
    )
    address = f"http://{'localhost' if local else given.host}:{port}"
    print(
        f"Chat {address}    runs {address}/runs    OpenAI API {address}/v1    Ctrl-C stops",
        flush=True,
    )
    if first is None:
        print(
            "There is no finished model yet: `chatling run pocket` makes one, and /runs shows it"
            " growing.",
            flush=True,
        )
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("chatling.access").setLevel(logging.INFO)
    if given.open:
        _open_when_listening(address)
    serve(app, models, listener)


def read_key(given: str | None) -> str | None:
    """The bearer key, given as it is or as @FILE. Raises UsageError if no client could send it."""
    if given is None:
        return None
    place = "--api-key"
    if given.startswith("@"):
        place = f"The key in {given[1:]}"
        try:
            data = Path(given[1:]).expanduser().read_bytes()
            # PowerShell's files are UTF-16 with a mark.
            marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            given = data.decode("utf-16" if marked else "utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"Cannot read the key from {given[1:]}: {error}.") from None
    key = given.strip()
    if not key:
        raise UsageError(f"{place} is empty.", "A key is one word of letters, digits and signs.")
    if len(key.split()) > 1:
        raise UsageError(
            f"{place} has spaces or several lines.",
            "A key is one word; keep each in a file of its own.",
        )
    if not (key.isascii() and key.isprintable()):  # a header holds nothing else for sure
        raise UsageError(
            f"{place} has characters that a request's header cannot hold.",
            "Use letters, digits and signs of ASCII.",
        )
    return key


def _documents(given: str, first: tuple[RunFolder, str] | None) -> PassageIndex:
    """The documents' index, with what has changed since it was last used. Says what it holds, and
    whether the default model can read much of it.
    """
    from chatling.data.passages import ROOM, PassageIndex, index_place
    from chatling.train.checkpoint import model_shape

    path = Path(given).expanduser().resolve()
    index = PassageIndex(path, index_place(path, home() / "documents"))
    files, count = index.refresh()
    print(f"{count:,} passages of {files:,} files are searched for each question: {path}")
    if first is not None:
        folder, stage = first
        context = model_shape(folder.model(stage)).context
        if context < ROOM:
            print(
                f"{folder.name}/{stage} reads {context} tokens at a time: few passages or none"
                f" go before a question. A model that reads {ROOM} or more has room for them."
            )
    return index


def _first(name: str | None, stage: str | None) -> tuple[RunFolder, str] | None:
    """The default model: as asked, or the last stage of the run worked on last that has one; None
    where there is none at all.
    """
    if name is not None or stage is not None:
        folder = open_run(name)
        return folder, folder.finished_stage(stage)
    for folder in latest_runs(home() / "runs"):
        with contextlib.suppress(RunError):
            return folder, folder.finished_stage()
    return None


def _open_when_listening(address: str) -> None:
    """Open the browser in the background, since it may take its time."""
    import threading
    import webbrowser

    threading.Timer(1.0, webbrowser.open, [address]).start()
