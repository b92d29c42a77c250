"""Example prompts come from what the run itself held out, in its language; else there are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.data.shard_writer import write_conversation_shards, write_token_shards
from chatling.messages import Conversation
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render

from .conftest import save_run, serving

QUESTIONS = [f"第{n}个问题是什么？" for n in range(9)]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = save_run(tmp_path / "runs" / "tiny", "base", "sft")
    tokenizer = Tokenizer.load(run.tokenizer)
    talks = [
        Conversation.of(text, "是的。", "more?", "no", system="你是\n助手。" if i % 2 else None)
        for i, text in enumerate([*QUESTIONS, "长" * 200, "two\nlines"])
    ]
    rows = [render(tokenizer, talk) for talk in talks]
    write_conversation_shards(
        run.data / "sft-validation", rows, tokenizer.vocab_size, fingerprint="x"
    )
    return run


def asked(run: RunFolder, stage: str) -> list[str]:
    with serving(run.path.parent) as server:
        answer = httpx.get(f"{server.url}/api/runs/tiny/examples", params={"stage": stage})
        assert answer.status_code == 200
        found: list[str] = answer.json()["prompts"]
        return found


def test_questions_that_were_held_out(run: RunFolder) -> None:
    found = asked(run, "rl")
    assert len(found) == 4
    assert set(found) < set(QUESTIONS)
    assert asked(run, "base") == []
    shutil.rmtree(run.data)
    assert asked(run, "sft") == []


def test_a_base_model_gets_beginnings(run: RunFolder, tmp_path: Path) -> None:
    texts = [
        "从前有一只小猫住在森林里。" * 9,
        "Once upon a time there was a little cat that slept.",
    ]
    pq.write_table(pa.table({"text": texts}), tmp_path / "texts.parquet")
    tokenizer = Tokenizer.load(run.tokenizer)
    write_token_shards(run.data / "base-validation", [tmp_path / "texts.parquet"], tokenizer)
    assert asked(run, "base") == ["Once upon a time there was a", texts[0][:32]]


def test_damaged_data_give_none(run: RunFolder) -> None:
    for tokens in run.data.rglob("tokens.bin"):
        tokens.write_bytes(b"\xff" * tokens.stat().st_size)
    assert asked(run, "sft") == []
