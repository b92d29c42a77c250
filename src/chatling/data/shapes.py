"""Conversations in the shapes that people keep them in: `messages`, ShareGPT, Alpaca."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from chatling.conversation import Conversation, Message, Role
from chatling.errors import DataError

Shape = Literal["messages", "sharegpt", "alpaca"]
ROLES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant", "chatbot": "assistant",
}
LISTS = ("messages", "conversations", "conversation")  # keys that hold the turns


def shape_of(row: Mapping[str, Any]) -> Shape | None:
    """The shape of a row, told by its keys; None when it is no conversation.

    `messages`: a list of {"role", "content"}; ShareGPT: a list of {"from", "value"}; Alpaca: "instruction" and "output" strings.
    """
    turns = _turns(row)
    if turns:
        first = turns[0]
        if isinstance(first, Mapping):
            if "role" in first and "content" in first:
                return "messages"
            if "from" in first and "value" in first:
                return "sharegpt"
    if isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str):
        return "alpaca"
    return None


def parse_conversation(row: Mapping[str, Any]) -> Conversation:
    """The conversation of a row in any of the shapes; texts are kept as they are.

    A last turn of the user, which nothing answers, is left out. A "system" text beside ShareGPT turns or Alpaca fields opens the
    conversation. Raises DataError for a row of no known shape, an unknown role, turns out of order, and empty turns.
    """
    shape, system = shape_of(row), row.get("system")
    head = (Message.of("system", system),) if isinstance(system, str) and system.strip() else ()
    if shape == "alpaca":
        return Conversation(head + _alpaca(row))
    turns = _turns(row) or ()
    if shape is None:
        raise DataError("it is no conversation in the messages, ShareGPT or Alpaca shape")
    role_key, text_key = ("role", "content") if shape == "messages" else ("from", "value")
    messages = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise DataError(f"a turn is {str(turn)[:60]!r}, not a role and a text")
        name = str(turn.get(role_key))
        role = ROLES.get(name.lower())
        if role is None:
            raise DataError(f"a turn is from {name!r}; known are {', '.join(ROLES)}")
        if role != "system" or turn.get(text_key):  # an empty system message says nothing
            messages.append({"role": role, "content": turn.get(text_key)})
    if messages and messages[0]["role"] == "system":
        head = ()  # the turns' own counts
    if messages and messages[-1]["role"] == "user":
        messages.pop()
    return Conversation(head + Conversation.from_dict({"messages": messages}).messages)


def _turns(row: Mapping[str, Any]) -> Sequence[Any] | None:
    return next((row[key] for key in LISTS if isinstance(row.get(key), Sequence) and not isinstance(row[key], str)), None)


def _alpaca(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Earlier turns (`history`: pairs), then the instruction, with its input below it, and the output."""
    history = row.get("history") or ()
    if not isinstance(history, list | tuple) or any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in history):
        raise DataError("its history is not a list of pairs of a question and an answer")
    given = row.get("input")
    question = f"{row['instruction']}\n\n{given}" if isinstance(given, str) and given.strip() else row["instruction"]
    texts = [str(text) for pair in history for text in pair] + [question, row["output"]]
    return Conversation.of(*texts).messages
