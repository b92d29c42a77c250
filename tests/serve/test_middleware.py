"""Keys, hosts, origins, headers, health, metrics and the log."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest

from chatling.inference.async_engine import AsyncEngine
from chatling.run_dir import RunFolder
from chatling.serve import model_manager

from .conftest import Running, load_service, serving

CHAT = "/v1/chat/completions"
BODY = {
    "model": "tiny/sft",
    "messages": [{"role": "user", "content": "my secret words"}],
    "max_tokens": 4,
}


def test_a_key_is_asked_for(runs: Path) -> None:
    with serving(runs, key="right") as server:
        for path in ("/v1/models", "/metrics", "/api/runs", "/openapi.json"):
            assert httpx.get(server.url + path).status_code == 401
        for path in ("/", "/runs", "/ui/style.css", "/health", "/health/live", "/health/ready"):
            assert httpx.get(server.url + path).status_code == 200
        for wrong in ("Bearer wrong", "Bearer", "Basic right", "right", "Bearer r\xefght"):
            answer = httpx.post(
                server.url + CHAT, json=BODY, headers={"Authorization": wrong.encode("latin-1")}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        with pytest.raises(openai.AuthenticationError):
            server.client(api_key="wrong").models.list()
        assert server.client(api_key="right").chat.completions.create(**BODY).choices


def test_a_wrong_key_is_said_to_be_wrong(runs: Path) -> None:
    with serving(runs, key="right") as server:
        for given, said in (
            ("Bearer wrong", "is wrong"),
            (None, "wants a key"),
            ("Bearer", "wants a key"),
            ("Bearer right", None),
        ):
            answer = httpx.get(
                f"{server.url}/v1/models", headers={} if given is None else {"Authorization": given}
            )
            assert answer.status_code == (401 if said else 200)
            assert not said or said in answer.json()["error"]["message"]


def test_slashes_at_the_end_and_head_change_nothing(runs: Path, server: Running) -> None:
    """Of every route: the same status and headers as its GET, and for HEAD no body."""
    found = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    got = [path for path, methods in found.items() if "get" in methods]
    paths = [
        "/",
        "/runs",
        *(path.format(name="tiny/sft" if "models" in path else "tiny") for path in got),
    ]
    assert {
        "/",
        "/runs",
        "/health",
        "/v1/models",
        "/v1/models/tiny/sft",
        "/api/runs/tiny",
        "/metrics",
    } <= set(paths)
    for path in [*paths, "/ui/style.css", "/nowhere", CHAT]:
        plain = httpx.get(server.url + path)
        assert (
            httpx.get(f"{server.url}{path}/").status_code
            == httpx.get(f"{server.url}/{path}").status_code
            == plain.status_code
        )
        head = httpx.head(server.url + path)
        assert (head.status_code, head.content) == (plain.status_code, b"")
        assert head.headers["content-type"] == plain.headers["content-type"]
    assert (
        httpx.get(f"{server.url}/v1/models/").json() == httpx.get(f"{server.url}/v1/models").json()
    )
    assert (
        server.post(f"{CHAT}/", BODY).status_code
        == server.post(f"/{CHAT}", BODY).status_code
        == 200
    )
    with serving(runs, key="right") as locked:
        assert [
            httpx.head(locked.url + path).status_code
            for path in ("/runs/", "/v1/models/", "//v1/models")
        ] == [200, 401, 401]


def test_only_local_names(runs: Path) -> None:
    with serving(runs, local_only=True) as server:
        port = server.url.rpartition(":")[2]
        for host in (
            f"localhost:{port}",
            f"127.0.0.1:{port}",
            "localhost",
            f"[::1]:{port}",
            "LOCALHOST",
        ):
            assert httpx.get(server.url + "/v1/models", headers={"Host": host}).status_code == 200
        for host in (
            "evil.test",
            f"evil.test:{port}",
            "localhost.evil.test",
            "",
            "127.0.0.1.evil.test:80",
        ):
            answer = httpx.get(server.url + "/v1/models", headers={"Host": host})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wrong_host")


def test_other_origins(runs: Path, server: Running) -> None:
    asking = {
        "Origin": "https://page.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    assert (
        "access-control-allow-origin"
        not in httpx.options(server.url + CHAT, headers=asking).headers
    )
    with serving(runs, key="k", origins=["https://page.test"]) as open_server:
        allowed = httpx.options(open_server.url + CHAT, headers=asking)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (
            200,
            "https://page.test",
        )
        other = httpx.options(
            open_server.url + CHAT, headers={**asking, "Origin": "https://other.test"}
        )
        assert "access-control-allow-origin" not in other.headers


def test_headers(server: Running) -> None:
    for path in ("/", "/runs", "/ui/chat.js", "/v1/models", "/nowhere"):
        headers = httpx.get(server.url + path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_the_pages_load_nothing_from_elsewhere_and_hold_no_script(server: Running) -> None:
    pages = [httpx.get(server.url + path).text for path in ("/", "/runs")]
    for page in pages:
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", page)
        for url in re.findall(r'(?:src|href)="([^"]+)"', page):
            assert url.startswith(("/", "#"))
            if url.startswith("/ui/"):
                assert httpx.get(server.url + url).status_code == 200
    for script in ("chat.js", "runs.js"):
        for name in re.findall(r'from "\./([^"]+)"', httpx.get(f"{server.url}/ui/{script}").text):
            assert httpx.get(f"{server.url}/ui/{name}").status_code == 200
    assert httpx.get(server.url + "/ui/../app.py").status_code == 404
    assert httpx.get(server.url + "/ui/%2e%2e/app.py").status_code == 404


def test_health(server: Running) -> None:
    assert httpx.get(server.url + "/health/live").json() == {"status": "ok"}
    assert httpx.get(server.url + "/health/ready").json()["status"] == "ok"


def test_not_ready_while_loading_and_while_shutting_down(runs: Path) -> None:
    gate = threading.Event()

    def slow(run: RunFolder, stage: str) -> AsyncEngine:
        gate.wait(20)
        return load_service(run, stage)

    with serving(runs, load=slow, first=(RunFolder(runs / "tiny"), "sft")) as server:
        early = httpx.get(server.url + "/health")
        assert (early.status_code, early.json()["status"]) == (503, "loading")
        assert httpx.get(server.url + "/health/live").status_code == 200
        gate.set()
        while httpx.get(server.url + "/health").status_code == 503:
            time.sleep(0.02)
        server.models.closing = True
        assert httpx.get(server.url + "/health/ready").json()["status"] == "shutting down"
        assert server.post(CHAT, BODY).status_code == 503


def test_a_default_model_that_cannot_be_loaded(
    runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the reason; and a request that loads it after all mends it."""
    # the log quotes half a surrogate pair, which no worker can send to the process that reports
    caplog.set_level(logging.CRITICAL, model_manager.log.name)
    broken = threading.Event()
    broken.set()

    def load(run: RunFolder, stage: str) -> AsyncEngine:
        if broken.is_set():
            raise OSError("the disk is away \udc80")
        return load_service(run, stage)

    def ended(server: Running) -> httpx.Response:
        ends = time.monotonic() + 10
        while (answer := httpx.get(server.url + "/health")).json()["status"] == "loading":
            assert time.monotonic() < ends
            time.sleep(0.02)
        return answer

    with serving(runs, load=load, first=(RunFolder(runs / "tiny"), "sft")) as server:
        assert ended(server).status_code == 503
        for path in ("/health", "/health/ready"):
            found = httpx.get(server.url + path).json()
            assert found["status"] == "failed"
            assert found["reason"].startswith("Model 'tiny/sft' cannot be loaded: the disk is away")
        cards = httpx.get(server.url + "/v1/models").json()["data"]
        assert [card["error"] for card in cards] == [found["reason"], None]
        assert server.post(CHAT, BODY).status_code == 503
        broken.clear()
        assert server.post(CHAT, BODY | {"model": "tiny/base"}).status_code == 200
        assert ended(server).json()["status"] == "failed"  # another model does not mend it
        assert server.post(CHAT, BODY).status_code == 200
        assert ended(server).json()["status"] == "ok"
    with serving(runs, first=(RunFolder(runs / "gone"), "sft")) as server:
        assert "There is no model 'gone/sft'." in ended(server).json()["reason"]


def test_metrics(server: Running) -> None:
    def figures() -> dict[str, float]:
        text = httpx.get(server.url + "/metrics").text
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert all(
            re.fullmatch(r'[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [-+.e0-9]+', line) for line in lines
        )
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    before = figures()
    server.post(CHAT, BODY)
    server.post(CHAT, {"model": "nothing"})
    httpx.get(server.url + "/made/up/path")
    after = figures()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('chatling_requests_total{path="/v1/chat/completions",status="200"}') == 1
    assert grown('chatling_requests_total{path="/v1/chat/completions",status="400"}') == 1
    assert grown('chatling_requests_total{path="other",status="404"}') == 1
    assert grown("chatling_first_token_seconds_count") == 1
    assert grown('chatling_engine_tokens_total{model="tiny/sft"}') in (3, 4)
    assert after['chatling_engine_running{model="tiny/sft"}'] == 0
    assert (
        after['chatling_request_seconds_bucket{le="+Inf"}']
        == after["chatling_request_seconds_count"]
    )
    assert not any("made" in name for name in after)


@pytest.mark.parametrize("log_text", [False, True])
def test_the_log_holds_facts_and_messages_only_when_asked(
    runs: Path, caplog: pytest.LogCaptureFixture, log_text: bool
) -> None:
    caplog.set_level(logging.INFO, "chatling.access")
    with serving(runs, log_text=log_text) as server:
        said = server.post(CHAT, BODY).json()["choices"][0]["message"]["content"]
        httpx.get(server.url + "/made%0Aup?secret=1")
        httpx.get(server.url + "/ui/style.css")
    lines = [
        json.loads(record.message) for record in caplog.records if record.name == "chatling.access"
    ]
    first = lines[0]
    assert {
        "time",
        "client",
        "method",
        "path",
        "status",
        "seconds",
        "prompt_tokens",
        "completion_tokens",
        "first_token",
    } <= set(first)
    assert (first["status"], first["model"], first["finish"]) == (200, "tiny/sft", {"length": 1})
    assert ("secret" in caplog.text) == log_text
    assert [line["path"] for line in lines[1:]] == ["/made\nup"]
    if log_text:
        assert first["answers"] == [said]


def test_a_full_queue_says_when_to_come_back(runs: Path) -> None:
    gate = threading.Event()

    def held(run: RunFolder, stage: str) -> AsyncEngine:
        service = load_service(run, stage, queue_limit=1)
        step = service.engines[0].step
        service.engines[0].step = lambda: (gate.wait(20), step())[1]  # type: ignore[method-assign]
        return service

    with serving(runs, load=held) as server:
        threads = [threading.Thread(target=server.post, args=(CHAT, BODY)) for _ in range(5)]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + 10
        while (
            not server.models.loaded or server.stats()["running"] + server.stats()["waiting"] < 5
        ) and time.monotonic() < ends:
            time.sleep(0.02)
        with pytest.raises(openai.RateLimitError) as caught:
            server.client().chat.completions.create(**BODY)
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert (
            server.post(CHAT, {**BODY, "stream": True}).status_code == 429
        )  # before any of the stream
        gate.set()
        for thread in threads:
            thread.join()
        assert server.client().chat.completions.create(**BODY).choices
