"""A real server on a free port, over runs with small random models: two stages of one run, and the
openai client to talk to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from chatling.inference.async_engine import AsyncEngine
from chatling.inference.engine import Engine
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.serve.app import create_app
from chatling.serve.errors import Limits
from chatling.serve.model_manager import ModelManager
from chatling.serve.server import Server, listen, server_config
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.checkpoint import load_model, save_model

CONTEXT = 192
WIDTH = 4


def random_model(vocab_size: int, seed: int, context: int = CONTEXT) -> GPT:
    model = GPT(ModelConfig(2, 32, 2, 2, vocab_size, context, 64))
    generator = torch.Generator().manual_seed(seed)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                torch.empty_like(parameter).normal_(
                    0, parameter.shape[-1] ** -0.5, generator=generator
                )
            )
        model.lm_head.weight *= 2
        model.lm_head.weight[-9:] = 0  # special tokens are rare, so that answers have a length
    return model


def save_run(folder: Path, *stages: str, seed: int = 0, context: int = CONTEXT) -> RunFolder:
    run = RunFolder(folder)
    tokenizer = Tokenizer(
        [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the", b"an", b" an", b"12"],
        digits=2,
    )
    tokenizer.save(run.tokenizer)
    for i, stage in enumerate(stages):
        save_model(
            random_model(tokenizer.vocab_size, seed + i, context),
            run.model(stage),
            {"stage": stage},
        )
    run.write_state(
        {
            "stages": {stage: {"status": "done", "seconds": 1.0, "resumes": 0} for stage in stages},
            "execution": {},
        }
    )
    return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/ with one run, `tiny`, of two stages."""
    folder = tmp_path_factory.mktemp("home") / "runs"
    save_run(folder / "tiny", "base", "sft")
    return folder


def load_service(run: RunFolder, stage: str, queue_limit: int = 200) -> AsyncEngine:
    engine = Engine(
        load_model(run.model(stage)), Tokenizer.load(run.tokenizer), max_batch_size=WIDTH
    )
    return AsyncEngine([engine], queue_limit=queue_limit)


@dataclass
class Running:
    """A server in this process."""

    url: str
    models: ModelManager
    server: Server

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            **{"api_key": "none", "max_retries": 0, "timeout": 60, **options},
        )

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60, **more)

    def stats(self, model: str = "tiny/sft") -> dict[str, int]:
        return self.models.loaded[model].service.stats()

    def idle(self, within: float = 10.0) -> bool:
        """Whether every slot becomes free soon."""
        ends = time.monotonic() + within
        while time.monotonic() < ends:
            if all(
                not (s["running"] or s["waiting"])
                for s in (model.service.stats() for model in self.models.loaded.values())
            ):
                return True
            time.sleep(0.02)
        return False


@contextmanager
def serving(
    runs: Path,
    *,
    load: Callable[[RunFolder, str], AsyncEngine] = load_service,
    limits: Limits | None = None,
    first: tuple[RunFolder, str] | None = None,
    **options: Any,
) -> Iterator[Running]:
    limits = limits or Limits()
    listener = listen("127.0.0.1", 0)
    models = ModelManager(runs, load, limits.models, first)
    server = Server(server_config(create_app(models, limits, **options)), models)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", models, server)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def server(runs: Path) -> Iterator[Running]:
    """For all tests that leave it as they found it."""
    with serving(runs, first=(RunFolder(runs / "tiny"), "sft")) as running:
        yield running


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return server.client()
