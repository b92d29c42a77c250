"""Other servers on what was exported, by the measurement and the comparison that `chatling bench
serve --url` makes: llama.cpp's own here, vLLM where it is installed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatling.bench.serve import QUESTIONS, get, measure_serving
from chatling.cli import main
from chatling.export import gguf
from chatling.export.formats import export
from chatling.importing.origin import keep
from chatling.run_dir import RunFolder
from chatling.run_state import fresh

from .test_gguf import LlamaServer


@pytest.fixture
def run(learned, tmp_path, monkeypatch) -> RunFolder:
    """A run of a model that has learned what it says."""
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    folder = RunFolder(tmp_path / "home/runs/learned")
    keep(learned("classic", 1), folder, "sft")
    folder.write_state(fresh())
    return folder


def rows(url: str, run: RunFolder, **load: int) -> dict[str, float]:
    load = {"streams": 3, "tokens": 12, "rounds": 1} | load
    found = measure_serving(url=url, run=run.name, **load)
    return {str(row["measure"]): float(row["value"]) for row in found}


def agreement(found: dict[str, float]) -> float:
    return next(value for name, value in found.items() if "greedy" in name)


def test_llama_cpp_is_measured_and_gives_the_runs_answers(learned, run, folder, capsys):
    export(learned("classic", 1), "gguf", folder, "f32")
    server = LlamaServer(folder / gguf.FILE)
    url = server.server.listening_address
    found = rows(f"{url}/v1/", run)
    assert agreement(found) == len(QUESTIONS)
    assert found["serve, 1 stream"] > 0
    assert found["serve, 3 streams"] > 0
    # a model of other weights gives others
    keep(learned("classic", 1, 30), run, "sft")
    assert agreement(rows(url, run)) < len(QUESTIONS)


@pytest.mark.parametrize(
    "words",
    [
        ["serve", "--url", "http://localhost:9"],
        ["serve", "--url", "localhost:8000"],
        ["decode", "--url", "http://localhost:8000"],
        ["--url", "http://localhost:8000"],
    ],
)
def test_what_cannot_be_measured_is_a_sentence(words, capsys):
    assert main(["bench", *words]) in (1, 2)
    said = capsys.readouterr().err
    assert words[-1] in said
    assert "Traceback" not in said


@contextmanager
def started(command: list[str], path: str, environment: dict[str, str]) -> Iterator[str]:
    """The address of a server that listens on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([*command, "--port", str(port)], env=environment) as process:
        try:
            url, ends = f"http://localhost:{port}", time.monotonic() + 300
            while asyncio.run(get(url, path))[0] != 200:
                assert process.poll() is None
                assert time.monotonic() < ends
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()


@pytest.mark.slow
def test_our_own_server_gives_the_runs_answers(run):
    command = [sys.executable, "-m", "chatling", "serve", run.name]
    with started(command, "/health", dict(os.environ)) as url:
        assert agreement(rows(url, run)) == len(QUESTIONS)


VLLM = os.environ.get("VLLM", shutil.which("vllm") or "")


@pytest.mark.slow
@pytest.mark.skipif(not VLLM, reason="vLLM pins releases of its own: VLLM names its program")
def test_vllm_gives_the_runs_answers(learned, run, folder):
    source = learned("classic", 1, head_width=32)  # its attention takes no heads of 16 on a CPU
    keep(source, run, "sft")
    export(source, "hf", folder)
    words = f"serve {folder} --model-impl transformers --dtype float32 --max-model-len 96"
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    quiet |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PATH": os.environ["PATH"]}
    command = [VLLM, *words.split(), "--enforce-eager", "--max-num-seqs", "8"]
    with started(command, "/health", {"HOME": str(Path.home()), **quiet}) as url:
        assert agreement(rows(url, run)) == len(QUESTIONS)
