"""Bits per byte and CORE of the reference's own small model."""

from __future__ import annotations

import base64
import random

import numpy as np
import pytest
import torch

from chatling.data import IGNORE
from chatling.evals.bpb import score_tokens
from chatling.evals.core import ORDER_SEED, evaluate_core, render, score_task, shots
from chatling.evals.core_bundle import read_bundle
from chatling.evals.loglikelihood import ModelScorer
from chatling.hardware.distributed import DistContext
from chatling.model.gpt import GPT
from chatling.model.losses import token_losses
from chatling.tokenizer.bpe import Tokenizer

from .reference import EXPECTED, arrays, expected, model_like, tensors

RESULTS, BPB = expected("core/results.json"), expected("bpb/bpb.json")["cases"]


@pytest.fixture(scope="session")
def model() -> GPT:
    shape = RESULTS["model"]
    head_width = shape["width"] // shape["heads"]
    model = GPT(model_like(shape | {"preset": "classic", "head_width": head_width}))
    model.load_state_dict(tensors("core/weights.safetensors"))
    return model


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    lines = (EXPECTED / "rendering/ranks.tiktoken").read_bytes().splitlines()
    return Tokenizer([base64.b64decode(line.split()[0]) for line in lines], digits=2)


@pytest.mark.parametrize("case", BPB)
def test_bits_per_byte(model: GPT, tokenizer: Tokenizer, case: str) -> None:
    data, row = arrays("bpb/batches.npz"), BPB[case]
    assert np.array_equal(data["token_bytes"], tokenizer.token_bytes)
    inputs, targets = (
        torch.from_numpy(data[f"{case}_{what}"].astype(np.int64)) for what in ("inputs", "targets")
    )
    assert IGNORE == -1  # as in the file
    with torch.no_grad():
        losses, _ = token_losses(model(inputs), model.lm_head.weight, targets, model.config.softcap)
    wanted = torch.from_numpy(data[f"{case}_losses"]).where(targets != IGNORE, 0.0)
    assert (losses - wanted).abs().max() < 2e-5
    lengths = torch.from_numpy(tokenizer.token_bytes)
    found = score_tokens(model, [(inputs, targets)], lengths, DistContext())
    assert found.bpb == pytest.approx(row["bpb"], rel=1e-6)
    assert (found.bytes, found.tokens) == (row["bytes"], row["tokens_learnt"])
    assert found.loss == pytest.approx(row["mean_loss_of_learnt"], abs=2e-5)


@pytest.mark.parametrize("label", RESULTS["tasks"])
def test_core_task(model: GPT, tokenizer: Tokenizer, label: str) -> None:
    tasks, problems = read_bundle(EXPECTED / "core/bundle")
    assert not problems
    (task,) = (task for task in tasks if task.label == label)
    row = RESULTS["tasks"][label]
    assert (task.kind, task.shots) == (row["kind"], row["shots"])
    items = list(task.items)
    random.Random(ORDER_SEED).shuffle(items)
    shown = [items[i] for i in shots(0, task.shots, len(items))]
    assert render(task, items[0], shown) == row["items"][0]["prompts"]
    outcomes, _ = score_task(ModelScorer(model), tokenizer, task)
    assert [outcome.line for outcome in outcomes] == [item["line"] for item in row["items"]]
    assert [outcome.correct for outcome in outcomes] == [item["correct"] for item in row["items"]]
    for outcome, item in zip(outcomes, row["items"], strict=True):
        wanted = [float("nan") if loss is None else loss for loss in item["losses"]]
        assert outcome.losses == pytest.approx(wanted, abs=2e-5, nan_ok=True)


def test_core_score(model: GPT, tokenizer: Tokenizer) -> None:
    result = evaluate_core(model, tokenizer, EXPECTED / "core/bundle")
    assert result.core == pytest.approx(RESULTS["core"], abs=1e-12)
    for label, row in RESULTS["tasks"].items():
        assert result.tasks[label].accuracy == row["accuracy"]
        assert result.tasks[label].centered == pytest.approx(row["centered"], abs=1e-12)
