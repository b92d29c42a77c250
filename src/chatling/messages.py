"""Messages and their parts: the one type that data, tasks, tokenizer, engine and server share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from chatling.errors import DataError

Role = Literal["system", "user", "assistant"]
PartKind = Literal["text", "python", "output"]
ROLES: tuple[str, ...] = get_args(Role)
PART_KINDS: tuple[str, ...] = get_args(PartKind)
OTHER_PART_NAMES: dict[str, str] = {"python_output": "output"}  # the reference's


@dataclass(frozen=True)
class Part:
    """A piece of an assistant message: plain text, a calculator expression, or the calculator's
    answer.
    """

    kind: PartKind
    text: str


@dataclass(frozen=True)
class Message:
    """One turn. User and system messages hold exactly one text part."""

    role: Role
    parts: tuple[Part, ...]

    @staticmethod
    def of(role: Role, text: str) -> Message:
        return Message(role, (Part("text", text),))

    @property
    def text(self) -> str:
        """Everything a reader sees, tool calls included, as one string."""
        return "".join(part.text for part in self.parts)


@dataclass(frozen=True)
class Conversation:
    """An optional system message, then user and assistant in turn, beginning with the user.

    Raises DataError when the turns are out of order, a turn is empty, or a role or part is unknown.
    A conversation that ends on the user is a prompt; one that ends on the assistant is an example
    to learn from.
    """

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        turns = (
            self.messages[1:]
            if self.messages and self.messages[0].role == "system"
            else self.messages
        )
        if not turns:
            raise DataError("A conversation has no user message.")
        for i, message in enumerate(turns):
            expected = "user" if i % 2 == 0 else "assistant"
            if message.role != expected:
                raise DataError(
                    f"Turn {i + 1} of a conversation is from {message.role!r}, expected"
                    f" {expected!r}."
                )
        for message in self.messages:
            if not any(part.text.strip() for part in message.parts):
                raise DataError(f"A conversation has an empty {message.role} message.")
            for part in message.parts:
                if part.kind not in PART_KINDS:
                    raise DataError(
                        f"Unknown message part {shown(part.kind)}; known are"
                        f" {', '.join(PART_KINDS)}."
                    )
                if part.kind != "text" and message.role != "assistant":
                    raise DataError(
                        f"A {message.role} message holds a {part.kind} part; only the assistant"
                        " uses tools."
                    )

    @staticmethod
    def of(*turns: str, system: str | None = None) -> Conversation:
        """Alternating user and assistant texts, beginning with the user."""
        roles: tuple[Role, Role] = ("user", "assistant")
        head = () if system is None else (Message.of("system", system),)
        return Conversation(
            head + tuple(Message.of(roles[i % 2], text) for i, text in enumerate(turns))
        )

    @staticmethod
    def from_dict(data: Mapping[str, Any] | Sequence[Any]) -> Conversation:
        """Read `{"messages": [{"role", "content"}]}`, or the bare list, content a string or a list
        of `{"type", "text"}` parts.

        Raises DataError for anything else, whatever it is.
        """
        messages = data.get("messages") if isinstance(data, Mapping) else data
        if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
            raise DataError("A conversation needs a list of messages under the key 'messages'.")
        return Conversation(tuple(read_message(entry) for entry in messages))

    def to_dict(self) -> dict[str, Any]:
        """The inverse of `from_dict`; messages of one text part become plain strings."""
        return {"messages": [_message_dict(message) for message in self.messages]}

    @property
    def prompt(self) -> Conversation:
        """The conversation without its last assistant message."""
        return Conversation(self.messages[:-1]) if self.messages[-1].role == "assistant" else self


def shown(value: Any, most: int = 60) -> str:
    """A value as an error quotes it: cut short, and safe for whatever JSON may hold."""
    try:
        text = repr(value[: most + 1] if isinstance(value, str | list | tuple) else value)
    except (ValueError, RecursionError):
        # an integer of thousands of digits, a list a thousand deep
        return kind_of(value)
    return text if len(text) <= most else f"{text[:most]}…"


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "a null"
    names = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def read_message(entry: Any) -> Message:
    """The message of `{"role", "content"}`. Raises DataError for any other value."""
    role = entry.get("role") if isinstance(entry, Mapping) else None
    if role not in ROLES:
        raise DataError(f"A message needs a role among {', '.join(ROLES)}; got {shown(entry)}.")
    content = entry.get("content")
    if isinstance(content, str):
        return Message.of(role, content)
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise DataError(f"A {role} message needs content: a string, or a list of parts.")
    return Message(role, tuple(_part(part) for part in content))


def _part(part: Any) -> Part:
    if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
        raise DataError(f"A message part needs a type and a text; got {shown(part)}.")
    kind: Any = part.get("type", "text")
    known: Any = OTHER_PART_NAMES.get(kind, kind) if isinstance(kind, str) else kind
    return Part(known, part["text"])


def _message_dict(message: Message) -> dict[str, Any]:
    if [part.kind for part in message.parts] == ["text"]:
        return {"role": message.role, "content": message.text}
    return {
        "role": message.role,
        "content": [{"type": part.kind, "text": part.text} for part in message.parts],
    }
