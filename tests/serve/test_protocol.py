"""Our own schema: schemathesis finds no 5xx and no answer that it does not promise; messages become
conversations.
"""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import pytest
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from chatling.errors import DataError
from chatling.inference.detokenizer import Chunk
from chatling.messages import Conversation, Part
from chatling.serve.completion import ChatFormat
from chatling.serve.protocol import ChatMessage, conversation_of
from chatling.tokenizer.chat_template import merge_texts

from .conftest import Running

CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def test_the_schema_holds(server: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checks = schemathesis.checks.CHECKS.get_by_names(CHECKED)
    assert len(checks) == len(CHECKED)
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        tried.add(operation.label)
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=8,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                derandomize=True,
                database=None,
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=checks, timeout=30)

            with contextlib.suppress(
                Unsatisfiable
            ):  # nothing can be wrong about a request without parameters
                holds()
    assert {
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "GET /v1/models",
        "POST /api/render",
        "GET /api/runs/{name}",
        "POST /api/runs/{name}/feedback",
    } <= tried


def conversation(*messages: tuple[str, object]) -> Conversation:
    return conversation_of(
        [
            ChatMessage.model_validate({"role": role, "content": content})
            for role, content in messages
        ]
    )


def test_messages_become_a_conversation() -> None:
    assert conversation(("user", "a")) == Conversation.of("a")
    assert conversation(
        ("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")
    ) == Conversation.of("a", "b", "c", system="s")
    assert conversation(
        ("user", "a"), ("developer", "s"), ("user", "b"), ("system", "t")
    ) == Conversation.of("a\n\nb", system="s\n\nt")
    parts = [
        {"type": "text", "text": "x "},
        {"type": "python", "text": "1+1"},
        {"type": "output", "text": "2"},
    ]
    found = conversation(("user", "a"), ("assistant", parts), ("user", "b")).messages[1]
    assert [(part.kind, part.text) for part in found.parts] == [
        ("text", "x "),
        ("python", "1+1"),
        ("output", "2"),
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [("assistant", "a")],
        [("system", "only")],
        [("user", " ")],
        [("assistant", ""), ("system", "")],
        [("user", [{"type": "python", "text": "1"}])],
        [("user", [])],
    ],
)
def test_what_makes_no_conversation(messages: list[tuple[str, object]]) -> None:
    with pytest.raises(DataError):
        conversation(*messages)


CHUNKS = st.lists(
    st.builds(
        lambda kind, text: Chunk(kind, text, ends=kind != "text"),
        st.sampled_from(["text", "python", "output"]),
        st.text(max_size=5),
    ),
    max_size=5,
)


@given(CHUNKS, st.booleans())
@example([], True)
@example([Chunk("text", " \n")], False)
def test_whatever_the_server_says_comes_back(chunks: list[Chunk], emptied: bool) -> None:
    """As the message that it was, without its parts, with its parts as content, and with null for
    nothing.
    """
    choice = SimpleNamespace(
        index=0,
        chunks=chunks,
        text="".join(p.text for p in chunks if p.kind == "text"),
        finish_reason="stop",
    )
    message = ChatFormat(logprobs=False).whole(None, choice)["message"]  # type: ignore[arg-type]
    parts = tuple(Part(chunk.kind, chunk.text) for chunk in chunks)
    for sent in (
        message,
        {key: message[key] for key in ("role", "content")},
        {"role": "assistant", "content": message.get("parts", [])},
    ):
        if emptied and not sent["content"]:
            sent = {**sent, "content": None}
        history = [{"role": "user", "content": "a"}, sent, {"role": "user", "content": "b"}]
        found = conversation_of(
            [ChatMessage.model_validate(json.loads(json.dumps(each))) for each in history]
        )
        visible = "".join(part.text for part in ChatMessage.model_validate(sent).content_parts)
        assert found.messages[-1].text == ("b" if visible.strip() else "a\n\nb")
    if any(part.text.strip() for part in parts):
        back = conversation_of(
            [
                ChatMessage.model_validate(each)
                for each in ({"role": "user", "content": "a"}, message)
            ]
        )
        assert merge_texts(back.messages[1].parts) == merge_texts(parts)


def test_parts_that_the_content_does_not_spell_are_not_taken() -> None:
    parts = [
        {"type": "text", "text": "1+1="},
        {"type": "python", "text": "1+1"},
        {"type": "output", "text": "2"},
    ]
    for content, kinds in (
        ("1+1=", ["text", "python", "output"]),
        (None, ["text", "python", "output"]),
        ("Two.", ["text"]),
    ):
        message = ChatMessage.model_validate(
            {"role": "assistant", "content": content, "parts": parts}
        )
        assert [part.kind for part in message.content_parts] == kinds
