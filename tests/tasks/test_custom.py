"""Files of conversations: what they may hold, which bad lines are left out with a note, and when
the file is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.errors import DataError
from chatling.messages import Conversation
from chatling.tasks.custom import Conversations, JsonlConversations, JsonLines
from chatling.tasks.registry import load_task

GOOD = json.dumps(Conversation.of("Hi", "Yes").to_dict()).encode()
USER = b'{"role": "user", "content": "a"}'
BAD_LINES = [
    (b"{", "Expecting property name"),
    (b"[1]", "a list where an object with named values is expected: [1]"),
    (b"3", "a number where an object with named values is expected: 3"),
    (b'{"messages": 3}', "no conversation"),
    (b'{"messages": []}', "no conversation"),
    (b'{"messages": [{"role": "user"}]}', "no conversation"),
    (b'{"messages": [{"role": "user", "content": "only a question"}]}', "no user message"),
    (
        b'{"messages": [{"role": "assistant", "content": "first"}]}',
        "from 'assistant', expected 'user'",
    ),
    (
        b'{"messages": [%s, %s, {"role": "assistant", "content": "c"}]}' % (USER, USER),
        "from 'user', expected 'assistant'",
    ),
    (b'{"messages": [{"role": "narrator", "content": "a"}]}', "from 'narrator'"),
    (
        b'{"messages": [%s, {"role": "assistant", "content": "  "}]}' % USER,
        "empty assistant message",
    ),
    (b'{"messages": [%s, {"role": "assistant", "content": 5}]}' % USER, "content"),
    (
        b'{"messages": [%s, {"role": "assistant", "content": [{"type": "sound", "text": "x"}]}]}'
        % USER,
        "'sound'",
    ),
    (b"\xff\xfe", "utf-8"),
    (b"[" * 100_000, ""),
]


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"\n".join(lines))
    return path


def everything(path: Path) -> list[Conversation]:
    return [*JsonlConversations(path, "validation"), *JsonlConversations(path, "train")]


def test_line_separators_inside_a_text_do_not_cut_it(tmp_path: Path) -> None:
    said = [Conversation.of(f"Say {i}\u2028now\x85", "Yes\u2029.") for i in range(3)]
    path = write(
        tmp_path / "chat.jsonl",
        *(json.dumps(one.to_dict(), ensure_ascii=False).encode() for one in said),
    )
    assert everything(path) == said


def test_other_shapes_and_what_editors_leave_behind(tmp_path: Path) -> None:
    share = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]}
    alpaca = {"instruction": "Hi", "input": "", "output": "Yes"}
    lines = (
        b"\xef\xbb\xbf" + GOOD + b"\r",
        b"",
        b"  \r",
        json.dumps(share).encode(),
        json.dumps(alpaca).encode(),
        b"",
    )
    assert everything(write(tmp_path / "chat.jsonl", *lines)) == [Conversation.of("Hi", "Yes")] * 3


@pytest.mark.parametrize(("line", "why"), BAD_LINES)
def test_a_bad_line_is_left_out_of_many_with_a_note(tmp_path: Path, line: bytes, why: str) -> None:
    path = write(tmp_path / "chat.jsonl", *[GOOD] * 150, b"", line, *[GOOD] * 50)
    task = JsonlConversations(path, "train")
    assert len(task) == 196  # a fiftieth is held out
    (note,) = task.notes
    assert f"{path}: left out 1 of 201 lines; line 152 is not a conversation: " in note
    assert why in note
    assert "\n" not in note


@pytest.mark.parametrize(("line", "why"), BAD_LINES)
def test_a_bad_line_of_few_is_refused(tmp_path: Path, line: bytes, why: str) -> None:
    path = write(tmp_path / "chat.jsonl", GOOD, line)
    with pytest.raises(DataError, match=r"chat\.jsonl: line 2 is not a conversation") as caught:
        JsonlConversations(path, "train")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_above_one_in_a_hundred_the_file_is_refused(tmp_path: Path) -> None:
    most = [GOOD] * 396 + [b"{"] * 4
    task = JsonlConversations(write(tmp_path / "chat.jsonl", *most), "train")
    assert "left out 4 of 400 lines; line 397" in task.notes[0]
    assert task.notes[0].endswith("; ….")  # three are quoted
    with pytest.raises(
        DataError,
        match=(
            r"more than 1% of 400 lines are bad: line 396 .*; line 397 .*; line 398 .*Mend or"
            r" delete them"
        ),
    ):
        JsonlConversations(write(tmp_path / "chat.jsonl", *most[1:], b"{"), "train")


class Million:
    """A million rows, one of them bad."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> Any:
        row = {"instruction": "Hi", "output": "Yes"}
        return row if index != 777_776 else {"instruction": "Hi", "output": ""}


@pytest.mark.slow
def test_one_bad_line_in_a_million_is_counted_shown_and_skipped() -> None:
    task = Conversations("million", Million(), "many.jsonl")
    assert len(task) == 999_999
    assert task.notes == (
        (
            "many.jsonl: left out 1 of 1,000,000 lines; line 777777 is not a conversation: A"
            " conversation has an empty assistant message."
        ),
    )
    assert task[999_998] == Conversation.of("Hi", "Yes")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"chat\.jsonl holds no conversations"):
        JsonlConversations(path, "train")


def test_a_file_is_a_task_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path / "chat.jsonl", *[GOOD] * 200)
    task = load_task(str(path), "train", None)  # type: ignore[arg-type]
    assert (len(task), len(load_task(str(path), "test", None))) == (196, 4)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not questions that can be judged"):
        task.score(task[0], ())
    for index in (-1, 196):
        with pytest.raises(IndexError):
            task[index]
    with pytest.raises(DataError, match="Cannot read"):
        JsonlConversations(tmp_path, "train")


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(
    lambda text: text.strip()
)
talks = st.lists(texts, min_size=2, max_size=6).map(
    lambda turns: Conversation.of(*turns[: len(turns) // 2 * 2])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(talks, min_size=1, max_size=8), st.booleans())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, said: list[Conversation], ascii_only: bool
) -> None:
    lines = (json.dumps(one.to_dict(), ensure_ascii=ascii_only).encode() for one in said)
    assert everything(write(tmp_path_factory.mktemp("talks") / "chat.jsonl", *lines)) == said


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=12)))
def test_lines_are_counted_as_editors_count_them(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = write(tmp_path_factory.mktemp("lines") / "a.jsonl", *lines)
    expected = [
        number
        for number, line in enumerate(
            path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1
        )
        if line.strip()
    ]
    assert list(JsonLines(path).numbers) == expected
