"""`chatling serve --documents`: passages before the question, and where they are from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatling.cli import main
from chatling.data.passages import PassageIndex
from chatling.messages import Conversation
from chatling.run_dir import RunFolder
from chatling.serve.documents import with_passages
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render_prompt

from .conftest import Running, serving

QUESTION = "Where is the kiln?"


@pytest.fixture(scope="module")
def asked(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("documents")
    (folder / "rooms.md").write_text("The kiln is in the cellar.\n", encoding="utf-8")
    (folder / "long.md").write_text("The loom is old. " * 30, encoding="utf-8")
    for name in ("north", "south", "east", "west"):  # a word is rare only among many
        (folder / f"{name}.md").write_text(f"The {name} gate is closed.\n", encoding="utf-8")
    index = PassageIndex(folder, folder / ".index.sqlite")
    index.refresh()
    with serving(runs, first=(RunFolder(runs / "tiny"), "sft"), documents=index) as running:
        yield running


def body(text: str, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": "tiny/sft", "messages": messages, "max_tokens": 4, "seed": 1, **more}


def test_an_answer_names_what_was_read(asked: Running) -> None:
    path = "/v1/chat/completions"
    with_them = asked.post(path, body(QUESTION)).json()
    without = asked.post(path, body(QUESTION, documents=False)).json()
    assert with_them["sources"] == [{"file": "rooms.md", "text": "The kiln is in the cellar."}]
    assert "sources" not in without
    tokens = [each["usage"]["prompt_tokens"] for each in (with_them, without)]
    assert tokens[0] > tokens[1] + 20
    assert "sources" not in asked.post(path, body("Hi")).json()


def test_a_stream_names_them_once(asked: Running) -> None:
    stream = asked.post("/v1/chat/completions", body(QUESTION, stream=True)).text
    assert stream.count("in the cellar") == 1
    chunks = list(asked.client().chat.completions.create(**body(QUESTION, stream=True)))
    assert chunks[0].sources[0]["file"] == "rooms.md"


def test_what_the_context_has_no_room_for_is_left_out(asked: Running) -> None:
    answer = asked.post("/v1/chat/completions", body("How old is the loom?"))
    assert answer.status_code == 200
    assert "sources" not in answer.json()


def test_passages_stand_before_the_last_question_only(asked: Running, runs: Path) -> None:
    tokenizer = Tokenizer.load(RunFolder(runs / "tiny").tokenizer)
    talk = Conversation.of("Hi", "Hello!", QUESTION)
    found = asked.server.config.app.state.service.documents.search(QUESTION)
    read, used = with_passages(tokenizer, talk, found, 1000)
    assert [*used] == found
    assert read.messages[:2] == talk.messages[:2]
    assert read.messages[-1].text == f"[1] rooms.md\n{found[0].text}\n\n{QUESTION}"
    room = len(render_prompt(tokenizer, talk))
    assert with_passages(tokenizer, talk, found, room) == (talk, ())


def test_a_folder_that_is_not_there_is_a_sentence(
    capsys: pytest.CaptureFixture[str], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(runs.parent))
    assert main(["serve", "tiny", "--documents", "/nowhere/at/all"]) == 1
    assert "There is no file or folder /nowhere/at/all" in capsys.readouterr().err
