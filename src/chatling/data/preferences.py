"""Preference pairs: a prompt with a better and a worse answer, read in the shapes they are
published in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatling.data.chat_formats import (
    Columns,
    are_turns,
    earlier_turns,
    find_columns,
    joined_question,
    named_columns,
    preference_columns,
    read_turns,
    system_message,
    text_of,
)
from chatling.data.names import plain
from chatling.data.readers import placed_rows
from chatling.data.row_errors import RowErrors
from chatling.data.splits import is_held_out
from chatling.errors import DataError
from chatling.messages import Conversation, Message, shown

# HH-RLHF writes whole conversations as one string
TURN = re.compile(r"(?:^|\r?\n\r?\n)(Human|Assistant): ?")
ANSWER_ASKED = re.compile(r"\r?\n\r?\nAssistant:\s*$")
TIES = ("tie", "tiebothbad", "bothbad", "equal", "same", "none", "neither")
TRANSCRIPT = re.compile(r"\s*Human: ?")
HELD_OUT_NAME = re.compile(r"test|valid|eval|dev", re.IGNORECASE)
HELD_OUT_ONE_IN = 20  # where no file is for validation, one prompt in so many is


class NoPreference(DataError):
    """A pair of which neither answer is better: a tie, or the same answer twice. Left out, and no
    fault of the file.
    """


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, which ends on the user."""

    prompt: Conversation
    chosen: Message
    rejected: Message

    @staticmethod
    def of(prompt: str, chosen: str, rejected: str) -> Preference:
        return Preference(
            Conversation.of(prompt),
            Message.of("assistant", chosen),
            Message.of("assistant", rejected),
        )

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Preference:
        """Read TRL's shapes (strings or message lists, prompt given or implied), UltraFeedback's
        (answers that repeat the prompt), HH-RLHF's (two transcripts), and two answers with a
        judgement. A prompt may have any name that a question has, and a system text beside it. The
        prompt is what both answers have in common. Raises DataError when that gives no pair.
        """
        if not isinstance(row, Mapping):
            raise DataError("it is no row with a prompt and two answers")
        try:
            return _preference(row)
        except RecursionError:
            raise DataError("its values are nested too deeply") from None


def _preference(row: Mapping[str, Any]) -> Preference:
    names = _answer_columns(row)
    columns = prompt_columns(row, names)
    before, spoken = _prompt(row, columns)
    chosen, rejected = (_side(row[name], name, before, spoken) for name in names)
    shared = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
        min(len(chosen), len(rejected)),
    )
    if shared == min(len(chosen), len(rejected)):
        raise NoPreference("its chosen and rejected answers are the same")
    scores = [row.get(name) for name in ("score_chosen", "score_rejected")]
    if all(isinstance(score, int | float) for score in scores) and scores[0] == scores[1]:
        raise NoPreference("it is a tie: its two scores are equal")
    if chosen[shared].role != "assistant" or rejected[shared].role != "assistant":
        raise DataError("its chosen and rejected conversations part at a turn of the user")
    prompt = Conversation((*system_message(row, columns.system, chosen), *chosen[:shared]))
    if prompt.messages[-1].role != "user":
        raise DataError("its prompt does not end on the user")
    answers = [
        Conversation((*prompt.messages, side[shared])).messages[-1] for side in (chosen, rejected)
    ]
    return Preference(prompt, *answers)


def _answer_columns(row: Mapping[str, Any]) -> tuple[str, str]:
    """The columns of the better answer and of the worse one."""
    found = preference_columns(row)
    if found is None:
        missing = " and no ".join(repr(name) for name in ("chosen", "rejected") if name not in row)
        raise DataError(
            f"it has no {missing} answer; it has {', '.join(map(str, row)) or 'no values'}"
        )
    first, second, judgement = found
    for name in (first, second):
        if row[name] is None or row[name] == "" or row[name] == []:
            raise DataError(f"it has no {name!r} answer")
    if judgement is None:
        return first, second
    better = row[judgement]
    place = plain(text_of(better, judgement)[:20])
    if place in TIES:
        raise NoPreference(f"it is a tie: its {judgement!r} is {shown(better)}")
    ends = [plain(name)[-1] for name in (first, second)]  # 0 and 1, a and b
    found_at = [
        i for i, end in enumerate(ends) if place in (end, plain((first, second)[i]), f"model{end}")
    ]
    if not found_at:
        raise DataError(
            f"its {judgement!r} is {shown(better)}, which names neither {first!r} nor {second!r}"
        )
    return (first, second) if found_at[0] == 0 else (second, first)


def prompt_columns(row: Mapping[str, Any], answers: Sequence[str]) -> Columns:
    """The columns of the prompt, told by their names."""
    rest = {name: value for name, value in row.items() if name not in answers}
    named = named_columns([*map(str, rest), "answer"])  # as if there were one answer
    if named.questions:
        return named
    turns = find_columns(rest)
    return turns if turns is not None and turns.turns is not None else named


def _prompt(row: Mapping[str, Any], columns: Columns) -> tuple[list[Message], bool]:
    """The turns before the answers, and whether they were a transcript."""
    history = earlier_turns(row, columns)
    name = columns.turns or next(iter(columns.questions), None)
    value = row.get(name) if name is not None else None
    if isinstance(value, Mapping) and "messages" in value:
        value = value["messages"]
    if name is None or value is None or value == "" or value == []:
        return history, False
    if not isinstance(value, str) or are_turns(value):
        return [*history, *read_turns(value)], False
    turns = _transcript(value)
    if turns and (
        value[:1] in "\r\n"
        or any(turn.role == "assistant" for turn in turns)
        or ANSWER_ASKED.search(value)
    ):
        return [*history, *turns], True
    return [*history, Message.of("user", joined_question(row, columns.questions))], False


def _side(value: Any, name: str, before: Sequence[Message], spoken: bool) -> list[Message]:
    """The conversation that ends with one of the answers; `spoken` says that the prompt was a
    transcript.
    """
    if isinstance(value, bool | int | float):
        value = text_of(value, name)
    if isinstance(value, str) and not are_turns(value):
        turns = _transcript(value)
        asked = [turn.text.strip() for turn in before if turn.role == "user"]
        if (
            turns
            and turns[-1].role == "assistant"
            and (not asked or turns[0].text.strip() == asked[0])
        ):
            return turns  # it repeats the prompt
        return [*before, Message.of("assistant", value.strip() if spoken else value)]
    if not isinstance(value, Mapping | list | tuple | str):
        raise DataError(f"its {name!r} is {shown(value)}, neither a text nor a list of messages")
    turns = read_turns(value)
    return turns if not turns or turns[0].role != "assistant" else [*before, *turns]


def _transcript(text: str) -> list[Message]:
    """The turns of a string in which Human and Assistant speak in turn from its beginning; else
    none.
    """
    if not TRANSCRIPT.match(text):
        return []
    parts = TURN.split(text.lstrip())
    names, texts = parts[1::2], parts[2::2]
    # a prompt that ends "Assistant:" asks for the answer
    if texts[-1].strip() == "" and names[-1] == "Assistant":
        names, texts = names[:-1], texts[:-1]
    return [
        Message.of("user" if name == "Human" else "assistant", said.strip())
        for name, said in zip(names, texts, strict=True)
    ]


def read_preferences(files: Sequence[Path], note: Callable[[str], None]) -> list[Preference]:
    """The pairs of some files. Rows that are none are counted, noted and skipped, and so are ties,
    which are no fault; DataError when bad rows are many, or nothing is left.
    """
    errors, found, ties = RowErrors(), list[Preference](), list[str]()
    for file in files:
        for place, row in placed_rows(file, errors):
            where = f"{file} {place}"
            try:
                if isinstance(row, str):
                    raise DataError("it is text, not a row with a prompt and two answers")
                found.append(Preference.from_row(row))
            except NoPreference as error:
                ties.append(f"{where}: {error.what}")
            except DataError as error:
                errors.add(where, error.what)
    if errors.bad:
        note(
            f"preferences: {errors.bad:,} of {errors.rows:,} rows were skipped; the first is"
            f" {errors.examples[0]}"
        )
    if ties:
        note(
            f"preferences: {len(ties):,} of {errors.rows:,} rows prefer neither answer and were"
            f" left out; the first is {ties[0]}"
        )
    if not found:
        reason = next(iter([*errors.examples, *ties]), None)
        raise DataError(
            "There are no preference pairs in"
            f" {', '.join(map(str, files)) or 'no files'}{f'; {reason}' if reason else ''}.",
            "Bring rows of prompt, chosen and rejected.",
        )
    return found


def split_preferences(
    files: Sequence[Path], note: Callable[[str], None]
) -> tuple[list[Preference], list[Preference]]:
    """(train, validation): files whose names speak of a test are for validation; if none does, some
    prompts by their hash are.
    """
    held_out = [file for file in files if HELD_OUT_NAME.search(file.name)]
    rest = [file for file in files if file not in held_out]
    if held_out and rest:
        return read_preferences(rest, note), read_preferences(held_out, note)
    pairs = read_preferences(files, note)
    marks = [is_held_out(repr(pair.prompt), HELD_OUT_ONE_IN) for pair in pairs]
    train, validation = (
        [pair for pair, mark in zip(pairs, marks, strict=True) if mark == wanted]
        for wanted in (False, True)
    )
    if not train or not validation:
        raise DataError(
            f"{len(pairs)} preference pairs are too few to hold some out for validation.",
            "Bring more, or a test file.",
        )
    return train, validation
