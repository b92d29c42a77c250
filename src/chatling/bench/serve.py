"""The server under load: one stream against many, over real sockets to a process of its own."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chatling.bench.measure import Rows, byte_tokenizer, figure, random_model
from chatling.errors import MachineError
from chatling.hardware.detect import find_device, has_compiler
from chatling.model.config import ModelRecipe
from chatling.run_dir import RunFolder
from chatling.train.checkpoint import save_model

POCKET = ModelRecipe(depth=4, width=128, head_width=32, context=128)
VOCAB_SIZE = 2048
MODEL = "bench/sft"
START = 120.0  # seconds that a server may take to start


@dataclass(frozen=True)
class Server:
    """A `chatling serve` process."""

    port: int
    process: subprocess.Popen[str]


@dataclass(frozen=True)
class Answer:
    """A request's answer: its status, the new tokens, seconds to the first and to the last one."""

    status: int
    tokens: int
    first: float
    last: float


def measure_serving(*, streams: int = 32, tokens: int = 80, rounds: int = 3) -> Rows:
    """Rows {"measure", "value", "unit"}: tokens a second of one stream and of `streams`, the best
    of `rounds` taken in turn, and the time to the first token over all of them. A model of pocket's
    shape with random weights; prompts of 40 tokens, read by token ids. Once more with `--compile`
    where there is a compiler.

    The clients share the machine with the server. Raises MachineError when it does not start.
    """
    compiles = find_device() == "cpu" and has_compiler()
    rows: Rows = []
    for options in ((), ("--compile",)) if compiles else ((),):
        with running_server(*options) as server:
            title = " ".join(("serve", *options))
            rows += asyncio.run(_measure(title, server.port, streams, tokens, rounds))
    return rows


async def _measure(title: str, port: int, streams: int, tokens: int, rounds: int) -> Rows:
    seeds = itertools.count()

    async def one() -> Answer:
        seed = next(seeds)
        prompt = [256 + (7 * seed + 3 * i) % 1000 for i in range(40)]
        return await ask(
            port,
            {
                "model": MODEL,
                "prompt": prompt,
                "max_tokens": tokens,
                "seed": seed,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
        )

    async def clients(count: int, times: int) -> tuple[float, list[Answer]]:
        """(tokens a second, answers) of `count` clients that each ask `times` times."""

        async def client() -> list[Answer]:
            return [await one() for _ in range(times)]

        start = time.perf_counter()
        found = await asyncio.gather(*(client() for _ in range(count)))
        answers = list(itertools.chain(*found))
        return sum(answer.tokens for answer in answers) / (time.perf_counter() - start), answers

    await clients(streams, 1)  # warms up
    best = {1: 0.0, streams: 0.0}
    firsts: dict[int, list[float]] = {1: [], streams: []}
    for _ in range(rounds):
        for count, times in ((1, 4), (streams, 2)):
            rate, answers = await clients(count, times)
            best[count] = max(best[count], rate)
            firsts[count] += [answer.first for answer in answers]
    rows: Rows = []
    for count, name in ((1, "1 stream"), (streams, f"{streams} streams")):
        rows.append(figure(f"{title}, {name}", best[count], "tokens/s"))
        for share in (50, 95):
            # The least time that at least this share of the requests does not exceed.
            wait = 1000 * float(np.percentile(firsts[count], share, method="inverted_cdf"))
            rows.append(figure(f"{title}, {name}, first token, p{share}", wait, "ms"))
    return [*rows, figure(f"{title}, {streams} streams, times 1", best[streams] / best[1], "x")]


@contextmanager
def running_server(*options: str) -> Iterator[Server]:
    """`chatling serve` with a random model of pocket's shape, in a home folder of its own."""
    with tempfile.TemporaryDirectory() as home:
        _write_run(Path(home) / "runs" / "bench")
        command = [sys.executable, "-m", "chatling", "serve", "bench", "--port", "0", *options]
        environment = {**os.environ, "CHATLING_HOME": home}
        with (
            open(Path(home) / "log", "w") as log,
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            ) as process,
        ):
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                if "http://" not in said:
                    raise MachineError(
                        f"The server did not start: {(Path(home) / 'log').read_text()[-500:]}"
                    )
                server = Server(
                    int(said.split("http://")[1].split()[0].rpartition(":")[2]), process
                )
                asyncio.run(_ready(server.port))
                yield server
            finally:
                process.terminate()


def _write_run(folder: Path) -> None:
    """A finished run whose model says what it likes and never ends by itself."""
    run = RunFolder(folder)
    byte_tokenizer(VOCAB_SIZE).save(run.tokenizer)
    save_model(random_model(POCKET, VOCAB_SIZE), run.model("sft"), {"stage": "sft"})
    run.write_state(
        {"stages": {"sft": {"status": "done", "seconds": 0.0, "resumes": 0}}, "execution": {}}
    )


async def _ready(port: int) -> None:
    ends = time.monotonic() + START
    while (await get(port, "/health"))[0] != 200:
        if time.monotonic() > ends:
            raise MachineError(f"The server was not ready within {START:g} seconds.")
        await asyncio.sleep(0.05)


async def get(port: int, path: str) -> tuple[int, str]:
    """(status, body); status 0 where nothing listens yet."""
    try:
        async with _connection(port) as (reader, writer):
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    except OSError:
        return 0, ""
    return int(head.split()[1]), body


async def ask(
    port: int,
    body: dict[str, Any],
    path: str = "/v1/completions",
    *,
    leave_after: int | None = None,
) -> Answer:
    """One streamed request; hand-made, since a client library takes more time than the server.
    `leave_after` so many chunks the client goes away without a word.
    """
    start = time.perf_counter()
    first = tokens = 0.0
    async with _connection(port) as (reader, writer):
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
            f" application/json\r\nContent-Length: {len(content)}\r\n"
        )
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + content)
        status, chunks = int((await reader.readline() or b"- 0").split()[1]), 0
        while line := await reader.readline():
            if leave_after is not None and chunks >= leave_after:
                writer.transport.abort()
                break
            if not line.startswith(b"data: {"):
                continue
            chunks += 1
            first = first or time.perf_counter() - start
            if b'"choices": []' in line:
                tokens = json.loads(line[6:])["usage"]["completion_tokens"]
    return Answer(status, int(tokens), first, time.perf_counter() - start)


@asynccontextmanager
async def _connection(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
