"""Generated requests at a server process, by the thousand: none fails on it, the answers beside it
keep their bits, memory stays flat.

`pytest tests/serve/test_fuzz.py -m slow -s --fuzz-requests 10000` prints what it saw.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from chatling.bench.serve import MODEL, Server, running_server

from .test_neighbors import FIELDS
from .test_soak import CHAT, open_files, resident

pytestmark = pytest.mark.slow
CLIENTS = 8
BLOCK = 100  # requests between two looks at the memory
SMALL = {"max_tokens": 16, "max_completion_tokens": 16, "n": 3, "best_of": 3}  # at most
TEXT = st.one_of(st.text(max_size=40), st.sampled_from(["\0", "<|bos|>", "\U0001f600", " ", "$$"]))
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "python", "output", "image_url"]), "text": TEXT}
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer", "tool"])},
    optional={"content": st.one_of(TEXT, st.lists(PART, max_size=3), st.none())},
)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
MORE = FIELDS | {
    "n": st.integers(0, 4),
    "stream": st.booleans(),
    "stream_options": st.sampled_from([None, {}, {"include_usage": True}, []]),
    "top_logprobs": st.integers(-1, 25),
    "truncation": st.sampled_from(["auto", "none", 1]),
    "response_format": st.sampled_from(
        [
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
            {"type": "json_schema"},
            {"type": "text"},
            "json",
        ]
    ),
    "tools": st.sampled_from([None, [], [{}]]),
    "extra": TEXT,
}
TOKENS = st.lists(st.integers(0, 2047), min_size=1, max_size=100)
ODD_TOKENS = st.lists(st.integers(-1, 2100), max_size=150)
USER = st.builds(lambda text: [{"role": "user", "content": f"a{text}"}], TEXT)
MESSAGES = st.one_of(USER, USER, st.lists(MESSAGE, max_size=6))
PROMPT = st.one_of(
    TEXT, TOKENS, ODD_TOKENS, st.lists(TEXT, max_size=3), st.lists(TOKENS, max_size=3)
)


def bodies(content: dict[str, Any], more: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """At most three of the fields in `more`, since each may be wrong."""
    names = st.lists(st.sampled_from(sorted(more)), max_size=3, unique=True)
    return names.flatmap(
        lambda few: st.fixed_dictionaries(content | {name: more[name] for name in few})
    )


FEW = st.integers(0, 10)  # new tokens
CHATS = st.tuples(
    st.just(CHAT),
    bodies({"messages": MESSAGES, "max_tokens": FEW}, MORE | {"logprobs": st.booleans()}),
)
PROMPTS = st.tuples(
    st.just("/v1/completions"),
    bodies(
        {"prompt": PROMPT, "max_tokens": FEW},
        MORE | {"logprobs": st.integers(-1, 6), "echo": st.booleans()},
    ),
)


def requests(url: str) -> st.SearchStrategy[Any]:
    """Cases of our own schema, right and wrong, bodies that reach the engine, and bytes."""
    cases = []
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()
        takes = operation.body or operation.query or operation.path_parameters
        for mode in (
            schemathesis.GenerationMode if takes else [schemathesis.GenerationMode.POSITIVE]
        ):
            cases.append(operation.as_strategy(generation_mode=mode))
    paths = st.sampled_from([CHAT, "/v1/completions", "/api/render", "/nowhere"])
    raw = st.tuples(paths, st.binary(max_size=200))
    kinds = [st.one_of(cases), raw, CHATS, CHATS, PROMPTS, PROMPTS]
    return st.sampled_from(kinds).flatmap(lambda kind: kind)


def send(client: httpx.Client, request: Any) -> httpx.Response:
    """The model's name and small sizes are put in, so that valid requests reach the engine."""
    if isinstance(request, schemathesis.Case):
        if isinstance(request.body, dict) and "model" in request.body:
            request.body |= {"model": MODEL} | {
                name: min(value, SMALL[name])
                for name, value in request.body.items()
                if name in SMALL and type(value) is int
            }
        found = request.call(timeout=60)
        return httpx.Response(found.status_code, content=found.content)
    path, body = request
    content = body if isinstance(body, bytes) else json.dumps({"model": MODEL} | body)
    return client.post(path, content=content, headers={"Content-Type": "application/json"})


@contextmanager
def neighbor(url: str) -> Iterator[Counter[str]]:
    """Asks one question again and again meanwhile; counts the answers by whether they are those of
    the first one, alone.
    """
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "the neighbor"}],
        "max_tokens": 20,
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 3,
    }
    counts: Counter[str] = Counter()
    over = threading.Event()

    client = httpx.Client(timeout=60)

    def choices() -> Any:
        return client.post(url + CHAT, json=body).raise_for_status().json()["choices"]

    alone = choices()

    def asking() -> None:
        while not over.is_set():
            try:
                counts["same" if choices() == alone else "other bits"] += 1
            except httpx.HTTPError as error:
                counts[repr(error)] += 1
            over.wait(0.1)

    thread = threading.Thread(target=asking)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()
        client.close()


def fuzz(server: Server, count: int) -> tuple[Counter[int], list[int]]:
    """(requests by their answer's status, bytes resident after each block)."""
    url = server.url
    generated = requests(url)
    statuses: Counter[int] = Counter()
    sizes: list[int] = []
    with (
        httpx.Client(base_url=url, timeout=60) as client,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        for block in range(10 * count // BLOCK):
            sent: list[tuple[Any, Future[httpx.Response]]] = []

            @seed(block)
            @settings(
                max_examples=BLOCK,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(request=generated)
            def generate(request: Any) -> None:
                sent.append((request, clients.submit(send, client, request)))  # noqa: B023

            generate()
            for request, job in sent:
                answer = job.result()
                statuses[answer.status_code] += 1
                assert answer.status_code < 500, (request, answer.text)
                assert '"server_error"' not in answer.text, (request, answer.text)
            sizes.append(resident(server))
            if statuses.total() >= count:
                break
    return statuses, sizes


def test_no_request_does_harm(pytestconfig: pytest.Config) -> None:
    count = pytestconfig.getoption("--fuzz-requests")
    with running_server() as server:
        start, files = time.monotonic(), open_files(server)
        with neighbor(server.url) as answers:
            statuses, sizes = fuzz(server, count)
        seconds = time.monotonic() - start
        part = max(1, len(sizes) // 4)  # the first one warms up
        early, late = (
            statistics.median(each) for each in (sizes[part : 2 * part] or sizes, sizes[-part:])
        )
        print(
            f"\n{statuses.total()} requests in {seconds:.0f} s: {dict(sorted(statuses.items()))}"
            f"\nneighbor: {dict(answers)}"
            f"\nresident: {early / 1e6:.1f} MB in the second quarter, {late / 1e6:.1f} MB in the"
            f" last; open files {files} before, {open_files(server)} after"
        )
        assert statuses.total() >= count
        assert statuses[200] > count / 20
        assert answers.keys() == {"same"}
        assert late < early * 1.05 + 8e6
        assert open_files(server) <= files + 4
