"""A refusal names what the client did: what is not supported, lengths in words, and of a union the
member that was meant.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from chatling.serve.faults import MESSAGE_FIELDS, REQUEST_FIELDS

from .conftest import Running

CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
MEANT = {
    "tools": [{"type": "function"}],
    "functions": [{"name": "f"}],
    "suffix": "b",
}


def refused(server: Running, path: str, **fields: Any) -> tuple[str, str | None]:
    start = {"messages": [{"role": "user", "content": "Hi"}]} if path == CHAT else {"prompt": "Hi"}
    answer = server.post(path, {"model": "tiny/sft", "max_tokens": 1, **start, **fields})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert not {"Input", "validation", "function-", "constrained"} & set(
        error["message"].replace(":", " ").split()
    )
    return error["message"], error["param"]


@pytest.mark.parametrize("path", [CHAT, PLAIN])
@pytest.mark.parametrize("name", REQUEST_FIELDS)
def test_what_is_not_supported_is_said(server: Running, path: str, name: str) -> None:
    message, param = refused(server, path, **{name: MEANT.get(name, 0.5)})
    assert message.startswith(f"{name} is not supported: ")
    assert param == name
    start = {"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi"}
    for neutral in (None, *REQUEST_FIELDS[name][0]):
        assert (
            server.post(
                path, {"model": "tiny/sft", "max_tokens": 1, **start, name: neutral}
            ).status_code
            == 200
        )


@pytest.mark.parametrize("name", MESSAGE_FIELDS)
def test_what_messages_may_not_hold(server: Running, name: str) -> None:
    message, param = refused(
        server, CHAT, messages=[{"role": "assistant", "content": None, name: {"id": "1"}}]
    )
    assert message.startswith(f"{name} is not supported")
    assert param == f"messages.0.{name}"


def user(content: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": content},
        ]
    }


@pytest.mark.parametrize(
    ("path", "fields", "said", "param"),
    [
        (
            CHAT,
            user([{"type": "text", "text": "a"}, {"type": "image_url"}]),
            "'image_url' are not supported",
            "messages.2.content.1.type",
        ),
        (
            CHAT,
            user([{"type": "input_audio", "input_audio": {}}]),
            "'input_audio' are not supported",
            "messages.2.content.0.type",
        ),
        (
            CHAT,
            user([{"type": "file", "file": {}}]),
            "'file' are not supported",
            "messages.2.content.0.type",
        ),
        (
            CHAT,
            user([{"type": "text"}]),
            "messages.2.content.0.text is missing",
            "messages.2.content.0.text",
        ),
        (
            CHAT,
            user([{"type": "text", "text": 5}]),
            "must be a valid string, not 5",
            "messages.2.content.0.text",
        ),
        (CHAT, user(["a"]), "must be a JSON object", "messages.2.content.0"),
        (CHAT, user(5), "a text, or a list of parts", "messages.2.content"),
        (CHAT, user(None), "content is missing", "messages.2.content"),
        (
            CHAT,
            {"messages": [{"role": "tool", "content": "5", "tool_call_id": "1"}]},
            "'tool' are not supported",
            "messages.0.role",
        ),
        (CHAT, {"messages": [{"role": "robot", "content": "5"}]}, "'user'", "messages.0.role"),
        (CHAT, {"messages": []}, "messages is empty", "messages"),
        (CHAT, {"messages": "Hi"}, "messages must be", "messages"),
        (CHAT, {"model": ""}, "model is empty", "model"),
        (CHAT, {"model": "m" * 300}, "at most 256 characters, not 300", "model"),
        (CHAT, {"stop": [str(i) for i in range(17)]}, "at most 16 stop strings, not 17", "stop"),
        (CHAT, {"stop": ["a", ""]}, "stop.1 is empty", "stop.1"),
        (CHAT, {"stop": "x" * 257}, "at most 256 characters, not 257", "stop"),
        (CHAT, {"stop": ["a", 5]}, "must be a valid string, not 5", "stop.1"),
        (CHAT, {"stop": 5}, "a text, or a list of texts", "stop"),
        (CHAT, {"temperature": 3}, "temperature must be at most 2", "temperature"),
        (CHAT, {"temperature": "hot"}, 'must be a valid number, not "hot"', "temperature"),
        (CHAT, {"top_p": 0}, "top_p must be at least 1e-06, not 0", "top_p"),
        (CHAT, {"n": 0}, "n must be at least 1, not 0", "n"),
        (CHAT, {"logit_bias": {"x": 1}}, "token ids", "logit_bias"),
        (
            CHAT,
            {"logit_bias": {str(i): 1 for i in range(1025)}},
            "at most 1,024 entries",
            "logit_bias",
        ),
        (CHAT, {"logit_bias": {"5": 101}}, "must be at most 100, not 101", "logit_bias.5"),
        (CHAT, {"stream_options": {"include_usage": True}}, "needs stream", "stream_options"),
        (CHAT, {"top_logprobs": 3}, "needs logprobs", "top_logprobs"),
        (PLAIN, {"prompt": []}, "prompt is empty", "prompt"),
        (PLAIN, {"prompt": [[]]}, "prompt.0 is empty", "prompt.0"),
        (PLAIN, {"prompt": ["a", 5]}, "must be a valid string, not 5", "prompt.1"),
        (PLAIN, {"prompt": [5, "a"]}, 'must be a valid integer, not "a"', "prompt.1"),
        (PLAIN, {"prompt": [[1], "a"]}, 'must be a valid list, not "a"', "prompt.1"),
        (PLAIN, {"prompt": {"a": 1}}, "a list of token ids", "prompt"),
        (PLAIN, {"prompt": [-1]}, "must be at least 0, not -1", "prompt.0"),
        (PLAIN, {"prompt": ["a"] * 1025}, "at most 1,024 prompts", "prompt"),
        (PLAIN, {"best_of": 3}, "only where it equals n", "best_of"),
        (PLAIN, {"messages": [], "prompt": None}, "prompt must be a text", "prompt"),
    ],
)
def test_the_fault_itself_is_told(
    server: Running, path: str, fields: dict[str, Any], said: str, param: str
) -> None:
    message, where = refused(server, path, **fields)
    assert said in message
    assert where == param


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "", None])
@pytest.mark.parametrize("path", [CHAT, PLAIN, "/api/render"])
def test_curl_without_a_content_type_is_told_to_send_one(
    server: Running, path: str, kind: str | None
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    for content in (b'{"model": "tiny/sft"}', b""):
        answer = httpx.post(server.url + path, content=content, headers=headers)
        assert (
            answer.status_code,
            "Content-Type: application/json" in answer.json()["error"]["message"],
        ) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/chat/completions", 404, "Did you mean '/v1/chat/completions'?"),
        ("POST", "/v1/chat/completion", 404, "Did you mean '/v1/chat/completions'?"),
        ("GET", "/q", 404, "There is nothing at /q. The API is at /v1."),
        ("GET", CHAT, 405, f"{CHAT} takes POST, not GET."),
        ("POST", "/v1/models", 405, "/v1/models takes GET, not POST."),
        ("DELETE", "/", 405, "/ takes GET, not DELETE."),
    ],
)
def test_a_wrong_address_or_method(
    server: Running, method: str, path: str, status: int, said: str
) -> None:
    answer = httpx.request(method, server.url + path)
    assert (answer.status_code, said in answer.json()["error"]["message"]) == (
        status,
        True,
    ), answer.text


def test_a_body_that_is_no_object(server: Running) -> None:
    for body, said in (
        ("[]", "must be a JSON object, not []"),
        ("", "The body is missing"),
        ("{", "not valid JSON"),
    ):
        answer = httpx.post(
            server.url + CHAT,
            content=body,
            headers={"Content-Type": "application/json; charset=utf-8"},
        )
        assert (answer.status_code, said in answer.json()["error"]["message"]) == (
            400,
            True,
        ), answer.text
