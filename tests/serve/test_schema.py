"""Our own schema: schemathesis finds no 5xx and no answer that it does not promise; messages become conversations."""

from __future__ import annotations

import contextlib

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from chatling.conversation import Conversation
from chatling.errors import DataError
from chatling.serve.schema import ChatMessage, conversation_of

from .conftest import Running

CHECKED = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance", "unsupported_method")


def test_the_schema_holds(server: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checks = schemathesis.checks.CHECKS.get_by_names(CHECKED)
    assert len(checks) == len(CHECKED)
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        tried.add(operation.label)
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=checks, timeout=30)

            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about a request without parameters
                holds()
    assert {"POST /v1/chat/completions", "POST /v1/completions", "GET /v1/models", "POST /api/render", "GET /api/runs/{name}"} <= tried


def conversation(*messages: tuple[str, object]) -> Conversation:
    return conversation_of([ChatMessage.model_validate({"role": role, "content": content}) for role, content in messages])


def test_messages_become_a_conversation() -> None:
    assert conversation(("user", "a")) == Conversation.of("a")
    assert conversation(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")) == Conversation.of("a", "b", "c", system="s")
    assert conversation(("user", "a"), ("developer", "s"), ("user", "b"), ("system", "t")) == Conversation.of("a\n\nb", system="s\n\nt")
    parts = [{"type": "text", "text": "x "}, {"type": "python", "text": "1+1"}, {"type": "output", "text": "2"}]
    found = conversation(("user", "a"), ("assistant", parts), ("user", "b")).messages[1]
    assert [(part.kind, part.text) for part in found.parts] == [("text", "x "), ("python", "1+1"), ("output", "2")]


@pytest.mark.parametrize(
    "messages",
    [
        [("assistant", "a")],
        [("system", "only")],
        [("user", " ")],
        [("user", "a"), ("assistant", ""), ("user", "b")],
        [("user", [{"type": "python", "text": "1"}])],
        [("user", [])],
    ],
)
def test_what_makes_no_conversation(messages: list[tuple[str, object]]) -> None:
    with pytest.raises(DataError):
        conversation(*messages)
