"""Texts and conversations become the reference's tokens, masks and prompts."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from chatling.messages import Conversation
from chatling.tasks.gsm8k import worked_answer
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from chatling.tokenizer.chat_template import merge_texts, render, render_prompt

from .reference import EXPECTED, expected

FACTS = expected("rendering/conversations.json")


@pytest.fixture(scope="session", params=["fastokens", "tiktoken"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    lines = (EXPECTED / "rendering/ranks.tiktoken").read_bytes().splitlines()
    pieces = [base64.b64decode(line.split()[0]) for line in lines]
    return Tokenizer(pieces, FACTS["digits"], request.param)


def test_texts(tokenizer: Tokenizer) -> None:
    first = len(tokenizer.pieces)
    assert FACTS["specials"] == {text: first + i for i, text in enumerate(SPECIAL_TOKENS)}
    for row in FACTS["texts"]:
        assert tokenizer.encode(row["text"]) == row["ids"], row["text"]
        assert tokenizer.decode(row["ids"]) == row["text"]


@pytest.mark.parametrize("number", range(len(FACTS["conversations"])))
def test_conversations(tokenizer: Tokenizer, number: int) -> None:
    row = FACTS["conversations"][number]
    conversation = Conversation.from_dict(row)
    rendered, prompt = render(tokenizer, conversation), conversation.prompt
    # which are joined here before they are encoded
    if row.get("remark") == "adjacent text parts" and rendered.ids != row["ids"]:
        assert tokenizer.decode(rendered.ids) == tokenizer.decode(row["ids"])
        return
    assert rendered.ids == row["ids"]
    assert "".join("01"[each] for each in rendered.mask) == row["mask"]
    wanted = row["prompt"]
    if len(row["ids"]) > 2048:  # which the reference cuts
        wanted = render_prompt(tokenizer, prompt)
        assert wanted[: len(row["prompt"]) - 1] == row["prompt"][:-1]
    assert render_prompt(tokenizer, prompt) == wanted


@pytest.mark.parametrize("row", [row for row in FACTS["conversations"] if "raw" in row])
def test_worked_answers(row: dict[str, Any]) -> None:
    parts = merge_texts(worked_answer(row["raw"]))
    wanted = merge_texts(Conversation.from_dict(row).messages[-1].parts)
    # a call without an answer is plain text here, a call with an empty answer in the reference
    assert (parts == wanted) == ("remark" not in row)
