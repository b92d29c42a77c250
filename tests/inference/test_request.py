"""What an answer is made of: the calculator's results, stops, limits, whole characters."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from chatling.inference.engine import Completion, Engine, Request, SamplingParams
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer

Scripted = Callable[[Sequence[int], int], GPT]


def run_script(
    scripted: Scripted, tokenizer: Tokenizer, script: Sequence[int], **settings: Any
) -> tuple[Completion, list[int], str]:
    """What the engine makes of a model that says `script`; also what the model read back, and the
    streamed text.
    """
    prompt = (1, 2, 3)
    engine = Engine(scripted(script, len(prompt)), tokenizer)
    request = Request(prompt, SamplingParams(temperature=0.0, **settings))
    events = list(engine.stream(request))
    completion = engine.generate([request])[0]
    assert [event.token for event in events if event.token is not None] == completion.ids
    assert [event.finish_reason for event in events] == [None] * (len(events) - 1) + [
        completion.finish_reason
    ]
    text = "".join(event.text for event in events)
    assert text == completion.text
    return completion, engine.model.read, text  # type: ignore[return-value]


def test_calculator_result_is_put_in(scripted: Scripted, tokenizer: Tokenizer) -> None:
    t = tokenizer
    result = [t.output_start, *t.encode("19"), t.output_end]
    call = [t.python_start, *t.encode("12+7"), t.python_end]
    # Where the result goes in, the script's own tokens are not heard.
    script = [*t.encode("a "), *call, *[0] * len(result), *t.encode("!"), t.assistant_end]
    completion, read, text = run_script(scripted, t, script)
    assert completion.ids == [*t.encode("a "), *call, *result, *t.encode("!")]
    assert completion.injected == [False] * (2 + len(call)) + [True] * len(result) + [False]
    assert read[: len(completion.ids)] == completion.ids
    assert text == "a 12+719!"
    assert completion.finish_reason == "stop"


@pytest.mark.parametrize("expression", ["1/0", "import os", "", "<|python_start|>"])
def test_nonsense_gets_no_result(scripted: Scripted, tokenizer: Tokenizer, expression: str) -> None:
    t = tokenizer
    script = [t.python_start, *t.encode(expression), t.python_end, *t.encode("ok"), t.assistant_end]
    completion, _, _ = run_script(scripted, t, script)
    assert completion.ids == script[:-1]
    assert not any(completion.injected)


def test_stray_tool_tokens_do_nothing(scripted: Scripted, tokenizer: Tokenizer) -> None:
    t = tokenizer
    script = [
        t.python_end,
        t.output_end,
        t.output_start,
        t.python_start,
        *t.encode("1+"),
        t.python_start,
        *t.encode("2"),
        t.python_end,
    ]
    completion, _, _ = run_script(scripted, t, [*script, *[0] * 3, t.bos])
    assert completion.ids == [
        *script,
        t.output_start,
        *t.encode("2"),
        t.output_end,
    ]  # the second start begins anew
    assert completion.finish_reason == "stop"


def test_max_tokens_counts_sampled_tokens(scripted: Scripted, tokenizer: Tokenizer) -> None:
    t = tokenizer
    call = [t.python_start, *t.encode("1+1"), t.python_end]
    completion, _, _ = run_script(
        scripted, t, [*call, *[0] * 3, *t.encode("abcdef")], max_tokens=len(call) + 2
    )
    assert completion.text == "1+12ab"
    assert completion.finish_reason == "length"
    assert completion.injected.count(False) == len(call) + 2


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("hello the END of it", ("the E",), "hello "),  # over tokens ` the`, ` `, `END`
        ("hello", ("lo", "he"), ""),
        ("aab", ("ab",), "a"),
        ("a the the", ("the the the",), "a the the"),
        ("no", ("x", "yes"), "no"),
        ("grüße 🎉!", ("🎉",), "grüße "),
        ("ends on EN", ("END",), "ends on EN"),
        ("END", ("E", "END"), ""),
    ],
)
def test_stop_strings(
    scripted: Scripted, tokenizer: Tokenizer, text: str, stop: tuple[str, ...], expected: str
) -> None:
    completion, _, streamed = run_script(
        scripted, tokenizer, [*tokenizer.encode(text), tokenizer.assistant_end], stop=stop
    )
    assert streamed == expected
    assert completion.finish_reason == "stop"


def test_stream_keeps_characters_whole(scripted: Scripted, tokenizer: Tokenizer) -> None:
    t = tokenizer
    emoji = list("🎉".encode())
    prompt = (1, 2, 3)
    script = [*emoji, *emoji[:2], t.python_start, 65, *emoji[:3], t.assistant_end]
    engine = Engine(scripted(script, 3), t)
    events = list(engine.stream(Request(prompt, SamplingParams(temperature=0.0))))
    assert [event.text for event in events] == ["", "", "", "🎉", "", "", "�", "A", "", "", "", "�"]
