"""Mixtures: exact counts, proportions along the way, the same on every call."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.data.mixtures import Mapped, Mixture, MixturePart
from chatling.errors import DataError, RecipeError
from chatling.messages import Conversation


def source(name, size):
    return [Conversation.of(f"{name} {i}?", f"{i}.") for i in range(size)]


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), min_size=1, max_size=4),
    st.integers(0, 9),
)
def test_every_conversation_comes_epochs_times(sizes, seed):
    mixture = Mixture(
        [
            MixturePart(str(i), source(str(i), size), epochs)
            for i, (size, epochs) in enumerate(sizes)
        ],
        seed,
    )
    met = Counter(mixture[i].messages[0].text for i in range(len(mixture)))
    assert met == Counter(
        {
            f"{i} {k}?": epochs
            for i, (size, epochs) in enumerate(sizes)
            for k in range(size)
            if epochs
        }
    )


@given(st.integers(1, 20), st.integers(0, 70), st.integers(0, 9))
def test_a_count_repeats_all_before_any_a_second_time(size, count, seed):
    mixture = Mixture(
        [MixturePart("a", source("a", size), count=count), MixturePart("b", source("b", 3))], seed
    )
    items = [item for part, item in map(mixture.locate, range(len(mixture))) if part == 0]
    assert len(items) == count
    assert all(
        len(set(items[at : at + size])) == len(items[at : at + size])
        for at in range(0, count, size)
    )


def test_parts_keep_their_proportion_all_along():
    mixture = Mixture(
        [
            MixturePart("a", source("a", 600)),
            MixturePart("b", source("b", 300)),
            MixturePart("c", source("c", 50), 2),
        ],
        7,
    )
    parts = np.array([mixture.locate(i)[0] for i in range(1000)])
    for begin in range(0, 1000, 100):
        share = np.bincount(parts[begin : begin + 100], minlength=3)
        assert np.abs(share - [60, 30, 10]).max() <= 3
    assert (
        len(set(map(tuple, parts.reshape(100, 10).tolist()))) > 20
    )  # proportion, not a fixed pattern


def test_order_depends_on_the_seed_alone():
    def order(seed):
        mixture = Mixture(
            [MixturePart("a", source("a", 30), 2), MixturePart("b", source("b", 20))], seed
        )
        return [mixture.locate(i) for i in range(len(mixture))]

    assert order(1) == order(1)
    assert order(1) != order(2)
    first = [item for part, item in order(1) if part == 0]
    assert first[:30] != first[30:]  # each pass has an order of its own


def test_random_access_needs_no_history():
    parts = [MixturePart("a", source("a", 30), 2), MixturePart("b", source("b", 20))]
    forward = Mixture(parts, 1)
    expected = [forward[i] for i in range(len(forward))]
    backward = Mixture(parts, 1)
    assert [backward[i] for i in reversed(range(len(backward)))] == expected[::-1]
    with pytest.raises(IndexError):
        forward[len(forward)]


def test_senseless_mixtures_are_refused():
    with pytest.raises(DataError, match="'empty' of the mixture holds no conversations"):
        Mixture([MixturePart("empty", [], count=3)], 0)
    with pytest.raises(RecipeError, match="-1 conversations of 'a'"):
        Mixture([MixturePart("a", source("a", 2), count=-1)], 0)


def test_mapping_is_lazy():
    seen = []
    mapped = Mapped([1, 2, 3], lambda x: seen.append(x) or 10 * x)
    assert len(mapped) == 3
    assert mapped[1] == 20
    assert seen == [2]
