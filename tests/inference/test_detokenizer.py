"""Tokens to chunks: nothing lost, nothing invented, calculator calls apart, log-probabilities on
their text.
"""

from __future__ import annotations

import codecs

from hypothesis import given
from hypothesis import strategies as st

from chatling.inference.detokenizer import Chunk, joined
from chatling.inference.request import Event, Request, RequestState
from chatling.inference.sampling import SamplingParams
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import parse_completion

PIECES = ["é".encode(), "é".encode() + b" ", b"ab", "\U0001f600".encode()[:2]]
TOKENIZER = Tokenizer([bytes([byte]) for byte in range(256)] + PIECES, digits=2)
T = TOKENIZER
plain = st.sampled_from([*"ab12+ é".encode(), *range(256, T.vocab_size - 9)])
tokens = st.lists(st.one_of(plain, st.sampled_from(T.specials[5:])), max_size=40)


def events(script: list[int], stop: tuple[str, ...] = ()) -> tuple[list[Event], RequestState]:
    """What the engine says when the model says `script`, the calculator's own tokens included."""
    state = RequestState(Request((1,), SamplingParams(max_tokens=1000, stop=stop)), TOKENIZER, 2000)
    found: list[Event] = []
    script = [*script, T.assistant_end]
    while state.completion.finish_reason is None:
        found.append(state.advance(0 if state.queue else script.pop(0), -0.5, ((65, -0.5),)))
    return found, state


def read(found: list[Event]) -> list[Chunk]:
    return joined([chunk for event in found for chunk in event.chunks])


def text_of(chunks: list[Chunk], kind: str = "text") -> str:
    return "".join(chunk.text for chunk in chunks if chunk.kind == kind)


@given(tokens)
def test_chunks_are_the_parts_of_the_message(script: list[int]) -> None:
    found, state = events(script)
    chunks = read(found)
    parts = parse_completion(TOKENIZER, state.completion.ids)
    if (
        "\ufffd" in state.completion.text
    ):  # parts join bytes across a stray special token, a stream has sent them by then
        assert sum(len(chunk.text) for chunk in chunks) == len(state.completion.text)
        return
    assert text_of(chunks) == "".join(part.text for part in parts if part.kind == "text")
    assert [(p.kind, p.text) for p in chunks if p.kind != "text"] == [
        (p.kind, p.text) for p in parts if p.kind != "text"
    ]


@given(tokens, st.lists(st.sampled_from(["a", "ba", "é", "12", "1+"]), min_size=1, max_size=2))
def test_stop_strings_end_the_chunks_where_they_end_the_text(
    script: list[int], stop: list[str]
) -> None:
    found, state = events(script, tuple(stop))
    chunks = read(found)
    assert sum(len(chunk.text) for chunk in chunks) == len(state.completion.text)
    assert sorted("".join(chunk.text for chunk in chunks)) == sorted(state.completion.text)


@given(tokens)
def test_tokens_spell_the_text(script: list[int]) -> None:
    chunks = read(events(script)[0])
    data = b"".join(T.pieces[token.token] for chunk in chunks for token in chunk.tokens)
    assert len(data) >= len(text_of(chunks).replace("\ufffd", "").encode())
    if "\ufffd" not in text_of(chunks):
        assert data.decode() == text_of(chunks)


def test_a_calculator_call() -> None:
    script = [*b"so ", T.python_start, *b"12+7", T.python_end, *b" it is"]
    chunks = read(events(script)[0])
    assert [(p.kind, p.text) for p in chunks if p.kind != "text"] == [
        ("python", "12+7"),
        ("output", "19"),
    ]
    assert text_of(chunks) == "so  it is"
    assert len([token for chunk in chunks for token in chunk.tokens]) == len(
        "so  it is"
    )  # not the call's


@given(st.lists(plain, max_size=30), st.sampled_from([(), ("a1",), ("é", "  ")]))
def test_offsets_are_places_of_the_text(script: list[int], stop: tuple[str, ...]) -> None:
    """A token begins where the text of the tokens before it ends, whatever is held back meanwhile;
    half a character counts once it is known what becomes of it.
    """
    chunks = read(events(script, stop)[0])
    decoder, expected = codecs.getincrementaldecoder("utf-8")(errors="replace"), [0]
    for token in script:
        expected.append(expected[-1] + len(decoder.decode(T.pieces[token])))
    offsets = [token.offset for chunk in chunks for token in chunk.tokens]
    assert offsets == expected[: len(offsets)]
    assert len(offsets) == len(script) or stop
    assert all(offset <= len(text_of(chunks)) for offset in offsets)


def test_a_token_that_ends_a_broken_character_begins_before_it() -> None:
    chunks = read(events([0xE4, *b"xy"])[0])
    assert text_of(chunks) == "\ufffdxy"
    assert [token.offset for token in chunks[0].tokens] == [0, 0, 2]
