"""How answers are written down: log-probabilities, and streams that say what whole answers say."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from chatling.inference.detokenizer import TokenLogprob
from chatling.inference.request import Request, RequestState
from chatling.inference.sampling import SamplingParams
from chatling.serve.completion import Choice, PlainFormat
from chatling.serve.logprobs import chat_logprobs, plain_logprobs
from chatling.tokenizer.bpe import Tokenizer

TOKENIZER = Tokenizer([bytes([byte]) for byte in range(256)], digits=2)


def test_logprobs_of_half_characters_and_certainty() -> None:
    halves = [TokenLogprob(byte, -0.1, (), 5) for byte in "é".encode()]
    assert [entry["token"] for entry in chat_logprobs(TOKENIZER, halves)] == [
        "bytes:\\xc3",
        "bytes:\\xa9",
    ]
    first = [TokenLogprob(97, math.nan, (), 0), TokenLogprob(98, -math.inf, ((97, 0.0),), 1)]
    assert plain_logprobs(TOKENIZER, first) == {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -9999.0],
        "top_logprobs": [None, {"a": 0.0, "b": -9999.0}],
        "text_offset": [0, 1],
    }


@pytest.mark.parametrize("together", [1, 2, 3, 100])
def test_a_stream_with_broken_characters_is_the_whole_answer(together: int) -> None:
    """Whatever events arrive together: text, tokens and offsets are the same, over an echo that
    ends inside a character, and half characters that the next token breaks off.
    """
    prompt = (TOKENIZER.bos, *b"ab", 0xC3)
    script = [0xE4, *b"x", *"é".encode(), 0xF0, 0x9F, *b"yz", 0xC3]
    state = RequestState(
        Request(prompt, SamplingParams(max_tokens=len(script)), True), TOKENIZER, 99
    )
    state.completion.prompt_logprobs = [-1.0] * 3
    events = [state.advance(token, -0.5) for token in script]
    job: Any = SimpleNamespace(model=SimpleNamespace(tokenizer=TOKENIZER))
    choice = Choice(0, SimpleNamespace(state=state), echo_from=1)  # type: ignore[arg-type]
    form, said = PlainFormat(logprobs=True), []
    for start in range(0, len(events), together):
        fresh = [
            chunk for event in events[start : start + together] for chunk in choice.take(event)
        ]
        said += form.deltas(job, choice, fresh)
    whole = form.whole(job, choice)
    assert (
        "".join(delta["text"] for delta in said)
        == whole["text"]
        == "ab\ufffd" + state.completion.text
    )
    for name, column in whole["logprobs"].items():
        assert [value for delta in said for value in delta["logprobs"][name]] == column
    offsets = whole["logprobs"]["text_offset"]
    assert offsets == [0, 1, 2, 3, 3, 5, 5, 6, 6, 6, 8, 9]
    assert whole["text"] == "ab\ufffd\ufffdxé\ufffdyz\ufffd"
