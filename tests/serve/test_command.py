"""`chatling serve` as a process: starts, says where, and ends as it should on Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from chatling.cli import main
from chatling.commands.serve import read_key
from chatling.errors import ChatlingError


@contextmanager
def process(runs: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {
        **os.environ,
        "CHATLING_HOME": str(runs.parent),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "chatling", "serve", "--port", "0", *words]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        url = re.search(r"http://\S+", line)
        assert url, line + running.stderr.read() if running.stderr else ""
        ends = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{url[0]}/health").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < ends
            time.sleep(0.05)
        try:
            yield running, url[0]
        finally:
            running.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_within_five_seconds_and_streams_end_well(runs: Path, stop: signal.Signals) -> None:
    with process(runs, "tiny", "--max-batch-size", "2") as (running, url):
        request = {
            "model": "tiny/sft",
            "messages": [{"role": "user", "content": "go"}],
            "stream": True,
            "n": 100,
            "seed": 1,
        }
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=request, timeout=30) as answer:
            lines = answer.iter_lines()
            for _ in range(210):
                next(lines)
            start = time.monotonic()
            running.send_signal(stop)
            rest = [
                line for line in lines if line
            ]  # raises when the stream is cut off in the middle
        assert time.monotonic() - start < 5
        running.wait(10)  # Python's own end takes a second or two on a busy machine
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2][6:])["error"]["code"] == "shutting_down"
        _, said = running.communicate()
        assert "Traceback" not in said


def test_a_short_answer_may_end_first_and_others_are_warned(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(runs.parent))
    with process(runs, "tiny", "--host", "0.0.0.0") as (running, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert main(["serve", "--host", "0.0.0.0", "--port", url.rpartition(":")[2]]) == 1
        assert "--port" in capsys.readouterr().err  # it is taken
        request = {
            "model": "tiny/sft",
            "messages": [{"role": "user", "content": "go"}],
            "stream": True,
            "max_tokens": 3,
            "seed": 1,
        }
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=request, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            running.send_signal(signal.SIGINT)
            rest = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        assert rest[-1]["choices"][0]["finish_reason"] in ("stop", "length")
        assert "--api-key" in running.communicate(timeout=10)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "99999"], "--port"),
        (["--max-batch-size", "0"], "--max-batch-size"),
        (["--compile", "--int8"], "do not go together"),
        (["--max-body", "0"], "--max-body"),
        (["--max-tokns", "5"], "--max-tokens"),
        (["nowhere"], "no run"),
        (["tiny", "--stage", "rl"], "no finished rl"),
        (["--api-key", "@/nowhere/key"], "Cannot read the key"),
        (["--api-key", ""], "empty"),
        (["--host", "999.1.1.1"], "Cannot listen"),
    ],
)
def test_mistakes_are_sentences(
    runs: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(runs.parent))
    assert main(["serve", *words]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_compiling_needs_a_compiler(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(runs.parent))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert main(["serve", "tiny", "--compile"]) == 1
    assert "needs a C++ compiler" in capsys.readouterr().err


@pytest.mark.slow
def test_compiled_it_says_the_same(runs: Path) -> None:
    request = {
        "model": "tiny/sft",
        "prompt": "go",
        "max_tokens": 30,
        "temperature": 0,
        "logprobs": 1,
    }
    said = []
    for options in ((), ("--compile",)):
        with process(runs, "tiny", "--max-batch-size", "8", *options) as (_, url):
            answers = [
                httpx.post(f"{url}/v1/completions", json=request, timeout=60).json()["choices"][0]
                for _ in range(3)
            ]
            assert answers[0] == answers[1] == answers[2]
            said.append(answers[0]["text"])
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "content",
    [b"secret", b"\xef\xbb\xbfsecret\r\n", b"\n secret \n\n", "secret\r\n".encode("utf-16")],
)
def test_a_key_file_holds_one_word(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    assert read_key(f"@{tmp_path / 'key'}") == "secret"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf\r\n", "empty"),
        (b"one\ntwo\n", "several lines"),
        (b"one two", "spaces"),
        ("schlüssel".encode(), "header"),
        (b"a\x00b", "header"),
        (b"\xff\xfe\xfa", "Cannot read"),
        (b"\x80", "Cannot read"),
    ],
)
def test_a_key_that_no_client_could_send(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ChatlingError, match=said):
        read_key(f"@{tmp_path / 'key'}")


def test_a_key_as_it_is() -> None:
    assert (read_key(None), read_key(" k-1_~+/= ")) == (None, "k-1_~+/=")
