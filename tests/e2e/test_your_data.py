"""From a folder of one's own to a model that learnt from it: import, then a run of depth 4 with a
tokenizer of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chatling.tokenizer.bpe import Tokenizer

OVERRIDES = [
    *[
        "--model.depth",
        "4",
        "--model.width",
        "64",
        "--model.head-width",
        "16",
        "--model.context",
        "64",
        "--tokenizer.vocab_size",
        "1000",
    ],
    *[
        "--base.tokens",
        "10240",
        "--base.batch-tokens",
        "512",
        "--base.validation-tokens",
        "512",
        "--loop.evaluate-every",
        "10",
    ],
    *["--machine.compile", "off", "--machine.kernel", "plain", "--machine.threads", "1"],
]


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "sample"), [("pretrain_zh", "的"), ("small_text", " the")])
def test_a_folder_becomes_a_model(
    folder: str, sample: str, data_pack: Path, finish: Callable[[list[str]], str], tmp_path: Path
) -> None:
    chatling = [sys.executable, "-m", "chatling"]
    said = finish(
        [
            *chatling,
            "data",
            "import",
            str(data_pack / folder),
            "--to",
            str(tmp_path / "data" / "mine"),
        ]
    )
    assert "to train on" in said
    finish(
        [
            *chatling,
            "run",
            "folder",
            "--data.source",
            str(tmp_path / "data" / "mine"),
            "--run",
            "mine",
            *OVERRIDES,
        ]
    )
    run = tmp_path / "runs" / "mine"
    tokenizer = Tokenizer.load(run / "tokenizer")
    assert tokenizer.vocab_size == 1000
    assert len(tokenizer.encode(sample)) == 1  # its own tokenizer
    lines = [json.loads(line) for line in (run / "base" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 20
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    said = finish([*chatling, "data", "inspect", str(tmp_path / "data" / "mine"), "--run", "mine"])
    assert "bytes per token" in said
