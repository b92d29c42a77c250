"""Bits per byte against a brute-force computation in float64, token by token."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from chatling.data import IGNORE
from chatling.data.loaders import PretrainBatches
from chatling.data.packing import PackedRows
from chatling.data.shard_writer import write_token_shards
from chatling.data.token_shards import TokenShards
from chatling.evals.bpb import score_shards, stretched, write_bpb
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer

from .conftest import MakeModel

TEXTS = [
    "Plain words.",
    "ünïcödé — 汉字 🙂",
    "12345 67 8",
    " leading and trailing ",
    "\n\n\ttabs",
    "<|bos|> is only text here",
    "x" * 300,
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> TokenShards:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("bpb")
    pq.write_table(pa.table({"text": TEXTS * 3}), folder / "texts.parquet")
    return write_token_shards(folder / "shards", [folder / "texts.parquet"], tokenizer)


Totals = tuple[float, float, int, list[list[float]]]


def brute_force(
    model: GPT, tokenizer: Tokenizer, shards: TokenShards, context: int, seed: int
) -> Totals:
    """(nats of the tokens that stand for bytes, nats of all, bytes, losses by place): every target
    of every row by itself.
    """
    byte_nats = nats = 0.0
    size = 0
    places: list[list[float]] = [[] for _ in range(context)]
    rows = PretrainBatches(PackedRows(shards, context, tokenizer.bos, seed), 1, 1).once()
    for micro in rows:
        ids = torch.from_numpy(micro.inputs)
        with torch.no_grad():
            logprobs = model.logits(model(ids)).double().softmax(-1)[0]
        for place, target in enumerate(micro.targets[0].tolist()):
            if target != IGNORE:
                loss = -math.log(logprobs[place, target].item())
                length = len(tokenizer.decode_bytes([target]))
                nats, byte_nats, size = nats + loss, byte_nats + loss * (length > 0), size + length
                places[place].append(loss)
    return byte_nats, nats, size, places


@pytest.mark.parametrize("context", [16, 64, 100])  # the model was made for 64
def test_equals_brute_force_in_float64(
    make_model: MakeModel, tokenizer: Tokenizer, shards: TokenShards, context: int
) -> None:
    model = make_model(context=64)
    found = score_shards(model, tokenizer, shards, context=context, seed=3)
    reader = model if context <= 64 else stretched(model, context)
    byte_nats, nats, size, places = brute_force(reader, tokenizer, shards, context, seed=3)
    assert (
        found.bytes == size == sum(len(text.encode()) for text in TEXTS * 3)
    )  # every byte of the text, once
    assert found.bpb == pytest.approx(byte_nats / size / math.log(2), rel=1e-12)
    assert found.loss == pytest.approx(nats / found.tokens, rel=1e-12)
    assert len(found.positions) == context
    for loss, expected in zip(found.positions, places, strict=True):
        assert (
            math.isnan(loss)
            if not expected
            else loss == pytest.approx(np.mean(expected), rel=1e-12)
        )


def test_single_precision_is_close(
    make_model: MakeModel, tokenizer: Tokenizer, shards: TokenShards
) -> None:
    exact, single = (
        score_shards(make_model(dtype=dtype), tokenizer, shards).bpb
        for dtype in (torch.float64, torch.float32)
    )
    assert single == pytest.approx(exact, rel=1e-6)


def test_a_part_of_the_text(
    make_model: MakeModel, tokenizer: Tokenizer, shards: TokenShards
) -> None:
    part = score_shards(make_model(context=32), tokenizer, shards, tokens=100)
    assert part.tokens == 128  # whole rows


@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_stretched_is_the_same_function_within_the_context(
    make_model: MakeModel, preset: str
) -> None:
    model = make_model(preset, context=24)
    ids = torch.randint(0, 500, (2, 24), generator=torch.Generator().manual_seed(0))
    longer = stretched(model, 96)
    with torch.no_grad():
        assert (longer(ids) == model(ids)).all()
        assert longer(ids.repeat(1, 4)).isfinite().all()
    assert model.config.context == 24


def test_what_is_written(
    tmp_path: Path, make_model: MakeModel, tokenizer: Tokenizer, shards: TokenShards
) -> None:
    scores = {
        split: score_shards(make_model(), tokenizer, shards) for split in ("train", "validation")
    }
    write_bpb(RunFolder(tmp_path), "base", scores, 64)
    text = (tmp_path / "evals/base-bpb.json").read_text()
    assert "NaN" not in text
    results = json.loads(text)["results"]
    assert results["train"] == results["validation"] == scores["train"].bpb
    assert len(results["positions"]) == results["context"] == 64
