"""Conversations in the shapes that people keep them in: lists of turns (`messages`, ShareGPT, …),
and columns of questions and answers.
"""

import ast
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from chatling.data.names import (
    ANSWER,
    CHOSEN,
    CONTEXT,
    HISTORY,
    JUDGED,
    QUESTION,
    REJECTED,
    ROLE_KEYS,
    SYSTEM,
    TEXT_KEYS,
    TURNS,
    find_name,
    plain,
    role_of,
)
from chatling.errors import DataError
from chatling.messages import Conversation, Message, Role, kind_of, read_message, shown

NODE = {"message", "parent", "children"}  # what one of a tree of messages has
MEANT_FOR_TURNS = (("role", "content"), ("from", "value"))  # in a column of whatever name


@dataclass(frozen=True)
class Columns:
    """Where a row holds its conversation: in one column of turns, or in a question's, with what
    stands below it, and an answer's.
    """

    turns: str | None = None
    questions: tuple[str, ...] = ()
    answer: str | None = None
    system: str | None = None
    history: str | None = None

    @property
    def used(self) -> tuple[str, ...]:
        return tuple(
            name
            for name in (self.system, self.history, self.turns, *self.questions, self.answer)
            if name is not None
        )


def find_columns(row: Mapping[str, Any]) -> Columns | None:
    """Where a row holds a conversation, told by names of columns and by what is in them; None when
    it is none.
    """
    candidates, named = _named_columns(tuple(map(str, row)))
    for name in candidates:
        if are_turns(row.get(name), known=True):
            return Columns(name, system=named.system)
    if named.answer is not None:
        return named
    other = next((name for name, value in row.items() if are_turns(value)), None)
    return None if other is None else Columns(other, system=named.system)


def parse_conversation(row: Any, columns: Columns | None = None) -> Conversation:
    """The conversation of a row, or of a bare list of messages; texts are kept as they are, numbers
    become text.

    A last turn of the user, which nothing answers, is left out. A "system" text beside turns or a
    question opens the conversation. Raises DataError for whatever else a row may be: no
    conversation, an unknown role, turns out of order, empty turns.
    """
    if isinstance(row, list | tuple) and are_turns(row):
        row = {"messages": row}
    if not isinstance(row, Mapping):
        raise DataError(
            f"{kind_of(row)} where an object with named values is expected: {shown(row)}"
        )
    columns = columns or _told_columns(row)
    missing = next(
        (
            name
            for name in (columns.turns, *columns.questions[:1], columns.answer)
            if name is not None and name not in row
        ),
        None,
    )
    if missing is not None:
        raise DataError(f"it has no {missing!r}; it has {', '.join(map(str, row)) or 'no values'}")
    try:
        messages = [
            *earlier_turns(row, columns),
            *(_answered(row, columns) if columns.turns is None else read_turns(row[columns.turns])),
        ]
    except RecursionError:
        raise DataError("its values are nested too deeply") from None
    if messages and messages[-1].role == "user":
        messages.pop()
    return Conversation((*system_message(row, columns.system, messages), *messages))


def _told_columns(row: Mapping[str, Any]) -> Columns:
    """`find_columns`; raises DataError for a row that is no conversation, or a choice between
    two.
    """
    columns, preference = find_columns(row), preference_columns(row)
    if preference is not None and (columns is None or set(columns.used) & set(preference)):
        raise DataError("it is no conversation but a preference pair, which is for [dpo]")
    if columns is None:
        raise DataError(
            "it is no conversation in the messages, ShareGPT or Alpaca shape, and no question with"
            f" its answer; it has {', '.join(map(str, row)) or 'no values'}"
        )
    return columns


def preference_columns(row: Mapping[str, Any]) -> tuple[str, str, str | None] | None:
    """The columns of a better and a worse answer, or of two answers and of which is better; None
    when a row has none such.
    """
    chosen, rejected = find_name(row, CHOSEN), find_name(row, REJECTED)
    if chosen is not None and rejected is not None:
        return chosen, rejected, None
    for answers, judgements in JUDGED:
        first, second, judgement = (
            find_name(row, known) for known in (answers[:1], answers[1:], judgements)
        )
        if first is not None and second is not None and judgement is not None:
            return first, second, judgement
    return None


def system_message(
    row: Mapping[str, Any], column: str | None, messages: Sequence[Message]
) -> tuple[Message, ...]:
    """The system text that stands beside the messages, unless they begin with one of their own."""
    text = row.get(column) if column is not None else None
    own = bool(messages) and messages[0].role == "system"
    return (
        (Message.of("system", text),) if isinstance(text, str) and text.strip() and not own else ()
    )


def read_turns(value: Any) -> list[Message]:
    """The messages of a list of turns, or of its JSON in a string: roles with texts, texts in turn,
    pairs of a question and an answer.
    """
    turns = _decoded(value)
    if isinstance(turns, Mapping):
        turns = _branch(turns) if _is_tree(turns) else [turns]
    if not isinstance(turns, list | tuple) or not turns:
        raise DataError(f"it is no conversation: {shown(value)} is no list of turns")
    if all(isinstance(turn, str) for turn in turns):
        return list(_in_turn(turns))
    return [message for turn in turns for message in _turn(turn)]


def joined_question(row: Mapping[str, Any], names: Iterable[str]) -> str:
    """The question, and what stands below it, with a blank line between."""
    texts = [text_of(row.get(name), name) for name in names]
    return "\n\n".join([text for i, text in enumerate(texts) if i == 0 or text.strip()])


def text_of(value: Any, name: str) -> str:
    """A value as text: numbers as they are written, nothing for what is missing. Raises DataError
    for what is no text.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        try:
            return json.dumps(value)
        except ValueError as error:  # thousands of digits
            raise DataError(f"its {name!r} holds a number that is too long") from error
    raise DataError(f"its {name!r} holds {kind_of(value)}, not a text")


@lru_cache(maxsize=4096)
def _named_columns(names: tuple[str, ...]) -> tuple[tuple[str, ...], Columns]:
    """By their names alone: columns that may hold turns, the likeliest first, and those of a
    question and its answer.
    """
    known = {plain(name): name for name in reversed(names)}
    turns = tuple(known[name] for name in TURNS if name in known)
    question, answer = find_name(names, QUESTION), find_name(names, ANSWER)
    below = [name for name in names if plain(name) in CONTEXT and name not in (question, answer)]
    if question is None and below:
        question = below.pop(0)
    system = find_name(names, SYSTEM)
    if question is None or answer is None:
        return turns, Columns(system=system)
    return turns, Columns(None, (question, *below), answer, system, find_name(names, HISTORY))


def named_columns(names: Iterable[str]) -> Columns:
    """The columns of a question and its answer, as far as their names tell."""
    return _named_columns(tuple(names))[1]


def _answered(row: Mapping[str, Any], columns: Columns) -> list[Message]:
    """The question, and its answer."""
    name = columns.answer
    assert name is not None
    if len(columns.questions) == 1 and are_turns(row.get(columns.questions[0])):
        asked = read_turns(row[columns.questions[0]])
    else:
        asked = [Message.of("user", joined_question(row, columns.questions))]
    answer = row.get(name)
    if are_turns([answer]) or are_turns(answer):
        return [*asked, *read_turns(answer)]
    if isinstance(answer, Mapping) and "text" in answer:  # SQuAD's
        answer = answer["text"]
    if (
        isinstance(answer, list | tuple)
        and answer
        and all(isinstance(each, str) for each in answer)
    ):
        answer = answer[0]  # several that are right
    return [*asked, Message.of("assistant", text_of(answer, name))]


def earlier_turns(row: Mapping[str, Any], columns: Columns) -> list[Message]:
    """Earlier turns: pairs of a question and an answer, or messages."""
    history = None if columns.history is None else _decoded(row.get(columns.history))
    if not history:
        return []
    if isinstance(history, list | tuple) and all(
        isinstance(turn, Mapping) or _is_pair(turn) for turn in history
    ):
        return read_turns(history)
    raise DataError("its history is not a list of pairs of a question and an answer")


def _decoded(value: Any) -> Any:
    """The list that a string holds as JSON, or as Python writes it; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", '"[')):
        return value
    for read in (json.loads, ast.literal_eval) if "{'" in value else (json.loads,):
        try:
            found = read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(found, list):
            return found
        if isinstance(found, str):  # written as JSON twice
            return _decoded(found)
    return value


def are_turns(value: Any, known: bool = False) -> bool:
    """Whether a value is a list of turns; where the column's name is not `known`, only what can
    hardly be anything else.
    """
    turns = _decoded(value)
    if _is_tree(turns):
        return True
    if not isinstance(turns, list | tuple) or not turns:
        return False
    first = turns[0]
    if isinstance(first, Mapping):
        role, text = _turn_keys(first)
        if role is not None and text is not None:
            return (
                known
                or (role.lower(), text.lower()) in MEANT_FOR_TURNS
                or role_of(first.get(role)) is not None
            )
        return known and named_columns(map(str, first)).answer is not None
    return known and (
        _is_pair(first) or (len(turns) > 1 and all(isinstance(turn, str) for turn in turns))
    )


def _is_tree(value: Any) -> bool:
    """Whether a value holds messages by name, each with those that answer it: ChatGPT's export."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(node, Mapping) and node.keys() >= NODE for node in value.values())
    )


def _branch(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The turns of a tree from its root along the newest answers, without those that nobody saw."""
    turns, left = [], set(tree)
    at: Any = next((key for key, node in tree.items() if str(node["parent"]) not in tree), None)
    while isinstance(at, str) and at in left:
        left.remove(at)
        message, answers = tree[at]["message"], tree[at]["children"]
        if isinstance(message, Mapping):
            author, content, more = (message.get(k) for k in ("author", "content", "metadata"))
            role = author.get("role") if isinstance(author, Mapping) else author
            parts = content.get("parts") if isinstance(content, Mapping) else content
            texts: list[Any] = parts if isinstance(parts, list) else [parts]
            hidden = isinstance(more, Mapping) and more.get("is_visually_hidden_from_conversation")
            if not all(isinstance(text, str) for text in texts):
                raise DataError(f"a turn is {shown(content)}, not a role and a text")
            if not hidden and "".join(texts).strip():
                turns.append({"role": role, "content": "\n".join(texts)})
        at = answers[-1] if isinstance(answers, list) and answers else None
    return turns


def may_be_turns(value: Any, name: str) -> bool:
    """Whether a value may be turns in a column that somebody says holds them; lines of a text are
    none, unless its name says so.
    """
    return are_turns(
        value,
        known=plain(name) in TURNS
        or (isinstance(value, list) and bool(value) and not isinstance(value[0], str)),
    )


def _turn_keys(turn: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return find_name(turn, ROLE_KEYS), find_name(turn, TEXT_KEYS)


def _is_pair(turn: Any) -> bool:
    return (
        isinstance(turn, list | tuple)
        and len(turn) == 2
        and all(isinstance(text, str) for text in turn)
    )


def _in_turn(texts: Iterable[str]) -> Iterable[Message]:
    roles: tuple[Role, Role] = ("user", "assistant")
    return (Message.of(roles[i % 2], text) for i, text in enumerate(texts))


def _turn(turn: Any) -> Iterable[Message]:
    """The message of a turn; both of one that holds a question and its answer."""
    if _is_pair(turn):
        return _in_turn(turn)
    if not isinstance(turn, Mapping):
        raise DataError(f"a turn is {shown(turn)}, not a role and a text")
    role_key, text_key = _turn_keys(turn)
    if role_key is None or text_key is None:
        both = named_columns(map(str, turn))
        if both.answer is None:
            raise DataError(f"a turn is {shown(turn)}, not a role and a text")
        return _answered(turn, both)
    name, content = turn.get(role_key), turn.get(text_key)
    role = role_of(name)
    if role is None:
        raise DataError(
            f"a turn is from {shown(name)}; known are user, assistant, system and their usual other"
            " names"
        )
    if turn.get("tool_calls") or turn.get("function_call"):
        raise DataError("a turn calls a tool, for which there is no place in a conversation")
    if role == "system" and not content:  # it says nothing
        return ()
    return (read_message({"role": role, "content": content}),)
