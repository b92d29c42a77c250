"""Every loader on the real file format, and the real files' counts."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.errors import DataError, RecipeError
from chatling.messages import Conversation, Part
from chatling.tasks.registry import (
    CHAT_TASKS,
    TASKS,
    expected_length,
    load_task,
    task_files,
)
from chatling.tasks.rows import Rows
from chatling.tasks.spelling import SHARES, split_words
from chatling.tasks.task import Task


def said(text: str) -> tuple[Part, ...]:
    return (Part("text", text),)


@pytest.mark.parametrize(
    ("name", "split", "rows"),
    [
        ("SmolTalk", "test", 1_000),
        ("MMLU", "train", 8_315),
        ("MMLU", "validation", 1_531),
        ("MMLU", "test", 14_042),
        ("ARC-Easy", "train", 2_251),
        ("ARC-Easy", "validation", 570),
        ("ARC-Easy", "test", 2_376),
        ("ARC-Challenge", "train", 1_119),
        ("ARC-Challenge", "validation", 299),
        ("ARC-Challenge", "test", 1_172),
        ("GSM8K", "train", 7_473),
        ("GSM8K", "validation", 1_319),
        ("HumanEval", "test", 164),
        ("SpellingBee", "test", 256),
        ("SimpleSpelling", "validation", 256),
        ("identity", "train", 1_000),
    ],
)
def test_every_example_is_a_conversation_that_its_own_answer_solves(
    fetcher: Any, name: str, split: Any, rows: int
) -> None:
    task = load_task(name, split, fetcher)
    assert (task.name, len(task), task.notes) == (name, rows, ())
    for example in task if name not in ("SmolTalk", "MMLU") else task.shuffled(0).sliced(0, 1000):
        assert example.messages[-1].role == "assistant"
        if task.kind == "categorical":
            assert example.messages[-1].text in task.choices(example)
            assert task.score(example, example.messages[-1].parts)
            assert not task.score(example, said("Z"))
        elif name in ("GSM8K", "SpellingBee", "SimpleSpelling"):
            assert task.score(example, example.messages[-1].parts), example
    for index in (-1, rows):
        with pytest.raises(IndexError):
            task[index]
    complete = {"MMLU": {"train": 99_842}, "SmolTalk": {"test": 24_229}}.get(name, {}).get(
        split, rows
    )
    assert expected_length(name, split) == complete


def test_chat_tasks_can_all_be_loaded_and_know_what_guessing_gives(fetcher: Any) -> None:
    tasks = [load_task(name, "test", fetcher) for name in CHAT_TASKS]
    assert [task.baseline for task in tasks] == [0.25, 0.25, 0.25, 0, 0, 0]
    assert [task.kind for task in tasks] == ["categorical"] * 3 + ["generative"] * 3


def test_mmlu_is_rendered_with_the_letter_behind_the_choice(fetcher: Any) -> None:
    task = load_task("MMLU", "test", fetcher)
    assert task[0] == Conversation.of(
        "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.\n"
        "- 0=A\n- 4=B\n- 2=C\n- 6=D\nAnswer with the letter only (A, B, C, D).",
        "B",
    )
    assert task.choices(task[0]) == ("A", "B", "C", "D")
    assert task.score(task[0], said(" B\n"))
    assert not task.score(task[0], said("B is right"))


def test_arc_shows_letters_whatever_the_labels(tmp_path: Path) -> None:
    row = {
        "question": "Which?",
        "choices": {"text": ["x (A).", "y", "z"], "label": ["1", "2", "3"]},
        "answerKey": "3",
    }
    pq.write_table(pa.Table.from_pylist([row, row | {"answerKey": "4"}]), tmp_path / "a.parquet")
    from chatling.tasks.arc import arc

    task = arc("ARC-Easy", [tmp_path / "a.parquet"])
    assert task[0] == Conversation.of(
        "Which?\n- x (A).=A\n- y=B\n- z=C\nAnswer with the letter only (A, B, C).", "C"
    )
    assert task.choices(task[0]) == ("A", "B", "C")
    with pytest.raises(DataError, match="answer '4', not among 1, 2, 3"):
        task[1]


def test_letters_are_one_token(fetcher: Any, letter_tokenizer: Any) -> None:
    for name in ("MMLU", "ARC-Easy", "ARC-Challenge"):
        task = load_task(name, "test", fetcher)
        assert all(
            len(letter_tokenizer.encode(letter)) == 1
            for example in task.sliced(0, 300)
            for letter in task.choices(example)
        )


def test_smoltalk_keeps_the_system_message(fetcher: Any, data_pack: Path) -> None:
    rows = pq.read_table(data_pack / "sft/train.parquet", columns=["messages"]).to_pylist()
    task = load_task("SmolTalk", "train", fetcher)
    assert len(task) == len(rows) == 21_597
    with_system = next(i for i, row in enumerate(rows) if row["messages"][0]["role"] == "system")
    for i in (0, with_system, len(rows) - 1):
        assert [(m.role, m.text) for m in task[i].messages] == [
            (m["role"], m["content"]) for m in rows[i]["messages"]
        ]
    with pytest.raises(DataError, match="not questions that can be judged"):
        task.score(task[0], ())


def test_gsm8k_annotations_become_tool_calls(fetcher: Any) -> None:
    task = load_task("GSM8K", "test", fetcher)
    assert task[0].messages[1].parts == (
        Part("text", "Janet sells 16 - 3 - 4 = "),
        Part("python", "16-3-4"),
        Part("output", "9"),
        Part("text", "9 duck eggs a day.\nShe makes 9 * 2 = $"),
        Part("python", "9*2"),
        Part("output", "18"),
        Part("text", "18 every day at the farmer’s market.\n#### 18"),
    )


def test_subsets_and_splits_that_are_not_there_are_named(fetcher: Any) -> None:
    with pytest.raises(RecipeError, match=r"HumanEval has no split 'train'\. It has test"):
        load_task("HumanEval", "train", fetcher)
    with pytest.raises(RecipeError, match="'ARC-Easy' has no subsets"):
        load_task("ARC-Easy", "test", fetcher, subset="main")
    with pytest.raises(DataError, match=r"no astrology/test\[-\.\]\* in the data set cais/mmlu"):
        load_task("MMLU", "test", fetcher, subset="astrology")
    with pytest.raises(RecipeError, match=r"no task 'GSMK8'\. Did you mean 'GSM8K'\?"):
        load_task("GSMK8", "test", fetcher)
    with pytest.raises(DataError, match=r"no task or file '.*gone.jsonl'\. Tasks are SmolTalk"):
        load_task("/nowhere/at/all/gone.jsonl", "test", fetcher)


def test_files_behind_tasks(fetcher: Any) -> None:
    for name in TASKS:
        found = task_files(name, "test", fetcher)
        assert len(found) == (0 if name == "identity" else 1)
        assert all(path.is_file() for path in found)


def table(path: Path, rows: list[dict[str, Any]]) -> list[Path]:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return [path]


def test_files_in_parts_are_read_in_order(tmp_path: Path) -> None:
    from chatling.tasks.rows import Rows

    files = []
    for i in range(3):
        files += table(
            tmp_path / f"{i}.parquet",
            [{"question": f"{i} {k}", "answer": "#### 1", "extra": 1.5} for k in range(i + 2)],
        )
    (tmp_path / "3.jsonl").write_text(json.dumps({"question": "3 0", "answer": "#### 1"}) + "\n\n")
    rows = Rows([*files, tmp_path / "3.jsonl"], ("question", "answer"))
    assert [rows[i] for i in range(len(rows))] == [
        {"question": q, "answer": "#### 1"}
        for q in ["0 0", "0 1", "1 0", "1 1", "1 2", "2 0", "2 1", "2 2", "2 3", "3 0"]
    ]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.parquet", b"not parquet at all", r"Cannot read .*a\.parquet: .*Delete it"),
        ("a.parquet", b"", r"Cannot read .*a\.parquet"),
        ("a.jsonl", b'{"question": 1', r"Cannot read .*a\.jsonl"),
        ("a.jsonl", b"3\n", r"Cannot read .*a\.jsonl"),
        ("a.jsonl", b"\xff\n", r"Cannot read .*a\.jsonl"),
        ("a.jsonl.gz", b"{}", r"Cannot read .*a\.jsonl\.gz"),
        ("a.jsonl", b"", r"There are no rows in|has no column"),
        ("a.jsonl", b'{"question": "x"}', r"a\.jsonl has no column 'answer'; it has question\."),
        ("gone.parquet", None, r"Cannot read .*gone\.parquet"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_named(
    tmp_path: Path, name: str, content: bytes | None, complaint: str
) -> None:
    from chatling.tasks.gsm8k import GSM8K

    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        GSM8K([tmp_path / name])
    assert re.match(r"^[^\n]*$", str(caught.value))


def test_views_of_a_task_keep_what_it_is(fetcher: Any) -> None:
    view: Task = load_task("ARC-Easy", "test", fetcher).shuffled(1).sliced(0, 5)
    assert (view.baseline, view.kind) == (0.25, "categorical")
    assert all(view.score(example, example.messages[-1].parts) for example in view)


def test_a_byte_order_mark_before_rows_or_words_is_no_part_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "é"}\n'.encode("utf-8-sig"))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress('{"text": "ü"}\n'.encode("utf-8-sig")))
    rows = Rows([tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"], ["text"])
    assert [rows[0], rows[1]] == [{"text": "é"}, {"text": "ü"}]
    words = [first + second for first in "abcdefghijklmnop" for second in "abcdefghijklmnop"]
    (tmp_path / "words.txt").write_text("\n".join(words), encoding="utf-8-sig")
    assert {word for split in SHARES for word in split_words(tmp_path / "words.txt", split)} == set(
        words
    )
