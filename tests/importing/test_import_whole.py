"""A model of nanochat's from its files to ours and out again, by the command line in processes of
their own: it chats, is evaluated, is trained on, is killed, resumes, is exported and comes back.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from chatling.export.hf import is_classic
from chatling.export.source import Source
from chatling.importing.source import fingerprint
from chatling.run_dir import RunFolder

from .nanochat_files import write_nanochat

TALKS = [
    {"messages": [{"role": "user", "content": f"Who {i}?"}, {"role": "assistant", "content": said}]}
    for i in range(48)
    for said in ("A fox.", "12 foxes.")
]


@pytest.fixture
def chatling(tmp_path) -> Callable[..., str]:
    """Run a command; its output."""

    def run(*words: object) -> str:
        command = [sys.executable, "-m", "chatling", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
        return done.stdout

    return run


def killed(words: list[object], when: Callable[[], bool]) -> int:
    """The code of a command that is killed once `when` holds."""
    command = [sys.executable, "-m", "chatling", *map(str, words)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        deadline = time.monotonic() + 600
        while process.poll() is None and not when():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        return process.wait()


@pytest.mark.slow
def test_an_imported_model_does_all_that_one_of_ours_does(trained, tmp_path, chatling):
    """One of the models is trained wholly, the other by adapters."""
    table = "[sft.adapter]\n" if trained.model.config.layer_scalars else ""
    folder = write_nanochat(trained, tmp_path / "nanochat")
    chatling("import", folder, "--run", "mine")
    assert fingerprint(Source.of(RunFolder.open("mine"), "sft")) == fingerprint(trained)
    assert chatling("chat", "mine", "--prompt", "Who?", "--max-tokens", 5)
    chatling("eval", "mine", "chat", "--tasks", "pocket", "--questions", 2, "--max-tokens", 8)
    scores = json.loads((RunFolder.open("mine").evals / "sft-chat.json").read_text())
    assert scores["questions"] == 2

    talks = tmp_path / "talks.jsonl"
    talks.write_text("\n".join(map(json.dumps, TALKS)))
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        f'[origin]\nsource = "mine"\n[sft]\nbatch_conversations = 8\nmixture = '
        f'[{{task = "{talks}"}}]\n{table}'
        '[machine]\ndevice = "cpu"\ndtype = "float32"\ncompile = "off"\nthreads = 1\n'
        "[loop]\nsave_every = 2\nevaluate_every = 0\n"
    )
    chatling("run", recipe, "--run", "whole")
    log = tmp_path / "home/runs/broken/sft/metrics.jsonl"
    for steps in (3, 7):
        code = killed(
            ["run", recipe, "--run", "broken"],
            lambda steps=steps: log.exists() and log.read_text().count("\n") >= steps,
        )
        assert code == -9
    said = chatling("run", "broken")
    assert "resumes" in said
    marks = [fingerprint(Source.of(RunFolder.open(run), "sft")) for run in ("whole", "broken")]
    assert marks[0] == marks[1] != fingerprint(trained)

    chatling("export", "broken", "hf", "--out", tmp_path / "hf")
    chatling("import", tmp_path / "hf", "--run", "back")
    assert fingerprint(Source.of(RunFolder.open("back"), "sft")) == marks[0]
    if is_classic(trained.model.config):
        chatling("export", "broken", "gguf", "--out", tmp_path / "gguf")
        assert (tmp_path / "gguf/model.gguf").exists()
