"""Preference pairs: every published shape, what is refused, the split, and batches that hold each
pair once.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatling.data import IGNORE
from chatling.data.preference_batches import PreferenceBatches, rendered_pairs
from chatling.data.preferences import (
    NoPreference,
    Preference,
    read_preferences,
    split_preferences,
)
from chatling.data.readers import find_files
from chatling.data.shard_writer import write_conversation_shards
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError, RecipeError
from chatling.messages import Conversation, Message
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render_prompt
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

QUESTION, GOOD, BAD = "What is 1+1?", "It is 2.", "It is 3."
USER, YES, NO = (
    {"role": role, "content": text}
    for role, text in (("user", QUESTION), ("assistant", GOOD), ("assistant", BAD))
)
SHAPES: dict[str, dict[str, Any]] = {
    "TRL strings": {"prompt": QUESTION, "chosen": GOOD, "rejected": BAD},
    "TRL messages": {"prompt": [USER], "chosen": [YES], "rejected": [NO]},
    "TRL implied prompt": {"chosen": [USER, YES], "rejected": [USER, NO]},
    "UltraFeedback": {
        "prompt": QUESTION,
        "chosen": [USER, YES],
        "rejected": [USER, NO],
        "score_chosen": 9.0,
    },
    "HH-RLHF": {
        "chosen": f"\n\nHuman: {QUESTION}\n\nAssistant: {GOOD}",
        "rejected": f"\n\nHuman: {QUESTION}\n\nAssistant: {BAD}",
    },
    "HH with a prompt": {
        "prompt": f"\n\nHuman: {QUESTION}\n\nAssistant:",
        "chosen": f" {GOOD}",
        "rejected": f" {BAD}",
    },
    "ShareGPT turns": {
        "prompt": [{"from": "human", "value": QUESTION}],
        "chosen": [{"from": "gpt", "value": GOOD}],
        "rejected": BAD,
    },
    "question and system": {"system": "", "question": QUESTION, "chosen": GOOD, "rejected": BAD},
    "Alpaca": {"instruction": QUESTION, "input": "", "chosen": GOOD, "rejected": BAD},
    "answers by other names": {
        "prompt": QUESTION,
        "response_chosen": GOOD,
        "response_rejected": BAD,
    },
    "HH-RLHF with CR LF": {
        "chosen": f"\r\n\r\nHuman: {QUESTION}\r\n\r\nAssistant: {GOOD}",
        "rejected": f"\r\n\r\nHuman: {QUESTION}\r\n\r\nAssistant: {BAD}",
    },
    "content as parts": {
        "prompt": [USER | {"content": [{"type": "text", "text": QUESTION}]}],
        "chosen": [YES | {"content": [{"type": "text", "text": GOOD}]}],
        "rejected": [NO],
    },
    "one message as an object": {"prompt": USER, "chosen": YES, "rejected": NO},
    "turns and two answers": {
        "conversations": [{"from": "human", "value": QUESTION}],
        "chosen": {"from": "gpt", "value": GOOD},
        "rejected": {"from": "gpt", "value": BAD},
    },
    "the API's": {
        "input": {"messages": [USER]},
        "preferred_output": [YES],
        "non_preferred_output": [NO],
    },
    "judged by number": {
        "prompt": QUESTION,
        "response_0": BAD,
        "response_1": GOOD,
        "better_response_id": 1,
    },
    "judged by name": {
        "conversation_a": [USER, YES],
        "conversation_b": [USER, NO],
        "winner": "model_a",
    },
    "messages as JSON": {
        "prompt": json.dumps([USER]),
        "chosen": json.dumps([YES]),
        "rejected": json.dumps([USER, NO]),
    },
    "parting before the end": {
        "chosen": [USER, YES, {"role": "user", "content": "Thanks"}, YES],
        "rejected": [USER, NO],
    },
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_gives_the_same_pair(name: str) -> None:
    assert Preference.from_row(SHAPES[name]) == Preference.of(QUESTION, GOOD, BAD)


def test_earlier_turns_and_the_system_message_belong_to_the_prompt() -> None:
    before = [
        {"role": "system", "content": "Be brief."},
        USER,
        YES,
        {"role": "user", "content": "And 2+2?"},
    ]
    pair = Preference.from_row({"prompt": before, "chosen": "4", "rejected": "5"})
    assert pair.prompt == Conversation.of(QUESTION, GOOD, "And 2+2?", system="Be brief.")
    assert (pair.chosen, pair.rejected) == (
        Message.of("assistant", "4"),
        Message.of("assistant", "5"),
    )


QUOTE = "Sure:\n\nHuman: Hi\n\nAssistant: Hello!"


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        (QUESTION, "    return 1", "  return 1"),
        (QUESTION, QUOTE, "No."),
        (
            QUESTION,
            "Human: Hi\n\nAssistant: Hello!",
            "No.",
        ),  # an answer that is a dialogue, and not this one
        ("Go on:\n\nHuman: Hi", GOOD, BAD),
        ("Human: is that a kind of ape?", GOOD, BAD),
        (f"Context:\n\n{QUOTE}", GOOD, BAD),
    ],
)
def test_texts_stay_as_they_are(prompt: str, chosen: str, rejected: str) -> None:
    assert Preference.from_row(
        {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    ) == Preference.of(prompt, chosen, rejected)


def test_a_system_text_beside_the_prompt_is_kept_once() -> None:
    expected = Conversation.of(QUESTION, system="Be brief.")
    row = {"system": "Be brief.", "prompt": QUESTION, "chosen": GOOD, "rejected": BAD}
    assert Preference.from_row(row).prompt == expected
    own = [{"role": "system", "content": "Be brief."}, USER]
    assert Preference.from_row(row | {"system": "Be long.", "prompt": own}).prompt == expected
    alpaca = {"instruction": QUESTION, "input": "Fast!", "chosen": 2, "rejected": 3}
    assert Preference.from_row(alpaca) == Preference.of(f"{QUESTION}\n\nFast!", "2", "3")


TIES = [
    ({"prompt": QUESTION, "chosen": GOOD, "rejected": GOOD}, "are the same"),
    (
        {
            "prompt": QUESTION,
            "chosen": GOOD,
            "rejected": BAD,
            "score_chosen": 8.0,
            "score_rejected": 8,
        },
        "a tie: its two scores",
    ),
    (
        {"conversation_a": [USER, YES], "conversation_b": [USER, NO], "winner": "tie (bothbad)"},
        "a tie: its 'winner'",
    ),
]


@pytest.mark.parametrize(("row", "why"), TIES)
def test_ties_are_left_out_and_told_and_are_no_fault(
    row: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(NoPreference, match=why):
        Preference.from_row(row)
    said: list[str] = []
    rows: list[Any] = [row] * 20 + [_row(i) for i in range(5)]
    assert len(read_preferences([_write(tmp_path / "a.jsonl", rows)], said.append)) == 5
    assert said[0].startswith(
        "preferences: 20 of 25 rows prefer neither answer and were left out; the first is "
    )
    assert f"a.jsonl line 1: {why[:9]}" in said[0] or why in said[0]
    with pytest.raises(DataError, match=f"no preference pairs in .*line 1: .*{why}"):
        read_preferences([_write(tmp_path / "b.jsonl", [row] * 20)], said.append)


REFUSED = [
    (
        {"prompt": QUESTION, "response_0": GOOD, "response_1": BAD, "better_response_id": 7},
        "names neither 'response_0' nor 'response_1'",
    ),
    ({"text": "once"}, "no 'chosen' and no 'rejected' answer; it has text"),
    ({"prompt": QUESTION, "chosen": GOOD}, "no 'rejected' answer"),
    ({"prompt": QUESTION, "chosen": GOOD, "rejected": GOOD}, "are the same"),
    (
        {"chosen": [USER, YES], "rejected": [{"role": "user", "content": "Other?"}, NO]},
        "part at a turn of the user",
    ),
    ({"chosen": GOOD, "rejected": BAD}, "no user message"),
    (
        {"prompt": QUESTION, "chosen": [{"role": "wizard", "content": "x"}], "rejected": BAD},
        "from 'wizard'",
    ),
    ({"prompt": QUESTION, "chosen": [5], "rejected": BAD}, "a turn is 5, not a role and a text"),
    ({"prompt": QUESTION, "chosen": True, "rejected": None}, "no 'rejected' answer"),
    ({"prompt": QUESTION, "chosen": object(), "rejected": BAD}, "neither a text nor a list"),
    ({"prompt": QUESTION, "chosen": "  ", "rejected": BAD}, "empty assistant message"),
    (
        {"prompt": [USER, YES], "chosen": GOOD, "rejected": BAD},
        "does not end on the user|from 'assistant'",
    ),
]


@pytest.mark.parametrize(("row", "why"), REFUSED)
def test_what_is_no_pair_is_refused(row: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        Preference.from_row(row)


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).map(str.strip).filter(bool)


@given(
    st.lists(TEXTS, min_size=1, max_size=5).filter(lambda turns: len(turns) % 2 == 1), TEXTS, TEXTS
)
def test_messages_round_trip(turns: list[str], chosen: str, rejected: str) -> None:
    if chosen == rejected:
        return
    prompt = Conversation.of(*turns)
    rows = prompt.to_dict()["messages"]
    pair = Preference.from_row(
        {"prompt": rows, "chosen": [answer_dict(chosen)], "rejected": [answer_dict(rejected)]}
    )
    assert pair == Preference(
        prompt, Message.of("assistant", chosen), Message.of("assistant", rejected)
    )


def answer_dict(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows),
        encoding="utf-8",
    )
    return path


def _row(i: int) -> dict[str, str]:
    return {"prompt": f"Question {i}?", "chosen": f"Good {i}.", "rejected": f"Bad {i}."}


def test_bad_rows_are_skipped_and_told_and_many_are_refused(tmp_path: Path) -> None:
    said: list[str] = []
    rows: list[Any] = [_row(i) for i in range(50)]
    file = _write(tmp_path / "pairs.jsonl", [*rows[:20], {"prompt": "x"}, "{broken", *rows[20:]])
    assert len(read_preferences([file], said.append)) == 50
    assert "2 of 52 rows were skipped" in said[0]
    with pytest.raises(DataError, match="cannot be used"):
        read_preferences([_write(tmp_path / "bad.jsonl", [{"prompt": "x"}] * 30)], said.append)
    with pytest.raises(DataError, match="no preference pairs"):
        read_preferences([_write(tmp_path / "none.jsonl", [])], said.append)


def test_the_split_is_by_file_name_or_by_prompt(tmp_path: Path) -> None:
    one = _write(
        tmp_path / "pairs.jsonl", [_row(i // 2) | {"rejected": f"Bad {i}."} for i in range(400)]
    )
    train, validation = split_preferences([one], print)
    assert len(train) + len(validation) == 400
    assert 4 <= len(validation) <= 60
    assert not {pair.prompt for pair in train} & {pair.prompt for pair in validation}
    assert (train, validation) == split_preferences([one], print)
    test = _write(tmp_path / "test.jsonl", [_row(1000)])
    train, validation = split_preferences(find_files(tmp_path).files, print)
    assert (len(train), len(validation)) == (400, 1)
    assert test in find_files(tmp_path).files


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(
        iter(["a question and its answers, good and bad"] * 20), TokenizerConfig(vocab_size=300)
    )


@pytest.fixture(scope="module")
def pairs() -> list[Preference]:
    system = Conversation.of("Hi", "Hello!", "And?", system="Be kind.")
    made = [
        Preference.of(f"Question {i}" + " long" * (i % 7), f"Good {i}", f"Bad answer {i}")
        for i in range(40)
    ]
    return [
        *made,
        Preference(system, Message.of("assistant", "Well."), Message.of("assistant", "So.")),
    ]


@pytest.fixture(scope="module")
def shards(
    tokenizer: Tokenizer, pairs: list[Preference], tmp_path_factory: pytest.TempPathFactory
) -> TokenShards:
    folder = tmp_path_factory.mktemp("pairs") / "train"
    return write_conversation_shards(
        folder, rendered_pairs(tokenizer, pairs), tokenizer.vocab_size, fingerprint="test"
    )


def test_only_the_answer_is_learnt(tokenizer: Tokenizer, pairs: list[Preference]) -> None:
    rendered = rendered_pairs(tokenizer, pairs)
    for i, pair in enumerate(pairs):
        for side, answer in enumerate((pair.chosen, pair.rejected)):
            item, prompt = rendered[2 * i + side], render_prompt(tokenizer, pair.prompt)
            assert item.ids == [*prompt, *tokenizer.encode(answer.text), tokenizer.assistant_end]
            assert [
                id for id, learnt in zip(item.ids, item.mask, strict=True) if learnt
            ] == item.ids[len(prompt) :]


def _batches(shards: TokenShards, tokenizer: Tokenizer, **changes: Any) -> PreferenceBatches:
    settings: dict[str, Any] = {
        "bos": tokenizer.bos,
        "seed": 3,
        "max_tokens": 256,
        "pad_to_multiple_of": 16,
    } | changes
    return PreferenceBatches(
        shards, 6, 256, settings.pop("rank", 0), settings.pop("world", 1), **settings
    )


def _answers(batch: Any, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """(chosen, rejected) texts of a micro-batch's pairs."""
    texts = [
        tokenizer.decode([int(t) for t in row if t != IGNORE and t < tokenizer.bos])
        for row in batch.targets
    ]
    half = len(texts) // 2
    return list(zip(texts[:half], texts[half:], strict=True))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_pair_comes_once_an_epoch_with_both_answers_together(
    world: int, shards: TokenShards, tokenizer: Tokenizer, pairs: list[Preference]
) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    steps = 41  # 6 pairs a step: six epochs of 41 pairs
    for rank in range(world):
        source = _batches(shards, tokenizer, rank=rank, world=world).steps()
        for _ in range(steps):
            step = next(source)
            assert step.count == 6 // world
            for batch in step.micro_batches:
                seen.update(_answers(batch, tokenizer))
    assert seen == {(pair.chosen.text, pair.rejected.text): 6 for pair in pairs}


def test_going_on_from_a_state_gives_the_same_steps(
    shards: TokenShards, tokenizer: Tokenizer
) -> None:
    whole = _batches(shards, tokenizer).steps()
    first = [next(whole) for _ in range(9)]
    again = _batches(shards, tokenizer).steps(json.loads(json.dumps(first[3].state)))
    for step in first[4:]:
        other = next(again)
        assert (step.state, step.position, step.count, step.tokens) == (
            other.state,
            other.position,
            other.count,
            other.tokens,
        )
        for a, b in zip(step.micro_batches, other.micro_batches, strict=True):
            np.testing.assert_array_equal(a.inputs, b.inputs)
            np.testing.assert_array_equal(a.targets, b.targets)


def test_one_shape_pads_and_references_follow_their_answers(
    shards: TokenShards, tokenizer: Tokenizer
) -> None:
    batches = _batches(shards, tokenizer, one_shape=True, max_tokens=128)
    batches.reference = np.arange(shards.documents, dtype=np.float32) + 1
    shapes, seen = set(), []
    for numbers, batch in batches.once():
        shapes.add(batch.inputs.shape)
        half = len(batch.reference) // 2
        real = (batch.targets != IGNORE).any(axis=1)
        assert real.reshape(2, half).sum() == 2 * len(numbers)
        np.testing.assert_array_equal(batch.reference[: len(numbers)], 2 * numbers + 1)
        np.testing.assert_array_equal(batch.reference[half : half + len(numbers)], 2 * numbers + 2)
        assert (batch.reference[~real] == 0).all()
        seen.extend(numbers.tolist())
    assert len(shapes) == 1
    assert sorted(seen) == list(range(41))


def test_pairs_too_long_are_left_out_and_none_is_an_error(
    shards: TokenShards, tokenizer: Tokenizer
) -> None:
    lengths = np.asarray(shards.lengths).reshape(-1, 2).max(axis=1)
    limit = int(np.median(lengths))
    batches = _batches(shards, tokenizer, max_tokens=limit)
    assert batches.left_out == int((lengths > limit).sum()) > 0
    assert all(batch.inputs.shape[1] <= -(-limit // 16) * 16 for _, batch in batches.once())
    with pytest.raises(DataError, match="fits the model's context of 4 tokens"):
        _batches(shards, tokenizer, max_tokens=4)
    with pytest.raises(RecipeError, match="do not divide"):
        _batches(shards, tokenizer, world=4)


def test_the_data_packs_pairs_are_read(data_pack: Path) -> None:
    said: list[str] = []
    train, validation = split_preferences(find_files(data_pack / "dpo").files, said.append)
    assert (len(train), len(validation)) == (4442, 300)
    assert said == []
    assert all(
        pair.prompt.messages[-1].role == "user" and pair.chosen != pair.rejected
        for pair in (*train, *validation)
    )
