"""`/v1` shows examples that work as they are, for this server, and follows what it serves."""

from __future__ import annotations

import contextlib
import html
import io
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from .conftest import save_run, serving


def examples(page: str) -> list[str]:
    return [html.unescape(text) for text in re.findall("<code>(.*?)</code>", page, re.DOTALL)]


@pytest.mark.parametrize("key", [None, "right"])
def test_the_examples_work(runs: Path, key: str | None) -> None:
    with serving(runs, key=key) as server:
        for path in ("/v1", "/v1/"):
            assert httpx.head(server.url + path).status_code == 200
        curl, python, address, docker = [
            text.replace("YOUR_KEY", "right").replace("RUN/STAGE", "tiny/sft")
            for text in examples(httpx.get(f"{server.url}/v1").text)
        ]
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(python, {})
        assert out.getvalue().strip()
        assert address == f"{server.url}/v1"
        assert f"host.docker.internal:{server.url.rpartition(':')[2]}/v1" in docker
        if shutil.which("curl"):
            done = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True)
            assert '"chat.completion"' in done.stdout
        if key:
            assert "tiny" not in httpx.get(f"{server.url}/v1").text


def test_a_host_is_text(runs: Path) -> None:
    with serving(runs) as server:
        page = httpx.get(f"{server.url}/v1", headers={"Host": "a'\"<script>alert(1)</script>"}).text
        assert "<script>alert" not in page


def test_stages_that_finish_meanwhile_are_listed(tmp_path: Path) -> None:
    save_run(tmp_path / "runs" / "one", "base")
    with serving(tmp_path / "runs") as server:

        def ids() -> list[str]:
            return [card["id"] for card in httpx.get(f"{server.url}/v1/models").json()["data"]]

        assert ids() == ["one/base"]
        save_run(tmp_path / "runs" / "one", "base", "sft")
        assert ids() == ["one/sft", "one/base"]
        body = {"model": "one", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
        assert server.post("/v1/chat/completions", body).json()["model"] == "one/sft"
