"""Questions of a user's own, judged by what their answers must hold."""

import json
from pathlib import Path

import pytest

from chatling.errors import DataError
from chatling.messages import Conversation, Part
from chatling.tasks.judged import is_own, judged_tasks


def test_an_answer_is_right_when_it_holds_the_key(tmp_path: Path) -> None:
    talk = Conversation.of("Whose is it?", "It is Mara's.")
    rows = [{"skill": s, "key": "Mara's", **talk.to_dict()} for s in ("asked", "again")]
    path = tmp_path / "held-out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tasks = judged_tasks(path)
    assert [task.name for task in tasks] == ["asked", "again"]
    assert tasks[0][0] == talk
    for text, right in {"MARA’s, I think": True, "Kofi's": False, "": False}.items():
        assert tasks[0].score(talk, (Part("text", text),)) is right


def test_rows_without_a_key_are_named(tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps(Conversation.of("a", "b").to_dict()) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1 has no skill"):
        judged_tasks(path)
    assert is_own(str(path))
    assert not is_own("GSM8K")
