"""SamplingParams: the right distribution, filters, ties, and rows that do not see each other."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.errors import ChatlingError
from chatling.inference.sampling import Sampler, SamplingParams, uniform

CPU = torch.device("cpu")


def draw(logits: torch.Tensor, rows: list[SamplingParams], position: int = 0) -> list[int]:
    return Sampler(rows, logits.shape[1], CPU)(logits, [position] * len(rows))[0].tolist()


def test_uniform_is_uniform_and_fixed() -> None:
    numbers = np.array([uniform(seed, position) for seed in range(100) for position in range(100)])
    assert 0 <= numbers.min() < 0.001 < 0.999 < numbers.max() < 1
    assert len(set(numbers)) == len(numbers)
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert (
        (counts - 500) ** 2 / 500
    ).sum() < 45  # chi-square with 19 degrees of freedom, p about 0.001
    grid = numbers.reshape(100, 100)
    assert abs(np.corrcoef(grid[:-1].ravel(), grid[1:].ravel())[0, 1]) < 0.04  # neighbouring seeds
    assert (
        abs(np.corrcoef(grid[:, :-1].ravel(), grid[:, 1:].ravel())[0, 1]) < 0.04
    )  # neighbouring positions
    assert uniform(-1, 0) == uniform(2**64 - 1, 0)  # any int is a seed
    assert uniform(0, 0) == pytest.approx(uniform(0, 0), abs=0)


def test_frequencies_follow_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    for temperature in (1.0, 2.0):
        sampler = Sampler([SamplingParams(temperature=temperature, seed=9)], 4, CPU)
        counts = Counter(int(sampler(logits, [i])[0]) for i in range(4000))
        for token, share in enumerate((logits[0] / temperature).softmax(-1).tolist()):
            assert counts[token] / 4000 == pytest.approx(share, abs=0.025)


def brute_force_filter(logits: np.ndarray, top_k: int, top_p: float) -> set[int]:
    """Tokens that may be drawn; no ties assumed."""
    order = np.argsort(-logits)[: top_k or None]
    shares = np.exp(logits[order] - logits[order].max())
    shares /= shares.sum()
    kept, total = set(), 0.0
    for token, share in zip(order, shares, strict=True):
        if total >= top_p:
            break
        kept.add(int(token))
        total += share
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 14), st.sampled_from([0.05, 0.3, 0.62, 0.9, 1.0]))
def test_filters(seed: int, top_k: int, top_p: float) -> None:
    logits = torch.tensor(np.random.default_rng(seed).normal(0, 2, (1, 12)), dtype=torch.float32)
    allowed = brute_force_filter(logits[0].double().numpy(), top_k, top_p)
    sampler = Sampler([SamplingParams(top_k=top_k, top_p=top_p, seed=seed)], 12, CPU)
    drawn = {int(sampler(logits, [i])[0]) for i in range(60)}
    assert drawn <= allowed
    if len(allowed) > 1 and top_p < 1:
        shares = logits[0, sorted(allowed)].softmax(-1)
        if shares.min() > 0.15:
            assert drawn == allowed


def test_temperature_zero_is_argmax_and_ties_take_the_lowest() -> None:
    logits = torch.zeros(3, 50)
    logits[1, [7, 30]] = 2.0
    logits[2, 49] = 1e-6
    assert draw(logits, [SamplingParams(temperature=0.0, seed=i) for i in range(3)]) == [0, 7, 49]
    assert draw(logits, [SamplingParams(temperature=1e-30, seed=i) for i in range(3)]) == [0, 7, 49]
    assert draw(logits * 1e4, [SamplingParams(temperature=1e-4, seed=i) for i in range(3)])[2] == 49


_kinds = st.sampled_from([{}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 0.0}, {"top_k": 10**9}])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(_kinds, min_size=2, max_size=6))
def test_rows_are_independent(seed: int, kinds: list[dict[str, Any]]) -> None:
    logits = torch.randn(len(kinds), 300, generator=torch.Generator().manual_seed(seed)) * 3
    rows = [SamplingParams(**kind, seed=seed + i) for i, kind in enumerate(kinds)]
    ids, logprobs = Sampler(rows, 300, CPU)(logits, [seed % 17] * len(rows))
    for i, row in enumerate(rows):
        token, logprob = Sampler([row], 300, CPU)(logits[i : i + 1], [seed % 17])
        assert (int(token), float(logprob)) == (int(ids[i]), float(logprobs[i]))
        assert float(logprob) == pytest.approx(float(logits[i].log_softmax(-1)[token]), abs=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"max_tokens": 0},
        {"stop": ("",)},
        {"stop": "END"},
        {"stop": (5,)},
        {"stop": None},
        {"temperature": "hot"},
        {"temperature": None},
        {"temperature": 1e-5j},
        {"top_p": 1e-46},
        {"top_p": float("nan")},
        {"min_p": -1e-300},
        {"top_k": 2.5},
        {"seed": 0.5},
        {"max_tokens": float("inf")},
        {"repetition_penalty": 1e-300},
        {"repetition_penalty": 1e-38},
        {"repetition_penalty": float("inf")},
        {"logit_bias": {5: 1.0}},
        {"logit_bias": ((1.5, 1.0),)},
        {"logit_bias": ((1, float("nan")),)},
        {"top_logprobs": "all"},
    ],
)
def test_values_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ChatlingError, match=next(iter(bad))):
        SamplingParams(**bad)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.2, 3))
def test_min_p(seed: int, min_p: float, temperature: float) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (1, 12))).float()
    rows = [SamplingParams(temperature=temperature, min_p=min_p, seed=draw) for draw in range(300)]
    drawn = set(draw(logits.expand(300, -1), rows))
    shares = (logits[0] / temperature).softmax(-1)
    kept = {
        token: share
        for token, share in enumerate(shares.tolist())
        if share >= min_p * float(shares.max()) * (1 - 1e-5)
    }
    assert (
        {token for token, share in kept.items() if share > 0.06 * sum(kept.values())}
        <= drawn
        <= kept.keys()
    )


def test_penalty_and_bias_move_one_row_alone() -> None:
    logits = torch.tensor([[2.0, 1.9, -1.0, -1.1]] * 4)
    rows = [
        SamplingParams(0),
        SamplingParams(0, repetition_penalty=1.5),
        SamplingParams(0, logit_bias=((3, 5.0), (99, 1.0))),
    ]
    rows.append(SamplingParams(0, repetition_penalty=0.5))
    sampler = Sampler(rows, 4, CPU, [(0,), (0,), (0,), (2,)])
    ids, logprobs = sampler(logits, [0] * 4)
    assert ids.tolist() == [0, 1, 3, 0]
    assert logprobs.tolist() == pytest.approx(
        logits.log_softmax(-1).gather(1, ids[:, None])[:, 0].tolist()
    )  # the model's own
    sampler.saw([1, 1, 1, 1])
    assert sampler(logits, [1] * 4)[0].tolist() == [
        0,
        0,
        3,
        1,
    ]  # both penalised: 1.33 before 1.27; rewarded: 3.8
    assert sampler.likeliest(logits) == [()] * 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_p": 1.5},
        {"repetition_penalty": 0},
        {"logit_bias": ((1, 200.0),)},
        {"top_logprobs": 21},
    ],
)
def test_new_values_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ChatlingError, match=next(iter(wrong))):
        SamplingParams(**wrong)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "temperature": st.floats(0, 100),
                "top_p": st.floats(1e-6, 1),
                "min_p": st.floats(0, 1),
                "top_k": st.integers(0, 2**70),
                "repetition_penalty": st.floats(0.01, 100),
                "seed": st.integers(),
            },
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([0.0, 1e-30, 1.0, 300.0]),
)
def test_whatever_is_let_through_draws_a_token(rows: list[dict[str, Any]], scale: float) -> None:
    """One that its settings keep, and the likeliest is always among these."""
    logits = torch.linspace(-scale, scale, 11).expand(len(rows), -1)
    settings = [SamplingParams(**row) for row in rows]
    ids, logprobs = Sampler(settings, 11, CPU, [(10, 0)] * len(rows))(logits, [0] * len(rows))
    assert 0 <= ids.min() <= ids.max() < 11
    assert logprobs.isfinite().all()
    alone = [replace(each, top_k=1, repetition_penalty=1) for each in settings]
    if scale >= 1:  # no ties
        assert set(draw(logits, alone)) == {10}
