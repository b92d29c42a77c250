"""Slices and shuffles of a task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.messages import Conversation, Part
from chatling.tasks.task import Task, visible_text


class Numbers(Task):
    """Asks for n; right when n is said."""

    name = "numbers"

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Conversation:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return Conversation.of(f"{index}?", str(index))

    def score(self, conversation: Conversation, completion: tuple[Part, ...]) -> bool:
        return visible_text(completion) == conversation.messages[-1].text


@given(st.integers(0, 40), st.integers(0, 1000))
def test_shuffled_is_a_seeded_permutation(count: int, seed: int) -> None:
    task = Numbers(count)
    assert list(task.shuffled(seed)) == list(task.shuffled(seed))
    assert sorted(c.messages[-1].text for c in task.shuffled(seed)) == sorted(
        map(str, range(count))
    )


def test_shuffled_moves_things_and_seeds_differ() -> None:
    task = Numbers(50)
    assert list(task.shuffled(0)) != list(task)
    assert list(task.shuffled(0)) != list(task.shuffled(1))


@given(
    st.integers(0, 30),
    st.integers(0, 35),
    st.one_of(st.none(), st.integers(0, 35)),
    st.integers(1, 5),
)
def test_sliced_is_a_list_slice(count: int, start: int, stop: int | None, step: int) -> None:
    assert list(Numbers(count).sliced(start, stop, step)) == list(Numbers(count))[start:stop:step]


def test_views_nest_and_score_like_the_task() -> None:
    view = Numbers(10).sliced(2, 8).sliced(1, 3)
    assert [c.messages[-1].text for c in view] == ["3", "4"]
    assert view.name == "numbers"
    assert view.kind == "generative"
    assert view.score(view[0], (Part("text", "3"),))
    assert not view.score(view[0], (Part("text", "4"),))
    for index in (-1, 2):
        with pytest.raises(IndexError):
            view[index]


def test_visible_text_leaves_the_calculator_out() -> None:
    assert (
        visible_text(
            (Part("text", "1+1="), Part("python", "1+1"), Part("output", "2"), Part("text", "2."))
        )
        == "1+1=2."
    )


class Graded(Numbers):
    """Pays for coming near, and knows what guessing among two gives."""

    kind = "categorical"
    baseline = 0.5
    notes = ("one row left out",)

    def reward(self, conversation: Conversation, completion: tuple[Part, ...]) -> float:
        return 0.25

    def choices(self, conversation: Conversation) -> tuple[str, ...]:
        return (conversation.messages[-1].text, "x")


def test_reward_is_the_score_unless_a_task_grades_more_finely() -> None:
    task = Numbers(3)
    assert [task.reward(task[1], (Part("text", said),)) for said in ("1", "2")] == [1.0, 0.0]
    view = Graded(3).sliced(1)
    assert view.reward(view[0], ()) == 0.25
    assert (view.kind, view.baseline, view.notes, view.choices(view[0])) == (
        "categorical",
        0.5,
        ("one row left out",),
        ("1", "x"),
    )
