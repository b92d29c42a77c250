"""Messages and their parts: the one type that data, tasks, tokenizer, engine and server share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from chatling.errors import DataError

Role = Literal["system", "user", "assistant"]
PartKind = Literal["text", "python", "output"]
ROLES: tuple[str, ...] = get_args(Role)
PART_KINDS: tuple[str, ...] = get_args(PartKind)


@dataclass(frozen=True)
class Part:
    """A piece of an assistant message: plain text, a calculator expression, or the calculator's answer."""

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

    Raises DataError when the turns are out of order, a turn is empty, or a role or part is unknown. A conversation that
    ends on the user is a prompt; one that ends on the assistant is an example to learn from.
    """

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        turns = self.messages[1:] if self.messages and self.messages[0].role == "system" else self.messages
        if not turns:
            raise DataError("A conversation has no user message.")
        for i, message in enumerate(turns):
            expected = "user" if i % 2 == 0 else "assistant"
            if message.role != expected:
                raise DataError(f"Turn {i + 1} of a conversation is from {message.role!r}, expected {expected!r}.")
        for message in self.messages:
            if not any(part.text.strip() for part in message.parts):
                raise DataError(f"A conversation has an empty {message.role} message.")
            for part in message.parts:
                if part.kind not in PART_KINDS:
                    raise DataError(f"Unknown message part {part.kind!r}; known are {', '.join(PART_KINDS)}.")
                if part.kind != "text" and message.role != "assistant":
                    raise DataError(f"A {message.role} message holds a {part.kind} part; only the assistant uses tools.")

    @staticmethod
    def of(*turns: str, system: str | None = None) -> Conversation:
        """Alternating user and assistant texts, beginning with the user."""
        roles: tuple[Role, Role] = ("user", "assistant")
        head = () if system is None else (Message.of("system", system),)
        return Conversation(head + tuple(Message.of(roles[i % 2], text) for i, text in enumerate(turns)))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Conversation:
        """Read `{"messages": [{"role", "content"}]}`, content a string or a list of `{"type", "text"}` parts."""
        messages = data.get("messages")
        if not isinstance(messages, Iterable) or isinstance(messages, str | bytes):
            raise DataError("A conversation needs a list of messages under the key 'messages'.")
        return Conversation(tuple(_message(entry) for entry in messages))

    def to_dict(self) -> dict[str, Any]:
        """The inverse of `from_dict`; messages of one text part become plain strings."""
        return {"messages": [_message_dict(message) for message in self.messages]}

    @property
    def prompt(self) -> Conversation:
        """The conversation without its last assistant message."""
        return Conversation(self.messages[:-1]) if self.messages[-1].role == "assistant" else self


def _message(entry: Any) -> Message:
    if not isinstance(entry, Mapping) or entry.get("role") not in ROLES:
        raise DataError(f"A message needs a role among {', '.join(ROLES)}; got {str(entry)[:80]!r}.")
    content = entry.get("content")
    if isinstance(content, str):
        return Message.of(entry["role"], content)
    if not isinstance(content, Iterable):
        raise DataError(f"A {entry['role']} message needs content: a string, or a list of parts.")
    parts = []
    for part in content:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            raise DataError(f"A message part needs a type and a text; got {str(part)[:80]!r}.")
        parts.append(Part(part.get("type", "text"), part["text"]))
    return Message(entry["role"], tuple(parts))


def _message_dict(message: Message) -> dict[str, Any]:
    if [part.kind for part in message.parts] == ["text"]:
        return {"role": message.role, "content": message.text}
    return {"role": message.role, "content": [{"type": part.kind, "text": part.text} for part in message.parts]}
