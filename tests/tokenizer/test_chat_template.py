"""Conversations as tokens: the layout and mask by hand, the template in transformers, and
completions read back.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from chatling.errors import DataError
from chatling.messages import Conversation, Message, Part
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from chatling.tokenizer.chat_template import (
    merge_texts,
    parse_completion,
    render,
    render_prompt,
)
from chatling.tokenizer.hf_format import chat_template

TOOL_TURN = Message(
    "assistant",
    (
        Part("text", "Let me see: "),
        Part("python", "6*7"),
        Part("output", "42"),
        Part("text", "It is 42."),
    ),
)
EXAMPLE = Conversation(
    (
        Message.of("system", "Be kind."),
        Message.of("user", "What is 6*7?"),
        TOOL_TURN,
        Message.of("user", "Thanks"),
        Message.of("assistant", "Any time."),
    )
)

plain = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda text: "<|" not in text and "|>" not in text
)
filled = plain.filter(str.strip)
parts = st.lists(
    st.builds(Part, st.sampled_from(["text", "python", "output"]), plain), min_size=1, max_size=5
)
answers = parts.filter(lambda parts: any(part.text.strip() for part in parts)).map(
    lambda parts: Message("assistant", tuple(parts))
)


@st.composite
def conversations(draw: st.DrawFn, prompt: bool = False) -> Conversation:
    turns = [Message.of("system", draw(filled))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns += [Message.of("user", draw(filled)), draw(answers)]
    return Conversation(tuple(turns[:-1] if prompt else turns))


@pytest.fixture(scope="module")
def hf(folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder)


def test_layout_and_mask_by_hand(tokenizer: Tokenizer) -> None:
    t, encode = tokenizer, tokenizer.encode
    pieces = [
        (
            [
                t.bos,
                t.user_start,
                *encode("Be kind.\n\nWhat is 6*7?"),
                t.user_end,
                t.assistant_start,
            ],
            False,
        ),
        ([*encode("Let me see: "), t.python_start, *encode("6*7"), t.python_end], True),
        ([t.output_start, *encode("42"), t.output_end], False),
        ([*encode("It is 42."), t.assistant_end], True),
        ([t.user_start, *encode("Thanks"), t.user_end, t.assistant_start], False),
        ([*encode("Any time."), t.assistant_end], True),
    ]
    rendered = render(tokenizer, EXAMPLE)
    assert rendered.ids == [i for ids, _ in pieces for i in ids]
    assert rendered.mask == [loss_mask for ids, loss_mask in pieces for _ in ids]


def test_prompt_ends_where_the_answer_begins(tokenizer: Tokenizer) -> None:
    prompt = render_prompt(tokenizer, EXAMPLE.prompt)
    assert prompt == render(tokenizer, EXAMPLE).ids[: len(prompt)]
    assert prompt[-1] == tokenizer.assistant_start
    with pytest.raises(DataError, match="user message"):
        render_prompt(tokenizer, EXAMPLE)


@given(st.lists(st.sampled_from(SPECIAL_TOKENS), min_size=1).map("".join))
def test_specials_cannot_be_spelled(tokenizer: Tokenizer, text: str) -> None:
    answer = Message("assistant", (Part("text", text), Part("output", text)))
    conversation = Conversation((Message.of("system", text), Message.of("user", text), answer))
    ids = render(tokenizer, conversation).ids
    assert [i for i in ids if i >= tokenizer.bos] == [
        tokenizer.bos,
        tokenizer.user_start,
        tokenizer.user_end,
        tokenizer.assistant_start,
        tokenizer.output_start,
        tokenizer.output_end,
        tokenizer.assistant_end,
    ]


@given(conversations())
@settings(max_examples=150, deadline=None)
def test_template_equals_renderer(
    tokenizer: Tokenizer, hf: PreTrainedTokenizerFast, conversation: Conversation
) -> None:
    messages = conversation.to_dict()["messages"]
    assert hf.apply_chat_template(messages)["input_ids"] == render(tokenizer, conversation).ids


@given(conversations(prompt=True))
@settings(deadline=None)
def test_template_equals_prompt(
    tokenizer: Tokenizer, hf: PreTrainedTokenizerFast, conversation: Conversation
) -> None:
    messages = conversation.to_dict()["messages"]
    assert hf.apply_chat_template(messages, add_generation_prompt=True)[
        "input_ids"
    ] == render_prompt(tokenizer, conversation)


def test_template_takes_parts_in_every_role(
    tokenizer: Tokenizer, hf: PreTrainedTokenizerFast
) -> None:
    messages = [
        {"role": m.role, "content": [{"type": p.kind, "text": p.text} for p in m.parts]}
        for m in EXAMPLE.messages
    ]
    assert hf.apply_chat_template(messages)["input_ids"] == render(tokenizer, EXAMPLE).ids


def test_transformers_knows_our_specials(tokenizer: Tokenizer, hf: PreTrainedTokenizerFast) -> None:
    assert isinstance(hf, PreTrainedTokenizerFast)
    assert hf.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(tokenizer.specials)
    assert (hf.bos_token_id, hf.eos_token_id, len(hf)) == (
        tokenizer.bos,
        tokenizer.assistant_end,
        tokenizer.vocab_size,
    )
    assert hf.chat_template == chat_template()
    ids = render(tokenizer, EXAMPLE).ids
    assert hf.decode(ids) == tokenizer.decode(ids)
    assert hf.decode(ids, skip_special_tokens=True) == tokenizer.decode_bytes(ids).decode()


@pytest.mark.parametrize(
    "roles", ["assistant", "user user", "system assistant", "user tool", "user assistant system"]
)
def test_template_refuses_turns_out_of_order(hf: PreTrainedTokenizerFast, roles: str) -> None:
    with pytest.raises(Exception, match="in turn"):
        hf.apply_chat_template([{"role": role, "content": "x"} for role in roles.split()])


@given(answers)
def test_completion_is_read_back(tokenizer: Tokenizer, answer: Message) -> None:
    rendered = render(tokenizer, Conversation((Message.of("user", "?"), answer)))
    start = rendered.ids.index(tokenizer.assistant_start) + 1
    expected = merge_texts(answer.parts)
    assert parse_completion(tokenizer, rendered.ids[start:]) == expected
    assert parse_completion(tokenizer, rendered.ids[start:-1]) == expected


def test_malformed_completions(tokenizer: Tokenizer) -> None:
    t = tokenizer
    a, b = t.encode("a"), t.encode("b")
    text_a, text_b = Part("text", "a"), Part("text", "b")
    cases: list[tuple[list[int], tuple[Part, ...]]] = [
        ([], ()),
        ([t.assistant_end, *a], ()),
        ([*a, t.python_start, *b], (text_a, Part("python", "b"))),
        ([*a, t.python_end, *b], (Part("text", "ab"),)),
        ([t.python_start, *a, t.output_end, *b, t.python_end], (Part("python", "ab"),)),
        (
            [t.python_start, *a, t.output_start, *b, t.output_end, *a],
            (Part("python", "a"), Part("output", "b"), text_a),
        ),
        (
            [t.python_start, *a, t.python_start, *b, t.python_end],
            (Part("python", "a"), Part("python", "b")),
        ),
        ([t.python_start, t.python_end], (Part("python", ""),)),
        ([*a, t.user_start, *b], (text_a,)),
        ([*a, t.bos, *b], (text_a,)),
        ([t.output_start, *a, t.assistant_end, *b], (Part("output", "a"),)),
        ([*b, *t.encode("é")[:1]], (Part("text", "b" + t.decode(t.encode("é")[:1])),)),
    ]
    for ids, expected in cases:
        assert parse_completion(t, ids) == expected, t.decode(ids)
    assert text_b in parse_completion(t, [*b])


@given(st.lists(st.integers(0, 499)))
def test_any_ids_parse(tokenizer: Tokenizer, ids: list[int]) -> None:
    parts = parse_completion(tokenizer, ids)
    end = next(
        (n for n, i in enumerate(ids) if i in (*range(tokenizer.bos, tokenizer.python_start),)),
        len(ids),
    )
    assert all(part.text or part.kind != "text" for part in parts)
    assert sum(len(part.text) > 0 for part in parts) <= end
    if all(i < tokenizer.bos for i in ids):
        assert "".join(part.text for part in parts) == tokenizer.decode(ids)
