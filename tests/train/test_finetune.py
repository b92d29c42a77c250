"""Sources of fine-tuning: what a jsonl file may hold, and what is refused."""

import json
from pathlib import Path

import pytest

from chatling.conversation import Conversation
from chatling.errors import DataError, RecipeError
from chatling.train.finetune import FinetuneConfig, MixtureEntry, load_source


def test_line_separators_inside_a_text_do_not_cut_it(tmp_path: Path) -> None:
    said = [Conversation.of(f"Say {i}\u2028now\x85", "Yes\u2029.") for i in range(3)]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(json.dumps(one.to_dict(), ensure_ascii=False) for one in said), encoding="utf-8")
    entry = MixtureEntry(str(path))
    assert [*load_source(entry, "sft", "validation", 0), *load_source(entry, "sft", "train", 0)] == said


@pytest.mark.parametrize(
    "line", [b"{", b"[1]", b"3", b'{"messages": 3}', b'{"messages": []}', b'{"messages": [{"role": "user"}]}', b"\xff\xfe"]
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_bytes(json.dumps(Conversation.of("Hi", "Yes").to_dict()).encode() + b"\n" + line)
    with pytest.raises(DataError, match="line 2 is not a conversation"):
        load_source(MixtureEntry(str(path)), "sft", "train", 0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no task or file '.*gone\.jsonl'"):
        load_source(MixtureEntry(str(tmp_path / "gone.jsonl")), "sft", "train", 0)


@pytest.mark.parametrize(
    "changes", [{"mixture": ()}, {"bucket": 0}, {"batch_conversations": 0}, {"batch_tokens": -1}, {"validation_conversations": 0}]
)
def test_senseless_numbers_are_refused(changes: dict) -> None:
    with pytest.raises(RecipeError):
        FinetuneConfig(**{"mixture": (MixtureEntry("pocket", count=1),), "packed": False, **changes})
