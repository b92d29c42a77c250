"""`response_format` through the openai client: JSON that its own parser takes, streamed, several at
once, and refusals that name the field.
"""

import json
import threading
import time
from typing import Any, Literal

import openai
import pydantic
import pytest

from .conftest import Running

MESSAGES: Any = [{"role": "user", "content": "Who?"}]
FEW_BLANKS = {str(ord(" ")): -4, str(ord("\n")): -4}


class Animal(pydantic.BaseModel):
    kind: Literal["the cat", "an ant"]
    legs: int = pydantic.Field(ge=0, le=99)
    tame: bool | None


def ask(client: openai.OpenAI, form: dict[str, Any], **options: Any) -> Any:
    body: dict[str, Any] = {"model": "tiny/sft", "messages": MESSAGES, "seed": 1}
    body |= {"logit_bias": FEW_BLANKS, "max_tokens": 150}
    return client.chat.completions.create(**body, response_format=form, **options)


def schema_form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}


SCHEMA = "response_format.json_schema.schema"
ANIMAL = schema_form(Animal.model_json_schema())


def test_parse(client: openai.OpenAI) -> None:
    for parse in (client.chat.completions.parse, client.beta.chat.completions.parse):
        answer = parse(
            model="tiny/sft",
            messages=MESSAGES,
            response_format=Animal,
            seed=1,
            logit_bias=FEW_BLANKS,
        )
        (choice,) = answer.choices
        assert choice.finish_reason == "stop"
        assert isinstance(choice.message.parsed, Animal)
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model="tiny/sft", messages=MESSAGES, response_format=Animal, max_tokens=3
        )


def test_a_stream_is_parsed(client: openai.OpenAI) -> None:
    whole = ask(client, ANIMAL).choices[0]
    with client.chat.completions.stream(
        model="tiny/sft",
        messages=MESSAGES,
        response_format=Animal,
        seed=1,
        logit_bias=FEW_BLANKS,
        max_tokens=150,
    ) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.message.parsed == Animal.model_validate_json(whole.message.content)
    assert (final.message.content, final.finish_reason) == (whole.message.content, "stop")


def test_several_answers_with_log_probabilities(client: openai.OpenAI) -> None:
    answer = ask(client, ANIMAL, n=3, logprobs=True, top_logprobs=5)
    texts = [choice.message.content for choice in answer.choices]
    assert len(set(texts)) > 1
    for choice in answer.choices:
        Animal.model_validate_json(choice.message.content)
        tokens = choice.logprobs.content
        assert "".join(token.token for token in tokens) == choice.message.content
        assert all(other.logprob > -9999 for token in tokens for other in token.top_logprobs)


def test_any_json_object_and_plain_text(client: openai.OpenAI) -> None:
    asked = [{"role": "system", "content": "Answer in JSON."}, *MESSAGES]
    for seed in range(3):
        extra = {"seed": seed, "messages": asked}
        choice = ask(client, {"type": "json_object"}, extra_body=extra).choices[0]
        assert choice.message.content.startswith("{")
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
    text = ask(client, {"type": "text"}, max_completion_tokens=8).choices[0].message.content
    assert text
    assert not text.startswith("{")


def test_a_plain_completion(server: Running) -> None:
    body = {"model": "tiny/base", "prompt": "Who?", "max_tokens": 150, "response_format": ANIMAL}
    answer = server.post("/v1/completions", body | {"logit_bias": FEW_BLANKS, "seed": 1}).json()
    Animal.model_validate_json(answer["choices"][0]["text"])


@pytest.mark.parametrize(
    ("form", "said", "param"),
    [
        ({"type": "xml"}, "must be 'text'", "response_format.type"),
        ({}, "type is missing", "response_format.type"),
        ({"type": "json_schema"}, "json_schema is missing", "response_format.json_schema"),
        ({"type": "json_object"}, "json_object a message must ask for JSON", "messages"),
        (
            {"type": "json_schema", "json_schema": {"name": "it"}},
            "schema is missing",
            SCHEMA,
        ),
        (schema_form(3), "must be a JSON object", SCHEMA),
        (schema_form({"type": "frob"}), "Invalid type: frob", "response_format"),
        (schema_form({"not": {}}), '"not"', "response_format"),
        (schema_form({"enum": ["x" * 40_000]}), "characters of JSON", SCHEMA),
    ],
)
def test_refusals(client: openai.OpenAI, form: Any, said: str, param: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, form, stream=stream)
        assert said in caught.value.body["message"]
        assert caught.value.param == param


def test_a_hostile_schema_holds_up_nobody(server: Running) -> None:
    patterns = [{"type": "string", "pattern": f"(a|b)*a(a|b){{{i}}}"} for i in range(5, 30)]
    found: list[openai.BadRequestError] = []

    def hostile() -> None:
        with pytest.raises(openai.BadRequestError, match="too much time or memory") as caught:
            ask(server.client(), schema_form({"allOf": patterns}))
        found.append(caught.value)

    thread = threading.Thread(target=hostile)
    thread.start()
    answers = 0
    while thread.is_alive():
        body = {"model": "tiny/sft", "messages": MESSAGES, "max_tokens": 2}
        start = time.monotonic()
        assert server.post("/v1/chat/completions", body).status_code == 200
        answers += time.monotonic() - start < 1
    thread.join()
    assert found
    assert answers > 1
