"""Needles, and the gates of a longer context."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from chatling.data.token_shards import TokenShards
from chatling.evals import long_context
from chatling.evals.long_context import (
    DEPTHS,
    LongScores,
    NeedleScore,
    core_gate,
    evaluate_long,
    is_long,
    lengths,
    needle_questions,
)
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer


@pytest.fixture
def text(tokenizer: Tokenizer) -> TokenShards:
    documents = [
        np.array(tokenizer.encode(f"The cat number {i} sat on it. " * 6)) for i in range(30)
    ]
    offsets = np.cumsum([0, *map(len, documents)])
    return TokenShards([np.concatenate(documents)], offsets, tokenizer.vocab_size)


def test_lengths_double() -> None:
    assert lengths(128, 512) == [128, 256, 512]
    assert lengths(2048, 5000) == [2048, 4096, 5000]


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_needle_is_told_once_at_its_depth_and_asked_for_in_the_end(
    tokenizer: Tokenizer, text: TokenShards, depth: float
) -> None:
    questions = needle_questions(tokenizer, text, 200, depth, seed=3)
    assert len(questions) == long_context.ASKED
    for question in questions:
        right, *wrong = (tokenizer.decode(ids[1:].tolist()) for ids in question.sequences)
        # the last token is not read, so that the text fits a context of 200
        assert max(map(len, question.sequences)) <= 201
        assert max(map(len, question.sequences)) >= 200
        number = right[-4:]
        assert right.count(number) == 2
        assert right.count("secret") == 2
        assert right.endswith(f"is {number}")
        assert len({other[-4:] for other in wrong} - {number}) == 3
        for other in wrong:
            assert other.count(other[-4:]) == 1
            assert other[:-4] == right[:-4]
        place = right.index(" The secret") / right.rindex(" The secret")
        assert place == pytest.approx(depth * (1 - 35 / len(right)), abs=0.2)
        start = question.starts[0]
        assert tokenizer.decode(question.sequences[0][start:].tolist()).strip() == number


def scores(**changes: object) -> LongScores:
    """Of a model that passes."""
    needles = tuple(
        NeedleScore(length, depth, 19, 20) for length in (32, 64, 128) for depth in DEPTHS
    )
    before = (*[2.0] * 32, *[5.0] * 96)
    return replace(
        LongScores(32, 128, needles, 1.001, 1.0, (2.0,) * 128, before),
        **changes,  # type: ignore[arg-type]
    )


def passed(found: LongScores) -> dict[str, bool]:
    return {gate.name: gate.passed for gate in found.gates}


def test_gates_pass_and_fail_each_for_its_own_reason() -> None:
    assert passed(scores()) == {"needle": True, "loss by place": True, "bits per byte": True}
    fewer = tuple(
        replace(each, correct=12 if each.length == 128 else 19) for each in scores().needles
    )
    assert passed(scores(needles=fewer))["needle"] is False
    noise = tuple(
        replace(each, correct=18 if each.length == 128 else 19) for each in scores().needles
    )
    assert passed(scores(needles=noise))["needle"] is True
    guessed = tuple(replace(each, correct=5) for each in scores().needles)
    assert passed(scores(needles=guessed))["needle"] is False  # nor did the short context find any
    harder = (*[2.0] * 32, *[2.1] * 96)
    assert passed(scores(positions=harder))["loss by place"] is False
    unknown = (*[2.0] * 100, *[math.nan] * 28)
    assert passed(scores(positions=unknown))["loss by place"] is True
    assert passed(scores(bpb=1.006))["bits per byte"] is False


def test_core_may_be_worse_by_noise_alone() -> None:
    def result(accuracy: float, count: int) -> dict[str, object]:
        task = {"accuracy": accuracy, "count": count, "baseline": 0.25}
        return {"core": (accuracy - 0.25) / 0.75, "tasks": {"one": task}}

    assert core_gate(result(0.60, 100), result(0.55, 100)).passed
    assert not core_gate(result(0.60, 10_000), result(0.55, 10_000)).passed
    assert core_gate(result(0.60, 10_000), result(0.65, 10_000)).passed


def test_what_is_measured_is_what_is_read_back(
    make_model: Callable[..., GPT],
    tokenizer: Tokenizer,
    text: TokenShards,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = make_model(dtype=torch.float32)
    after = GPT(replace(before.config, context=256)).eval()
    after.load_state_dict(before.state_dict())
    monkeypatch.setattr(long_context, "ASKED", 2)
    found = evaluate_long(after, before, tokenizer, text, tokens=600)
    assert found.bpb == pytest.approx(found.bpb_before)  # the same weights and angles
    assert found.positions == pytest.approx(found.before, nan_ok=True)
    assert [(each.length, each.depth) for each in found.needles] == [
        (length, depth) for length in (64, 128, 256) for depth in DEPTHS
    ]
    assert is_long(found.to_dict())
    for name, odd in (("gates", None), ("needles", [{}]), ("short", "64"), ("before", [[]])):
        assert not is_long(found.to_dict() | {name: odd})
