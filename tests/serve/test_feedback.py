"""Judgements of answers become preference pairs that training reads; nothing else is changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chatling.cli import main
from chatling.data.preferences import HELD_OUT_ONE_IN, Preference
from chatling.data.splits import is_held_out
from chatling.messages import Conversation, Message
from chatling.run_dir import RunFolder
from chatling.serve import feedback
from chatling.serve.feedback import preference_rows
from chatling.tasks.custom import JsonlConversations

from .conftest import Running, save_run, serving

PATH = "/api/runs/tiny/feedback"
CALL = [
    {"type": "text", "text": "It is "},
    {"type": "python", "text": "1+1"},
    {"type": "output", "text": "2"},
]


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    save_run(tmp_path / "runs" / "tiny", "sft")
    with serving(tmp_path / "runs") as server:
        yield server


def say(server: Running, prompt: Any, *answers: Any, **judgement: Any) -> dict[str, Any]:
    answer = server.post(PATH, {"prompt": prompt, "answers": list(answers), **judgement})
    assert answer.status_code == 200, answer.text
    return answer.json()


def kept(server: Running) -> list[tuple[str, Any, Any]]:
    text = httpx.get(f"{server.url}{PATH}/pairs.jsonl").text
    rows = [json.loads(line) for line in text.splitlines()]
    return [
        (
            row["prompt"][-1]["content"],
            *(row[side][0]["content"] for side in ("chosen", "rejected")),
        )
        for row in rows
    ]


def test_a_bad_mark_becomes_a_pair_when_a_better_answer_comes(running: Running) -> None:
    found = say(running, user("1+1?"), "3", mark="bad")
    assert (found["marks"], found["pairs"], kept(running)) == (1, 0, [])
    line = (running.models.runs / "tiny/feedback/marks.jsonl").read_text()
    assert json.loads(line) == {"prompt": user("1+1?"), "answer": "3", "mark": "bad"}
    say(running, user("another"), "fine", mark="good")  # to another prompt
    assert kept(running) == []
    assert say(running, user("1+1?"), CALL, mark="good")["pairs"] == 1
    assert kept(running) == [("1+1?", CALL, "3")]
    say(running, user("1+1?"), "4", mark="bad")
    say(running, user("1+1?"), "two", mark="good")
    assert kept(running) == [("1+1?", CALL, "4"), ("1+1?", "two", "3"), ("1+1?", "two", "4")]
    say(running, user("1+1?"), "3", mark="good")  # another mind
    say(running, user("1+1?"), "two")  # taken back
    assert kept(running) == [("1+1?", CALL, "4"), ("1+1?", "3", "4")]
    assert httpx.get(running.url + PATH).json()["marks"] == 7


def test_the_better_of_two(running: Running) -> None:
    prompt = [{"role": "system", "content": "Be brief."}, *user("Hi")]
    assert say(running, prompt, "Hello.", "Hello, dear friend.", better=0)["pairs"] == 1
    assert kept(running) == [("Hi", "Hello.", "Hello, dear friend.")]
    say(running, prompt, "Hello, dear friend.", "Hello.", better=0)
    assert kept(running) == [("Hi", "Hello, dear friend.", "Hello.")]
    say(running, prompt, "Hello.", mark="good")  # the comparison says more
    say(running, prompt, "Hello, dear friend.", mark="bad")
    assert kept(running) == [("Hi", "Hello, dear friend.", "Hello.")]
    say(running, prompt, "Hello.", "Hello, dear friend.", better=None)
    assert kept(running) == [("Hi", "Hello.", "Hello, dear friend.")]


def test_a_correction_is_a_pair_and_a_conversation(running: Running, tmp_path: Path) -> None:
    found = say(running, user("1+1?"), CALL, correction="Two.")
    assert (found["marks"], found["pairs"], found["corrections"]) == (1, 1, 1)
    assert kept(running) == [("1+1?", "Two.", CALL)]
    say(running, user("1+1?"), CALL, mark="good")  # what was written says more
    assert kept(running) == [("1+1?", "Two.", CALL)]
    say(running, user("Hi"), "Hello, dear friend.", correction="Hello.")
    say(running, user("Hi"), "Hello, dear friend.", correction="Hi.")  # another mind
    file = running.models.runs / "tiny/feedback/corrections.jsonl"
    talks = [*JsonlConversations(file, "train"), *JsonlConversations(file, "validation")]
    assert sorted(talk.messages[-1].text for talk in talks) == ["Hi.", "Two."]
    found = say(running, user("Hi"), "Hello, dear friend.", correction=None)  # taken back
    assert (found["pairs"], found["corrections"]) == (1, 1)


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


@settings(deadline=None)
@given(TEXT, TEXT, TEXT)
def test_training_reads_what_was_said(prompt: str, chosen: str, rejected: str) -> None:
    row = {"prompt": user(prompt), "answers": [rejected, chosen], "better": 1}
    assume(chosen != rejected)
    for found in preference_rows([row]):
        read = Preference.from_row(json.loads(json.dumps(found)))
        assert read.prompt == Conversation.of(prompt)
        assert (read.chosen, read.rejected) == (
            Message.of("assistant", chosen),
            Message.of("assistant", rejected),
        )


def test_the_pairs_are_data_for_dpo(
    running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = next(
        text
        for text in map("What is {}+1?".format, range(1000))
        if is_held_out(repr(Conversation.of(text)), HELD_OUT_ONE_IN)
    )
    for prompt in ("What is it?", "Who is it?", held_out):
        found = say(running, user(prompt), "2", CALL, better=1)
    monkeypatch.setenv("CHATLING_HOME", str(running.models.runs.parent))
    assert main(["plan", "pocket", "--dpo.data", found["path"]]) == 0
    assert " 2 pairs " in capsys.readouterr().out  # and one held out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": []}, "prompt is empty"),
        ({"prompt": [*user("a"), {"role": "assistant", "content": "b"}]}, "does not end on"),
        ({"prompt": user(" ")}, "empty user message"),
        ({"answers": []}, "answers is empty"),
        ({"answers": ["a", "b", "c"]}, "answers takes at most 2"),
        ({"answers": ["same", "same"], "mark": None, "better": 0}, "are the same"),
        ({"answers": [" ", "b"], "mark": None, "better": 1}, "empty assistant message"),
        ({"answers": ["a", "b"], "mark": None, "better": 2}, "better"),
        ({"answers": ["a", "b"], "mark": "good"}, "one answer has a mark"),
        ({"answers": ["a"], "better": 0}, "one answer has a mark"),
        ({"correction": "c"}, "one at a time"),
        ({"answers": ["a", "b"], "mark": None, "correction": "c"}, "of two, one is better"),
        ({"mark": None, "correction": "b"}, "are the same"),
        ({"mark": None, "correction": " "}, "empty assistant message"),
        ({"mark": None, "correction": 1}, "correction"),
        ({"mark": "so-so"}, "mark"),
        ({"answers": [[{"type": "image", "text": "a"}]]}, "image"),
    ],
)
def test_what_is_no_judgement_is_refused(running: Running, change: Any, said: str) -> None:
    answer = running.post(PATH, {"prompt": user("a"), "answers": ["b"], "mark": "bad", **change})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert not (running.models.runs / "tiny/feedback").exists()


def test_other_pages_cannot_write(running: Running) -> None:
    """A form of another page can send text, not JSON; with a key it can send nothing."""
    body = json.dumps({"prompt": user("a"), "answers": ["b"], "mark": "bad"})
    sent = httpx.post(running.url + PATH, content=body, headers={"Content-Type": "text/plain"})
    assert sent.status_code == 400
    with serving(running.models.runs, key="right", local_only=True) as locked:
        assert httpx.post(locked.url + PATH, json=json.loads(body)).status_code == 401
        rebound = {"Host": "evil.test", "Authorization": "Bearer right"}
        assert (
            httpx.post(locked.url + PATH, json=json.loads(body), headers=rebound).status_code == 403
        )
        for path in (PATH, f"{PATH}/pairs.jsonl"):
            assert httpx.get(locked.url + path).status_code == 401
    assert not (running.models.runs / "tiny/feedback").exists()
    assert running.post("/api/runs/none/feedback", json.loads(body)).status_code == 404


def test_many_at_once_lose_nothing(running: Running) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: say(running, user(str(i)), "a", "b", better=i % 2), range(24)))
    assert len(kept(running)) == 24
    with RunFolder(running.models.runs / "tiny").lock():  # a training begins
        say(running, user("meanwhile"), "a", "b", better=0)
    assert len(kept(running)) == 25


def test_a_training_spares_what_is_being_written(running: Running) -> None:
    run = RunFolder(running.models.runs / "tiny")
    say(running, user("a"), "b", mark="bad")
    ours, dead = (run.feedback / f".marks.jsonl.{process}.tmp" for process in (1, 2**22 + 1))
    ours.write_text("half")
    dead.write_text("half")
    with run.lock():
        assert sorted(os.listdir(run.feedback)) == [
            ".lock",
            ours.name,
            "corrections.jsonl",
            "marks.jsonl",
            "pairs.jsonl",
        ]


def test_it_is_bounded_and_never_thrown_away(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "MOST", 1000)
    say(running, user("a"), "b" * 800, mark="bad")
    body = {"prompt": user("a"), "answers": ["c" * 200], "mark": "good"}
    answer = running.post(PATH, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "limit_exceeded")
    folder = running.models.runs / "tiny/feedback"
    assert (folder / "marks.jsonl").read_text().count("\n") == 1
    for damaged in ("{", "[]", '{"prompt": [], "answer": "x"}', '{"answer": 1}', "null"):
        (folder / "marks.jsonl").write_text(damaged)
        answer = running.post(PATH, body)
        assert answer.status_code == 400
        assert "Line 1" in answer.json()["error"]["message"]
        assert (folder / "marks.jsonl").read_text() == damaged
    (folder / "marks.jsonl").unlink()
    (folder / "marks.jsonl").symlink_to("/etc/passwd")
    assert running.post(PATH, body).status_code == 400
