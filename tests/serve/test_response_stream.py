"""Events to pieces: nothing lost, nothing invented, calculator calls apart, log-probabilities on
their text.
"""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from chatling.inference.request import Event, Request, RequestState
from chatling.inference.sampling import SamplingParams
from chatling.serve.response_stream import (
    Chunk,
    Reader,
    TokenLogprob,
    chat_logprobs,
    plain_logprobs,
)
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import parse_completion

PIECES = ["é".encode(), "é".encode() + b" ", b"ab", "\U0001f600".encode()[:2]]
TOKENIZER = Tokenizer([bytes([byte]) for byte in range(256)] + PIECES, digits=2)
T = TOKENIZER
plain = st.sampled_from([*"ab12+ é".encode(), *range(256, T.vocab_size - 9)])
tokens = st.lists(st.one_of(plain, st.sampled_from(T.specials[5:])), max_size=40)


def events(script: list[int], stop: tuple[str, ...] = ()) -> tuple[list[Event], RequestState]:
    """What the engine says when the model says `script`, the calculator's own tokens included."""
    sequence = RequestState(
        Request((1,), SamplingParams(max_tokens=1000, stop=stop)), TOKENIZER, 2000
    )
    found: list[Event] = []
    script = [*script, T.assistant_end]
    while sequence.completion.finish_reason is None:
        found.append(sequence.advance(0 if sequence.queue else script.pop(0), -0.5, ((65, -0.5),)))
    return found, sequence


def read(found: list[Event]) -> list[Chunk]:
    reader = Reader(TOKENIZER)
    return [piece for event in found for piece in reader.read(event)]


def text_of(pieces: list[Chunk], kind: str = "text") -> str:
    return "".join(piece.text for piece in pieces if piece.kind == kind)


@given(tokens)
def test_pieces_are_the_parts_of_the_message(script: list[int]) -> None:
    found, sequence = events(script)
    pieces = read(found)
    parts = parse_completion(TOKENIZER, sequence.completion.ids)
    if (
        "\ufffd" in sequence.completion.text
    ):  # parts join bytes across a stray special token, a stream has sent them by then
        assert sum(len(piece.text) for piece in pieces) == len(sequence.completion.text)
        return
    assert text_of(pieces) == "".join(part.text for part in parts if part.kind == "text")
    assert [(p.kind, p.text) for p in pieces if p.kind != "text"] == [
        (p.kind, p.text) for p in parts if p.kind != "text"
    ]


@given(tokens, st.lists(st.sampled_from(["a", "ba", "é", "12", "1+"]), min_size=1, max_size=2))
def test_stop_strings_end_the_pieces_where_they_end_the_text(
    script: list[int], stop: list[str]
) -> None:
    found, sequence = events(script, tuple(stop))
    pieces = read(found)
    assert sum(len(piece.text) for piece in pieces) == len(sequence.completion.text)
    assert sorted("".join(piece.text for piece in pieces)) == sorted(sequence.completion.text)


@given(tokens)
def test_tokens_spell_the_text(script: list[int]) -> None:
    pieces = read(events(script)[0])
    logprob_of_token = [token for piece in pieces for token in piece.tokens]
    data = b"".join(bytes(entry["bytes"]) for entry in chat_logprobs(TOKENIZER, logprob_of_token))
    assert len(data) >= len(text_of(pieces).replace("\ufffd", "").encode())
    if "\ufffd" not in text_of(pieces):
        assert data.decode() == text_of(pieces)


def test_a_calculator_call() -> None:
    script = [*b"so ", T.python_start, *b"12+7", T.python_end, *b" it is"]
    pieces = read(events(script)[0])
    assert [(p.kind, p.text) for p in pieces if p.kind != "text"] == [
        ("python", "12+7"),
        ("output", "19"),
    ]
    assert text_of(pieces) == "so  it is"
    assert len([token for piece in pieces for token in piece.tokens]) == len(
        "so  it is"
    )  # not the call's


def test_logprobs_of_half_characters_and_certainty() -> None:
    halves = [TokenLogprob(byte, -0.1, ()) for byte in "é".encode()]
    assert [entry["token"] for entry in chat_logprobs(TOKENIZER, halves)] == [
        "bytes:\\xc3",
        "bytes:\\xa9",
    ]
    assert plain_logprobs(TOKENIZER, [*halves, TokenLogprob(97, -0.2, ())], 5)["text_offset"] == [
        5,
        5,
        6,
    ]
    first = plain_logprobs(
        TOKENIZER, [TokenLogprob(97, math.nan, ()), TokenLogprob(98, -math.inf, ((97, 0.0),))], 0
    )
    assert first["token_logprobs"] == [None, -9999.0]
    assert first["top_logprobs"] == [None, {"a": 0.0, "b": -9999.0}]
