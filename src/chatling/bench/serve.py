"""A server under load: one stream against many, over real sockets; ours in a process of its own, or
any that speaks OpenAI's protocol.
"""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from chatling.bench.measure import Rows, byte_tokenizer, figure, random_model
from chatling.errors import MachineError
from chatling.export.source import Source
from chatling.hardware.detect import find_device, has_compiler
from chatling.inference.engine import Engine
from chatling.inference.request import Request
from chatling.inference.sampling import SamplingParams
from chatling.messages import Conversation
from chatling.model.config import ModelRecipe
from chatling.run_dir import RunFolder
from chatling.tokenizer.chat_template import render_prompt
from chatling.train.checkpoint import save_model

POCKET = ModelRecipe(depth=4, width=128, head_width=32, context=128)
VOCAB_SIZE = 2048
MODEL = "bench/sft"
START = 120.0  # seconds that a server may take to start
# what several servers are asked, to see that they say the same
QUESTIONS = (
    *("Hello!", "Who are you?", "What is the capital of France?", "Tell me a story."),
    *(f"What is {i} plus {3 * i + 4}?" for i in range(2, 18)),
)
ANSWER = 60  # tokens of each answer then


@dataclass(frozen=True)
class Server:
    """A `chatling serve` process."""

    url: str
    process: subprocess.Popen[str]


@dataclass(frozen=True)
class Answer:
    """A request's answer: its status, the new tokens, seconds to the first and to the last one."""

    status: int
    tokens: int
    first: float
    last: float


def measure_serving(
    *,
    url: str | None = None,
    run: str | None = None,
    streams: int = 32,
    tokens: int = 80,
    rounds: int = 3,
) -> Rows:
    """Rows {"measure", "value", "unit"}: tokens a second of one stream and of `streams`, the best
    of `rounds` taken in turn, and the time to the first token over all of them. A model of pocket's
    shape with random weights; prompts of 40 tokens, read by token ids. Once more with `--compile`
    where there is a compiler. Or the first model of the server at `url`, with prompts of text; with
    `run`, also how many of QUESTIONS it answers as that run's model does.

    The clients share the machine with the server. Raises MachineError when it does not start or
    does not answer.
    """
    if url is not None:
        url = url.rstrip("/").removesuffix("/v1")
        model = _first_model(url)
        rows = asyncio.run(_measure("serve", url, model, streams, tokens, rounds))
        return rows + (_agreement(url, model, run) if run else [])
    compiles = find_device() == "cpu" and has_compiler()
    rows = []
    for options in ((), ("--compile",)) if compiles else ((),):
        with running_server(*options) as server:
            title = " ".join(("serve", *options))
            rows += asyncio.run(_measure(title, server.url, MODEL, streams, tokens, rounds))
    return rows


def _first_model(url: str) -> str:
    """Of a server, the first model in its list. Raises MachineError."""
    status, body = asyncio.run(get(url, "/v1/models"))
    try:
        return str(json.loads(body)["data"][0]["id"])
    except (ValueError, LookupError, TypeError):
        said = f"It answers {status} to" if status else "Nothing answers"
        raise MachineError(
            f"There is no server that speaks OpenAI's protocol at {url}.",
            f"{said} {url}/v1/models: is it started, and without a key?",
        ) from None


def _agreement(url: str, model: str, run: str) -> Rows:
    """How many greedy answers of a server are those of a run's model: up to a calculator's call,
    which other servers do not run.
    """
    folder = RunFolder.open(run)
    source = Source.of(folder, folder.finished_stage())
    engine = Engine(source.model, source.tokenizer, max_batch_size=8)
    greedy = SamplingParams(temperature=0.0, max_tokens=ANSWER)
    prompts = [render_prompt(source.tokenizer, Conversation.of(text)) for text in QUESTIONS]
    same, words = 0, len(source.tokenizer.pieces)
    for text, done in zip(
        QUESTIONS, engine.generate([Request(tuple(ids), greedy) for ids in prompts]), strict=True
    ):
        plain = list(itertools.takewhile(lambda token: token < words, done.ids))
        ours, theirs = source.tokenizer.decode(plain).strip(), _answer(url, model, text)
        same += theirs == ours or (plain != done.ids and theirs.startswith(ours))
    return [figure(f"serve, greedy answers as {run}'s, of {len(QUESTIONS)}", same, "answers")]


def _answer(url: str, model: str, question: str) -> str:
    """A server's greedy answer. Raises MachineError."""
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    content = json.dumps(body | {"temperature": 0, "max_tokens": ANSWER}).encode()
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", content, head)
    try:
        with urllib.request.urlopen(request, timeout=START) as answer:
            return str(json.load(answer)["choices"][0]["message"]["content"] or "").strip()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise MachineError(f"{url} does not answer {question!r} ({error}).") from None


async def _measure(
    title: str, url: str, model: str, streams: int, tokens: int, rounds: int
) -> Rows:
    seeds = itertools.count()

    async def one() -> Answer:
        seed = next(seeds)
        prompt: Any = f"Number {seed}: a quick fox asks {7 * seed % 1000} others whether it is so."
        if model == MODEL:
            prompt = [256 + (7 * seed + 3 * i) % 1000 for i in range(40)]
        answer = await ask(
            url,
            {
                "model": model,
                "prompt": prompt,
                "max_tokens": tokens,
                "seed": seed,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
        )
        if answer.status != 200:
            raise MachineError(f"{url} answers {answer.status} to a text of {tokens} tokens.")
        return answer

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
                port = said.split("http://")[1].split()[0].rpartition(":")[2]
                server = Server(f"http://localhost:{int(port)}", process)
                asyncio.run(_ready(server.url))
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


async def _ready(url: str) -> None:
    ends = time.monotonic() + START
    while (await get(url, "/health"))[0] != 200:
        if time.monotonic() > ends:
            raise MachineError(f"The server was not ready within {START:g} seconds.")
        await asyncio.sleep(0.05)


async def get(url: str, path: str) -> tuple[int, str]:
    """(status, body); status 0 where nothing listens yet."""
    request = urllib.request.Request(f"{url}{path}")
    return await asyncio.to_thread(_get, request)


def _get(request: urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=START) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, ValueError):
        return 0, ""


async def ask(
    url: str,
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
    async with _connection(url) as (reader, writer):
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type:"
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
            if b'"usage"' in line and (usage := json.loads(line[6:])["usage"]):
                tokens = usage["completion_tokens"]
    return Answer(status, int(tokens), first, time.perf_counter() - start)


@asynccontextmanager
async def _connection(
    url: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secure else 80), ssl=secure or None
    )
    try:
        yield reader, writer
    finally:
        writer.close()
