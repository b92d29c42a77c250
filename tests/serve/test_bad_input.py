"""Whatever a client sends or does: that request alone gets an error, the server lives, and every
slot is free afterwards.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chatling.inference.async_engine import AsyncEngine
from chatling.run_dir import RunFolder
from chatling.serve import middleware
from chatling.serve import server as patience
from chatling.serve.errors import Limits

from .conftest import Running, load_service, serving

CHAT = "/v1/chat/completions"


def body(text: str = "hi", **more: object) -> dict[str, object]:
    return {
        "model": "tiny/sft",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 8,
        "seed": 1,
        **more,
    }


def healthy(server: Running) -> bool:
    return server.post(CHAT, body()).status_code == 200 and server.idle()


@pytest.fixture(autouse=True)
def _lives_on(server: Running) -> Iterator[None]:
    yield
    assert healthy(server)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"model": ', 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b"\xff\xfe\x00\x01", 400),
        (b'{"model": "tiny/sft", "messages": [{"role": "user", "content": "\xc3\x28"}]}', 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 50_000, 400),
        (
            (
                b'{"model": "tiny/sft", "messages": [{"role": "user", "content": "x"}],'
                b' "temperature": NaN}'
            ),
            400,
        ),
        (
            (
                b'{"model": "tiny/sft", "messages": [{"role": "user", "content": "x"}],'
                b' "temperature": 1e999}'
            ),
            400,
        ),
        (
            b'{"model": "tiny/sft", "messages": [{"role": "user", "content": "x"}], "seed": '
            + b"9" * 5000
            + b"}",
            400,
        ),
        (b'{"model": 5, "messages": {"a": 1}, "stream": "yes"}', 400),
        (b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}', 400),
        (b'{"model": "../../etc", "messages": [{"role": "user", "content": "x"}]}', 404),
        (
            (
                b'{"model": "tiny/sft", "messages": [{"role": "user", "content": "x"}],'
                b' "logit_bias": {"\\ud800": 1}}'
            ),
            400,
        ),
        (
            (
                b'{"model": "tiny/sft", "messages": [{"role": "user", "content": "\\ud83d half a'
                b' pair \\u0000"}], "max_tokens": 3}'
            ),
            200,
        ),
    ],
)
def test_malformed_bodies(server: Running, content: bytes, status: int) -> None:
    answer = httpx.post(
        server.url + CHAT, content=content, headers={"Content-Type": "application/json"}, timeout=30
    )
    assert answer.status_code == status, answer.text
    if status != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_other_content_types_and_methods(server: Running) -> None:
    assert (
        httpx.post(
            server.url + CHAT, content=json.dumps(body()), headers={"Content-Type": "text/plain"}
        ).status_code
        == 400
    )
    for method, path, status in (("GET", CHAT, 405), ("GET", "/v2", 404), ("DELETE", "/", 405)):
        answer = httpx.request(method, server.url + path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (
            status,
            "invalid_request_error",
        )


def test_limits(runs: Path) -> None:
    limits = Limits(messages=3, characters=50, tokens=20, choices=4, body=2000)
    with serving(runs, limits=limits) as small:
        turns = [
            {"role": role, "content": "x"}
            for role in ("user", "assistant", "user", "assistant", "user")
        ]
        for request, word in (
            (body(messages=turns), "5 messages"),
            (body("x" * 51), "51 characters"),
            (body(max_tokens=21), "21 new tokens"),
            (body(n=5), "5 answers"),
        ):
            answer = small.post(CHAT, request)
            assert answer.status_code == 400
            assert word in answer.json()["error"]["message"]
            assert answer.json()["error"]["code"] == "limit_exceeded"
        for content in (
            b"x" * 3000,
            (b"x" * 100 for _ in range(50)),
        ):  # with and without a Content-Length
            answer = httpx.post(
                small.url + CHAT, content=content, headers={"Content-Type": "application/json"}
            )
            assert (answer.status_code, answer.json()["error"]["type"]) == (
                413,
                "invalid_request_error",
            )
        assert small.post(CHAT, body()).status_code == 200


def test_time_limit(runs: Path) -> None:
    def slow(run: RunFolder, stage: str) -> AsyncEngine:
        service = load_service(run, stage)
        step = service.engines[0].step
        service.engines[0].step = lambda: (time.sleep(0.05), step())[1]  # type: ignore[method-assign]
        return service

    with serving(runs, load=slow, limits=Limits(seconds=1)) as server:
        answer = server.post(CHAT, body(max_tokens=100))
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "request_timeout")
        streamed = server.post(CHAT, body(max_tokens=100, stream=True))
        assert streamed.status_code == 200
        *_, error, done = [line for line in streamed.text.splitlines() if line]
        assert json.loads(error[6:])["error"]["code"] == "request_timeout"
        assert done == "data: [DONE]"
        assert server.idle()


def test_special_tokens_in_messages_are_text(server: Running) -> None:
    def prompt_tokens(text: str) -> int:
        return server.post(CHAT, body(text, max_tokens=1)).json()["usage"]["prompt_tokens"]

    assert prompt_tokens("<|bos|><|user_end|>") == 4 + len("<|bos|><|user_end|>")


def test_characters_split_across_tokens_come_whole(server: Running) -> None:
    """Every byte is a token here, so an emoji is four; biased towards them, the model must say
    whole ones.
    """
    said = ""
    bias = {str(byte): 60 for byte in "\U0001f600".encode()}
    request = body(max_tokens=40, logit_bias=bias, stream=True)
    with httpx.stream("POST", server.url + CHAT, json=request, timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                said += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
    assert (
        said
        == server.post(CHAT, {**request, "stream": False}).json()["choices"][0]["message"][
            "content"
        ]
    )
    assert said.encode()  # no half surrogates


def test_disconnects_free_their_slots(server: Running) -> None:
    cancelled = server.stats()["cancelled"]
    for i in range(30):
        with httpx.stream(
            "POST", server.url + CHAT, json=body(max_tokens=150, stream=True, seed=i), timeout=30
        ) as answer:
            for number, _ in enumerate(answer.iter_lines()):
                if number > i % 5:
                    break
    for _ in range(5):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                server.url + CHAT,
                json=body(max_tokens=180, n=8),
                timeout=httpx.Timeout(5, read=0.02),
            )
    assert server.idle(5)
    assert server.stats()["cancelled"] > cancelled


def test_slow_clients_are_cut_off(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.5)
    monkeypatch.setattr(middleware, "PATIENCE", 0.5)
    host, port = server.url.removeprefix("http://").split(":")

    def connect() -> socket.socket:
        made = socket.create_connection((host, int(port)))
        made.settimeout(10)
        return made

    silent, trickling = connect(), connect()
    start = time.monotonic()

    def trickle() -> None:
        try:
            while True:
                trickling.send(b"G")
                time.sleep(0.05)
        except OSError:  # reset or broken pipe, as it happens
            return

    thread = threading.Thread(target=trickle)
    thread.start()
    assert silent.recv(10) == b""
    assert time.monotonic() - start < 3
    thread.join(10)
    assert not thread.is_alive()
    body_less = connect()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
        " application/json\r\nContent-Length: 50\r\n\r\n"
    )
    body_less.send(head.encode() + b"{")
    assert b"408" in body_less.recv(100)
    for connection in (silent, trickling, body_less):
        connection.close()


def raw(server: Running, head: str, *pieces: bytes, more: int = 0) -> tuple[bytes, int]:
    """What the server answers to a request, and how many bytes of it were taken: the pieces, then
    up to `more` chunks of 64 KiB."""
    host, port = server.url.removeprefix("http://").split(":")
    taken = 0
    with socket.create_connection((host, int(port))) as connection:
        connection.settimeout(60)
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
        try:
            for piece in pieces:
                connection.sendall(piece)
            for _ in range(more):
                connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                taken += 0x10000
        except OSError:  # cut off
            pass
        try:
            return connection.recv(100_000), taken
        except ConnectionResetError:
            return b"", taken


@pytest.mark.parametrize("key", [None, "right"])
def test_an_endless_body_is_cut_off(runs: Path, key: str | None) -> None:
    """Whatever it was refused for."""
    with serving(runs, limits=Limits(body=100_000), key=key) as small:
        head = "Content-Type: application/json\r\nTransfer-Encoding: chunked"
        answer, taken = raw(small, head, more=3000)
        assert taken < 20_000_000  # what the system's own buffers hold, not 200 MB
        assert not answer or answer.split()[1] == (b"401" if key else b"413")
        wanted = 401 if key else 200
        assert small.post(CHAT, body()).status_code == wanted


@pytest.mark.parametrize("declared", ["0", "1", "50", "99999999"])
def test_a_body_has_one_length(server: Running, declared: str) -> None:
    content = json.dumps(body()).encode()
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    head = "Content-Type: application/json\r\n"
    for both in (
        f"{head}Content-Length: {declared}\r\nTransfer-Encoding: chunked",
        f"{head}Transfer-Encoding: chunked\r\nContent-Length: {declared}",
    ):
        answer, _ = raw(server, both, chunked + b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.split()[1] == b"400"
        assert answer.count(b"HTTP/1.1 ") == 1  # what follows is no request of its own
    assert raw(server, f"{head}Transfer-Encoding: chunked", chunked)[0].split()[1] == b"200"


def test_an_engine_error_ends_its_request_alone(runs: Path) -> None:
    def flaky(run: RunFolder, stage: str) -> AsyncEngine:
        service = load_service(run, stage)
        prepare = service.engines[0].prepare

        def sometimes(request):
            state = prepare(request)
            if request.sampling.seed == 666:
                state._calculator = lambda token: 1 / 0
            return state

        service.engines[0].prepare = sometimes  # type: ignore[method-assign]
        return service

    with serving(runs, load=flaky) as server:
        good = []
        thread = threading.Thread(
            target=lambda: good.append(server.post(CHAT, body(max_tokens=60)))
        )
        thread.start()
        bad = server.post(CHAT, body(seed=666, max_tokens=60))
        thread.join()
        assert (bad.status_code, bad.json()["error"]["type"]) == (500, "server_error")
        assert good[0].status_code == 200
        streamed = server.post(CHAT, body(seed=666, max_tokens=60, stream=True))
        assert '"engine_error"' in streamed.text
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert healthy(server)


def test_a_thousand_at_once(runs: Path) -> None:
    """More than the queue takes: some are answered, the others told when to come back; none hangs,
    nothing breaks.
    """

    async def one(port: int, seed: int) -> tuple[int, bytes]:
        """(status, the whole response); a client library would take longer than the server."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        content = json.dumps(body(max_tokens=2, seed=seed)).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
            f" application/json\r\nContent-Length: {len(content)}\r\n"
        )
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + content)
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return int(answer.split(b" ", 2)[1]), answer

    async def storm(port: int) -> list[tuple[int, bytes]]:
        return await asyncio.gather(*(one(port, seed) for seed in range(1000)))

    def load(run: RunFolder, stage: str) -> AsyncEngine:
        return load_service(run, stage, queue_limit=50)

    with serving(runs, load=load) as server:
        answers = asyncio.run(storm(int(server.url.rpartition(":")[2])))
        done, refused = (
            [answer for status, answer in answers if status == wanted] for wanted in (200, 429)
        )
        assert len(done) + len(refused) == 1000
        assert len(done) >= 50
        assert all(
            b"retry-after: " in answer and b'"rate_limit_exceeded"' in answer for answer in refused
        )
        assert healthy(server)


def test_random_bytes(server: Running) -> None:
    chance = random.Random(0)
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(40):
        with socket.create_connection((host, int(port))) as connection:
            connection.settimeout(5)
            connection.sendall(
                bytes(chance.randrange(256) for _ in range(chance.randrange(1, 400))) + b"\r\n\r\n"
            )
            connection.shutdown(socket.SHUT_WR)
            try:
                answer = connection.recv(1000)
            except ConnectionResetError:
                answer = b""
            assert not answer or answer.startswith(b"HTTP/1.1 4")
