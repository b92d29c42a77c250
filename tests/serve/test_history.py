"""A conversation goes on over the API as it does in the terminal, whatever the client sends back
of the answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.inference.async_engine import AsyncEngine
from chatling.inference.engine import Engine, Request, SamplingParams
from chatling.messages import Conversation, Message, Part
from chatling.run_dir import RunFolder
from chatling.serve.history import AnswerMemory
from chatling.serve.protocol import ChatMessage, conversation_of
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import merge_texts, parse_completion, render_prompt
from chatling.train.checkpoint import load_model

from ..inference.conftest import ScriptedModel
from .conftest import Running, serving

CHAT = "/v1/chat/completions"
HELLO = {"role": "user", "content": "Hello"}
MORE = {"role": "user", "content": "And?"}
PROMPT = 3 + len("Hello")  # <|bos|>, the turn's two tokens; <|assistant_start|> is the last
CALL, SILENT = "31-4={31-4} pens.\n", "{1+2}"


def script(tokenizer: Tokenizer, said: str) -> list[int]:
    """What is sampled, the calculator's tokens left to the calculator: {…} is a call."""
    before, _, rest = said.partition("{")
    call, _, after = rest.partition("}")
    ids = [*tokenizer.encode(before), tokenizer.python_start]
    ids += [*tokenizer.encode(call), tokenizer.python_end]
    result = [tokenizer.output_start, *tokenizer.encode(str(eval(call))), tokenizer.output_end]
    return [*ids, *[0] * len(result), *tokenizer.encode(after), tokenizer.assistant_end]


class Talk:
    """A server whose model says `said` to a Hello; `prompts` are what its engine read."""

    def __init__(self, server: Running, said: str, prompts: list[list[int]], engine: Engine):
        self.server, self.said, self.prompts, self.engine = server, said, prompts, engine

    def ask(self, *messages: object, **more: Any) -> Any:
        body = {"model": "tiny/sft", "messages": messages, "temperature": 0, "max_tokens": 40}
        answer = self.server.post(CHAT, body | more)
        assert answer.status_code == 200, answer.text
        return answer

    def as_in_the_terminal(self) -> list[int]:
        """The tokens of the second turn."""
        first = Conversation.of("Hello")
        request = Request(
            tuple(render_prompt(self.engine.tokenizer, first)), SamplingParams(0, max_tokens=40)
        )
        ids = self.engine.generate([request])[0].ids
        answer = Message("assistant", parse_completion(self.engine.tokenizer, ids))
        assert any(part.kind == "output" for part in answer.parts)
        turns = (*first.messages, answer, Message.of("user", "And?"))
        return render_prompt(self.engine.tokenizer, Conversation(turns))


@pytest.fixture(params=[CALL, SILENT])
def talk(runs: Path, request: pytest.FixtureRequest) -> Iterator[Talk]:
    prompts: list[list[int]] = []

    def engine(run: RunFolder, stage: str) -> Engine:
        tokenizer = Tokenizer.load(run.tokenizer)
        model = load_model(run.model(stage))
        prompt = len(render_prompt(tokenizer, Conversation.of("Hello")))
        scripted: Any = ScriptedModel(model, script(tokenizer, request.param), prompt)
        return Engine(scripted, tokenizer, max_batch_size=2)

    def load(run: RunFolder, stage: str) -> AsyncEngine:
        made = engine(run, stage)
        prepare = made.prepare

        def watched(asked: Request) -> Any:
            if isinstance(asked, Request):  # else it is prepared already
                prompts.append(list(asked.prompt))
            return prepare(asked)

        made.prepare = watched  # type: ignore[method-assign]
        return AsyncEngine([made])

    with serving(runs, load=load) as server:
        yield Talk(server, request.param, prompts, engine(RunFolder(runs / "tiny"), "sft"))


def test_a_second_turn_is_the_same_as_in_the_terminal(talk: Talk) -> None:
    wanted = talk.as_in_the_terminal()
    message = talk.ask(HELLO).json()["choices"][0]["message"]
    text = message["content"]
    assert text == ("31-4=27 pens.\n" if talk.said == CALL else "").replace("27", "", 1)
    for sent in (
        message,
        {"role": "assistant", "content": text},
        {"role": "assistant", "content": text.strip()},
        {"role": "assistant", "content": text or None},
        {"role": "assistant", "content": [{"type": "text", "text": text}]},
        {"role": "assistant", "content": message["parts"]},
    ):
        talk.ask(HELLO, sent, MORE, max_tokens=1)
        assert talk.prompts[-1] == wanted
    talk.ask({**HELLO, "content": "Hi"}, {"role": "assistant", "content": text}, MORE, max_tokens=1)
    assert talk.engine.tokenizer.python_start not in talk.prompts[-1]  # not what was said there


def test_a_streamed_answer_is_known_again(talk: Talk) -> None:
    wanted = talk.as_in_the_terminal()
    lines = talk.ask(HELLO, stream=True).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    talk.ask(HELLO, {"role": "assistant", "content": text}, MORE, max_tokens=1)
    assert talk.prompts[-1] == wanted


def test_the_last_message_is_continued(talk: Talk) -> None:
    """The answer is what comes after it, and both together are known again."""
    begun = {"role": "assistant", "content": "31-"}
    t = talk.engine.tokenizer
    for more in ({}, {"truncation": "auto"}):
        talk.ask(HELLO, begun, max_tokens=1, **more)
        assert talk.prompts[-1] == [
            *render_prompt(t, Conversation.of("Hello")),
            *t.encode("31-"),
        ]
    empty = {"role": "assistant", "content": ""}
    talk.ask(HELLO, empty, max_tokens=1)  # nothing has begun
    assert talk.prompts[-1] == render_prompt(t, Conversation.of("Hello"))
    if talk.said == CALL:
        rest = talk.ask(HELLO, begun).json()["choices"][0]["message"]
        assert rest["content"] == "4= pens.\n"
        whole = {"role": "assistant", "content": "31-" + rest["content"]}
        talk.ask(HELLO, whole, MORE, max_tokens=1)
        assert talk.prompts[-1] == talk.as_in_the_terminal()


PARTS = st.lists(
    st.builds(Part, st.sampled_from(["text", "python", "output"]), st.text(max_size=4)), max_size=4
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=4), PARTS), min_size=1, max_size=4))
def test_any_conversation_is_restored(turns: list[tuple[str, list[Part]]]) -> None:
    memory = AnswerMemory()
    sent: list[ChatMessage] = []
    for question, answer in turns:
        sent.append(ChatMessage(role="user", content=question))
        place = memory.restore(sent)[1]
        memory.remember(place, answer)
        visible = "".join(part.text for part in answer if part.kind == "text")
        sent.append(ChatMessage(role="assistant", content=visible))
    found = memory.restore(sent)[0]
    for (_, answer), message in zip(turns, found[1::2], strict=True):
        assert merge_texts(message.content_parts) == merge_texts(answer)
    if all(question.strip() for question, _ in turns):
        conversation_of([*found, ChatMessage(role="user", content="x")])


def test_the_memory_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    memory = AnswerMemory(most=2000)

    def known(i: int) -> bool:
        messages = [
            ChatMessage(role="user", content=str(i)),
            ChatMessage(role="assistant", content=""),
        ]
        return len(memory.restore(messages)[0][1].content_parts) == 2

    for i in range(50):
        _, place = memory.restore([ChatMessage(role="user", content=str(i))])
        memory.remember(place, [Part("python", "1+1"), Part("output", "2")])
        assert known(0)
        assert memory.size <= 2000
    assert known(49)
    assert known(0)  # asked for all the time
    assert not known(20)
    memory.remember(place, [Part("python", "1" * 3000), Part("output", "2")])
    assert memory.size == 0
