"""Scores of sequences that share a beginning, against each sequence alone through the model with
all its logits.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.evals.loglikelihood import ModelScorer, Question, crop, length_sorted, question_rows

from .conftest import MakeModel

CONTEXT = 24
Tokens = list[int]


def question(beginning: Tokens, endings: list[Tokens], starts: list[int]) -> Question:
    sequences = tuple(np.array([7, *beginning, *ending]) for ending in endings)
    return Question(
        sequences,
        tuple(
            1 + start % len(sequence) for start, sequence in zip(starts, sequences, strict=False)
        ),
    )


tokens = st.lists(
    st.integers(0, 3), max_size=8
)  # few different ones: endings begin alike, repeat and contain one another
questions = st.lists(
    st.builds(
        question,
        tokens,
        st.lists(tokens, min_size=1, max_size=5),
        st.lists(st.integers(0, 99), min_size=5, max_size=5),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("preset", ["classic", "modern"])
@given(asked=questions, batch=st.sampled_from([1, 30, 1000]))
@settings(max_examples=25, deadline=None)
def test_shared_beginnings_change_no_score(
    make_model: MakeModel, preset: str, asked: list[Question], batch: int
) -> None:
    model = make_model(preset, context=CONTEXT)
    found = ModelScorer(model, batch_tokens=batch).score(asked)
    for each, scores in zip(asked, found, strict=True):
        for ids, start, score in zip(each.sequences, each.starts, scores, strict=True):
            with torch.no_grad():
                logits = model.logits(model(torch.from_numpy(ids)[None]))[0]
            goals = torch.from_numpy(ids[start:])
            expected = (
                torch.nn.functional.cross_entropy(logits[start - 1 : -1], goals, reduction="sum")
                if len(goals)
                else 0.0
            )
            assert score.tokens == len(goals)
            assert score.nats == pytest.approx(float(expected), abs=1e-9)
            assert score.greedy == bool((logits[start - 1 : -1].argmax(-1) == goals).all())


@given(asked=questions)
@settings(max_examples=50, deadline=None)
def test_no_row_costs_more_tokens_than_its_sequences(asked: list[Question]) -> None:
    for each in asked:
        rows = list(question_rows(0, each, width=32))
        assert sum(map(len, rows)) <= sum(len(ids) - 1 for ids in each.sequences)
        owners = sorted(i for row in rows for _, sequences, _ in row.spans for i in sequences)
        assert owners == [i for i, ids in enumerate(each.sequences) if len(ids) > each.starts[i]]


def test_the_choices_of_a_question_are_read_once() -> None:
    prompt = np.arange(100)
    letters = Question(
        tuple(np.array([*prompt, letter]) for letter in (200, 201, 202, 203)), (100,) * 4
    )
    (row,) = question_rows(0, letters, width=64)
    assert len(row) == 100
    assert row.targets.tolist() == [200, 201, 202, 203]
    assert row.wanted.tolist() == [99] * 4


def test_cropped_at_different_places_they_are_read_apart() -> None:
    sequences = tuple(np.arange(first, 60) for first in (0, 1, 2))
    assert [len(row) for row in question_rows(0, Question(sequences, (50, 49, 48)), width=64)] == [
        59,
        58,
        57,
    ]


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_batches_hold_everything_once_and_little_padding(lengths: list[int], budget: int) -> None:
    found = length_sorted(lengths, budget)
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    assert all(
        len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget for batch in found
    )
    longest = [max(lengths[i] for i in batch) for batch in found]
    assert longest == sorted(longest, reverse=True)


def test_crop_keeps_the_end_and_moves_what_is_scored() -> None:
    short, long = np.arange(4), np.arange(10)
    cropped = crop(Question((short, long), (3, 8)), 5)
    assert [ids.tolist() for ids in cropped.sequences] == [[0, 1, 2, 3], [5, 6, 7, 8, 9]]
    assert cropped.starts == (3, 3)
    whole = Question((short,), (3,))
    assert crop(whole, 4) is whole
    assert crop(whole, None) is whole
    assert crop(Question((long,), (2,)), 5).starts == (
        1,
    )  # the scored part itself was longer than the context
