"""The real openai client against the real server: chat and completions, whole and streamed."""

from __future__ import annotations

import math

import openai
import pytest

HELLO = [{"role": "user", "content": "Tell me something."}]
MODEL = "tiny/sft"


def chat(client: openai.OpenAI, **options):
    return client.chat.completions.create(
        **{"model": MODEL, "messages": HELLO, "max_tokens": 24, "seed": 3, **options}
    )


def complete(client: openai.OpenAI, **options):
    return client.completions.create(
        **{"model": MODEL, "prompt": "Once upon", "max_tokens": 24, "seed": 3, **options}
    )


def test_models(client: openai.OpenAI) -> None:
    found = list(client.models.list())
    assert [model.id for model in found] == ["tiny/sft", "tiny/base"]
    assert client.models.retrieve("tiny/base").id == "tiny/base"
    assert found[0].owned_by == "chatling"


def test_a_whole_chat_answer(client: openai.OpenAI) -> None:
    answer = chat(client)
    (choice,) = answer.choices
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    assert answer.system_fingerprint.startswith("fp_")
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content
    assert answer.usage.completion_tokens == 24
    assert (
        answer.usage.prompt_tokens == 4 + len("Tell me something.") - 1
    )  # four special tokens, and "th" is one
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 24


def test_a_streamed_chat_answer_is_the_whole_one(client: openai.OpenAI) -> None:
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert {(chunk.id, chunk.object, chunk.model) for chunk in chunks} == {
        (chunks[0].id, "chat.completion.chunk", MODEL)
    }
    *deltas, usage = chunks
    assert deltas[0].choices[0].delta.role == "assistant"
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in deltas)
        == whole.choices[0].message.content
    )
    assert [chunk.choices[0].finish_reason for chunk in deltas] == [None] * (len(deltas) - 1) + [
        "length"
    ]
    assert all(chunk.usage is None for chunk in deltas)
    assert (usage.choices, usage.usage) == ([], whole.usage)


def test_completions_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = complete(client)
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    assert whole.object == chunks[0].object == "text_completion"
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage
    assert complete(client, max_tokens=None).usage.completion_tokens == 16  # the API's default


def test_seed_and_temperature(client: openai.OpenAI) -> None:
    def text(**options) -> str:
        return chat(client, **options).choices[0].message.content

    assert text() == text()
    assert text(seed=4) != text()
    assert text(seed=None) != text(seed=None)
    assert text(temperature=0, seed=1) == text(temperature=0, seed=2)
    assert text(temperature=0) == text(top_p=1e-6)
    assert text(extra_body={"top_k": 1}) == text(temperature=0)
    assert text(seed=-5) != text(seed=5)


def test_several_choices(client: openai.OpenAI) -> None:
    answer = chat(client, n=3)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[0] == chat(client).choices[0].message.content
    assert answer.usage.completion_tokens == 72
    streamed = ["", "", ""]
    for chunk in chat(client, n=3, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts
    several = complete(client, prompt=["Once upon", "the"], n=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.choices[2].text == complete(client, prompt="the").choices[0].text


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_across_tokens(client: openai.OpenAI, stream: bool) -> None:
    text = complete(client, max_tokens=60).choices[0].text
    for start in (5, 17, 30):
        stop = text[start : start + 4]  # four characters are four or so tokens
        expected = text[: text.index(stop)]
        answer = complete(client, max_tokens=60, stop=["never said", stop], stream=stream)
        said, finish_reason = (
            (answer.choices[0].text, answer.choices[0].finish_reason)
            if not stream
            else ("".join(chunk.choices[0].text for chunk in answer), "stop")
        )
        assert (said, finish_reason) == (expected, "stop")
    assert complete(client, stop="\U0001f600").choices[0].finish_reason == "length"


def test_chat_logprobs(client: openai.OpenAI) -> None:
    answer = chat(client, logprobs=True, top_logprobs=3, temperature=0).choices[0]
    content = answer.logprobs.content
    assert (
        bytes(byte for token in content for byte in token.bytes).decode("utf-8", "replace")
        == answer.message.content
    )
    for token in content:
        assert len(token.top_logprobs) == 3
        assert (
            token.logprob
            == token.top_logprobs[0].logprob
            == max(other.logprob for other in token.top_logprobs)
        )
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) < 1.001
    streamed = [
        token
        for chunk in chat(client, logprobs=True, top_logprobs=3, temperature=0, stream=True)
        for token in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else [])
    ]
    assert [token.token for token in streamed] == [token.token for token in content]
    assert chat(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    assert chat(client).choices[0].logprobs is None


def test_completion_logprobs_and_echo(client: openai.OpenAI) -> None:
    plain = complete(client, logprobs=2, temperature=0).choices[0]
    echoed = complete(client, logprobs=2, temperature=0, echo=True).choices[0]
    assert echoed.text == "Once upon" + plain.text
    scores = echoed.logprobs
    assert scores.tokens[-24:] == plain.logprobs.tokens
    assert scores.token_logprobs[-24:] == plain.logprobs.token_logprobs
    assert scores.token_logprobs[0] is not None  # after the token that begins a document
    assert scores.text_offset[: len("Once upon")] == list(range(len("Once upon")))
    assert scores.text_offset[-1] < len(echoed.text)
    for token, score, top in zip(
        scores.tokens, scores.token_logprobs, scores.top_logprobs, strict=True
    ):
        assert top[token] == score
    chunks = [
        chunk.choices[0]
        for chunk in complete(client, logprobs=2, temperature=0, echo=True, stream=True)
    ]
    assert "".join(chunk.text for chunk in chunks) == echoed.text
    assert [
        at for chunk in chunks if chunk.logprobs for at in chunk.logprobs.text_offset
    ] == scores.text_offset


def test_prompts_of_token_ids_as_lm_eval_sends_them(client: openai.OpenAI) -> None:
    ids = [[ord(c) for c in "Once upon"], [ord(c) for c in "a the"]]
    answer = complete(client, prompt=ids, max_tokens=1, logprobs=1, echo=True, temperature=0)
    for prompt, choice in zip(ids, answer.choices, strict=True):
        scores = choice.logprobs
        assert len(scores.token_logprobs) == len(prompt) + 1
        assert scores.token_logprobs[0] is None
        assert scores.top_logprobs[0] is None
        continuation = scores.token_logprobs[3:-1]
        greedy = [
            score == max(top.values())
            for score, top in zip(continuation, scores.top_logprobs[3:-1], strict=True)
        ]
        assert len(greedy) == len(prompt) - 3
        assert all(score < 0 for score in continuation)
    assert complete(client, prompt=ids[0]).usage.prompt_tokens == len(ids[0])
    only = complete(client, prompt=ids[0], max_tokens=0, logprobs=1, echo=True)
    assert (only.choices[0].text, only.usage.completion_tokens, only.choices[0].finish_reason) == (
        "Once upon",
        0,
        "length",
    )
    assert len(only.choices[0].logprobs.tokens) == len(ids[0])


def test_content_as_parts_and_other_roles(client: openai.OpenAI) -> None:
    def text(messages: list[object]) -> str:
        return chat(client, messages=messages).choices[0].message.content

    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "Tell me "}, {"type": "text", "text": "something."}],
    }
    assert text([parts]) == text(HELLO)
    system = {"role": "system", "content": "Be brief."}
    assert (
        text([system, *HELLO])
        == text([{"role": "developer", "content": "Be brief."}, *HELLO])
        != text(HELLO)
    )
    assert text([system, *HELLO]) == text(
        [{"role": "user", "content": "Be brief.\n\nTell me something."}]
    )
    assert text([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]) == text(
        [{"role": "user", "content": "a\n\nb"}]
    )


def test_an_empty_answer_comes_back(client: openai.OpenAI) -> None:
    """A stop string that comes at once leaves nothing; the conversation goes on as if that answer
    had not been asked for.
    """
    first = chat(client).choices[0].message.content[0]
    empty = chat(client, stop=first).choices[0]
    assert (empty.message.content, empty.finish_reason) == ("", "stop")
    again = {"role": "user", "content": "Still there?"}
    for message in (
        empty.message.model_dump(),
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": []},
    ):
        answer = chat(client, messages=[*HELLO, message, again])
        assert (
            answer.choices[0].message.content
            == chat(client, messages=[*HELLO, again]).choices[0].message.content
        )


def test_logit_bias(client: openai.OpenAI) -> None:
    answer = chat(client, logit_bias={str(ord("x")): 100}, max_tokens=5)
    assert answer.choices[0].message.content == "xxxxx"


def test_a_run_name_means_its_last_stage(client: openai.OpenAI) -> None:
    assert chat(client, model="tiny").model == "tiny/sft"
    assert (
        chat(client, model="tiny/base").choices[0].message.content
        != chat(client).choices[0].message.content
    )


@pytest.mark.parametrize(
    ("options", "error", "param"),
    [
        ({"model": "tiny/sfft"}, openai.NotFoundError, "model"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, openai.BadRequestError, None),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, openai.BadRequestError, None),
        (
            {"messages": [{"role": "robot", "content": "hi"}]},
            openai.BadRequestError,
            "messages.0.role",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            openai.BadRequestError,
            "messages.0.content.0.type",
        ),
        (
            {"messages": [{"role": "user", "content": "x" * 500}]},
            openai.BadRequestError,
            "messages",
        ),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"top_p": 0}, openai.BadRequestError, "top_p"),
        ({"n": 0}, openai.BadRequestError, "n"),
        ({"n": 100_000}, openai.BadRequestError, "n"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"max_tokens": 10**9}, openai.BadRequestError, "max_tokens"),
        ({"stop": [""]}, openai.BadRequestError, "stop.0"),
        ({"logit_bias": {"100000": 1}}, openai.BadRequestError, "logit_bias"),
        ({"logit_bias": {"x": 1}}, openai.BadRequestError, "logit_bias"),
        ({"top_logprobs": 2}, openai.BadRequestError, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, openai.BadRequestError, "top_logprobs"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
            openai.BadRequestError,
            "tools",
        ),
        ({"response_format": {"type": "xml"}}, openai.BadRequestError, "response_format.type"),
        ({"presence_penalty": 1}, openai.BadRequestError, "presence_penalty"),
        ({"seed": 2**80}, openai.BadRequestError, "seed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_typed(
    client: openai.OpenAI,
    options: dict,
    error: type[openai.APIStatusError],
    param: str | None,
    stream: bool,
) -> None:
    with pytest.raises(error) as caught:
        chat(client, **options, stream=stream)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert caught.value.type == "invalid_request_error"
    if param:
        assert caught.value.param == param
    assert caught.value.body["message"]


def test_error_codes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="stream_options needs stream"):
        chat(client, stream_options={"include_usage": True})
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, messages=[{"role": "user", "content": "x" * 500}])
    assert caught.value.code == "context_length_exceeded"
    assert "192" in str(caught.value)
    assert "504" in str(caught.value)
    assert "truncation" in str(caught.value)
    extra = {"truncation": "auto"}
    with pytest.raises(openai.BadRequestError, match="even without the older messages") as caught:
        chat(client, messages=[{"role": "user", "content": "x" * 500}], extra_body=extra)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    for field in ("max_tokens", "max_completion_tokens"):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="tiny", messages=HELLO, **{field: 10**6})
        assert (caught.value.code, caught.value.param) == ("limit_exceeded", field)
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, prompt="x" * 500)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.NotFoundError, match="Did you mean 'tiny/sft'") as missing:
        chat(client, model="tiny/sfft")
    assert missing.value.code == "model_not_found"


def test_truncation_leaves_out_the_oldest_turns(client: openai.OpenAI) -> None:
    turns = [
        {"role": role, "content": f"{i} " + "word " * 8}
        for i in range(4)
        for role in ("user", "assistant")
    ]
    messages = [{"role": "system", "content": "S"}, *turns, {"role": "user", "content": "last"}]
    answer = chat(client, messages=messages, extra_body={"truncation": "auto"})
    assert answer.dropped_messages > 0
    assert answer.dropped_messages % 2 == 0
    kept = chat(client, messages=[messages[0], *messages[1 + answer.dropped_messages :]])
    assert kept.choices[0].message.content == answer.choices[0].message.content
    with pytest.raises(openai.BadRequestError):
        chat(client, messages=messages)
