"""What is held out: never everything, never nothing, and the same texts each time."""

import pytest

from chatling.data.splits import held_out_conversations, is_held_out, split_files


def test_the_last_file_is_for_validation():
    assert split_files(["a", "b", "c"]) == (["a", "b"], ["c"])


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (99, 1), (100, 2), (850_000, 17_000)])
def test_a_fiftieth_of_the_conversations_and_at_least_one(count, held_out):
    assert held_out_conversations(count) == held_out


def test_texts_are_held_out_by_what_they_say():
    texts = [f"prompt {i}" for i in range(2000)]
    chosen = [text for text in texts if is_held_out(text, 20)]
    assert 60 < len(chosen) < 140
    assert chosen == [text for text in reversed(texts) if is_held_out(text, 20)][::-1]
