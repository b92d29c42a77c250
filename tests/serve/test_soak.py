"""Minutes of mixed load on a server process: memory stays flat, every slot and file comes back.

`pytest tests/serve/test_soak.py -m slow -s --soak-seconds 600` prints what it saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import statistics
import time
from pathlib import Path

import pytest

from chatling.bench.serve import MODEL, Server, ask, get, running_server

pytestmark = pytest.mark.slow
CLIENTS = 12
CHAT = "/v1/chat/completions"


def resident(server: Server) -> int:
    """Bytes of memory that it holds (Linux)."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def request(chance: random.Random, stream: bool) -> tuple[str, dict[str, object]]:
    body: dict[str, object] = {
        "model": MODEL,
        "max_tokens": chance.choice((1, 10, 60)),
        "stream": stream,
        "seed": chance.randrange(50),
    }
    if chance.random() < 0.5:
        content = chance.choice(("hi", "tell me", "\U0001f600" * 5, "x" * 60))
        more = {
            "n": chance.choice((1, 1, 3)),
            "logprobs": True,
            "top_logprobs": 3,
            "stop": ["ab", "zz"],
        }
        return CHAT, body | {"messages": [{"role": "user", "content": content}]} | chance.choice(
            ({}, more)
        )
    prompt = [chance.randrange(256, 2000) for _ in range(chance.randrange(1, 60))]
    return "/v1/completions", body | {
        "prompt": prompt,
        "echo": chance.random() < 0.3,
        "logprobs": chance.choice((None, 2)),
    }


WRONG = (
    {},
    {"model": "none", "messages": []},
    {"model": MODEL, "messages": [{"role": "user", "content": "x" * 900}]},
    {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "temperature": -1},
)


async def client(url: str, chance: random.Random, until: float, counts: dict[str, int]) -> None:
    while time.monotonic() < until:
        kind = chance.choices(("stream", "whole", "leave", "wrong", "look"), (40, 25, 20, 10, 5))[0]
        counts[kind] = counts.get(kind, 0) + 1
        with contextlib.suppress(ConnectionError):
            if kind == "look":
                await get(
                    url, chance.choice(("/metrics", "/v1/models", "/api/runs", "/", "/nowhere"))
                )
            elif kind == "wrong":
                answer = await ask(url, chance.choice(WRONG), CHAT)
                assert 400 <= answer.status < 500, answer
            else:
                path, body = request(chance, kind != "whole")
                answer = await ask(
                    url,
                    body,
                    path,
                    leave_after=chance.choice((0, 0, 1, 5)) if kind == "leave" else None,
                )
                assert answer.status in (200, 429), answer


async def disconnects(url: str, times: int) -> None:
    chance = random.Random(1)
    for _ in range(times // 20):
        jobs = []
        for _ in range(20):
            path, body = request(chance, True)
            jobs.append(ask(url, body | {"max_tokens": 60}, path, leave_after=chance.randrange(8)))
        await asyncio.gather(*jobs, return_exceptions=True)


async def idle(url: str) -> dict[str, int]:
    """What the engine says once nothing runs any more."""
    ends = time.monotonic() + 20
    while True:
        text = (await get(url, "/metrics"))[1]
        stats = {
            name: int(float(value))
            for name, value in re.findall(
                r"^chatling_engine_(\w+)\{[^}]*\} ([\d.]+)$", text, re.MULTILINE
            )
        }
        if not (stats["running"] or stats["waiting"]):
            return stats
        assert time.monotonic() < ends, stats
        await asyncio.sleep(0.05)


async def soak(server: Server, seconds: float) -> list[tuple[float, int]]:
    """(second, bytes resident) once a second under load."""
    start, counts = time.monotonic(), dict[str, int]()
    clients = [
        asyncio.ensure_future(client(server.url, random.Random(i), start + seconds, counts))
        for i in range(CLIENTS)
    ]
    seen = []
    while not all(one.done() for one in clients):
        seen.append((time.monotonic() - start, resident(server)))
        await asyncio.sleep(1)
    await asyncio.gather(*clients)
    print(f"\n{sum(counts.values())} requests in {seconds:g} s: {counts}")
    return seen


def test_load_and_disconnects_leave_nothing_behind(pytestconfig: pytest.Config) -> None:
    with running_server("--max-batch-size", "8") as server:
        asyncio.run(soak(server, 12))  # allocators and caches find their size
        asyncio.run(idle(server.url))
        files, before = open_files(server), resident(server)
        asyncio.run(disconnects(server.url, 500))
        after_disconnects = asyncio.run(idle(server.url))
        print(
            f"500 disconnects: {before / 1e6:.1f} MB before, {resident(server) / 1e6:.1f} MB after;"
            f" {after_disconnects}"
        )
        seen = asyncio.run(soak(server, pytestconfig.getoption("--soak-seconds")))
        stats = asyncio.run(idle(server.url))
        quarter = max(1, len(seen) // 4)
        early, late = (
            statistics.median(size for _, size in part)
            for part in (seen[:quarter], seen[-quarter:])
        )
        print(
            f"resident: first quarter {early / 1e6:.1f} MB, last {late / 1e6:.1f} MB, peak"
            f" {max(size for _, size in seen) / 1e6:.1f} MB"
        )
        print(f"then {stats}; open files {files} before, {open_files(server)} after")
        assert after_disconnects["cancelled_total"] > 0
        assert late < early * 1.03 + 4e6
        assert resident(server) < before * 1.1 + 10e6
        assert open_files(server) <= files + 2
        ended = sum(stats[f"{end}_total"] for end in ("stop", "length", "cancelled", "error"))
        assert (ended, stats["error_total"]) == (stats["requests_total"], 0)
