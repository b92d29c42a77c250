"""A conversation as tokens: which special token stands where, and which tokens the assistant learns
from.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from chatling.errors import DataError
from chatling.messages import Conversation, Message, Part, PartKind
from chatling.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class Rendered:
    """Token ids of a conversation; `mask` is True where the token is the assistant's own, to be
    trained on.
    """

    ids: list[int]
    mask: list[bool]


def render(tokenizer: Tokenizer, conversation: Conversation) -> Rendered:
    """The whole conversation: `<|bos|>`, then each turn between its own two special tokens.

    The mask is True for the assistant's text, for its expressions with the python tokens around
    them, and for `<|assistant_end|>`; tool output is given, not trained on. A system message opens
    the first user turn, a blank line after it.
    """
    out = Rendered([tokenizer.bos], [False])
    for message in _turns(conversation):
        if message.role == "user":
            ids = [tokenizer.user_start, *tokenizer.encode(message.text), tokenizer.user_end]
            _append(out, ids, False)
            continue
        _append(out, [tokenizer.assistant_start], False)
        for part in merge_texts(message.parts):
            ids = tokenizer.encode(part.text)
            if part.kind == "python":
                ids = [tokenizer.python_start, *ids, tokenizer.python_end]
            elif part.kind == "output":
                ids = [tokenizer.output_start, *ids, tokenizer.output_end]
            _append(out, ids, part.kind != "output")
        _append(out, [tokenizer.assistant_end], True)
    return out


def render_prompt(
    tokenizer: Tokenizer, conversation: Conversation, *, continues: bool = False
) -> list[int]:
    """Ids that ask for the next answer: the conversation, which ends on the user, then
    `<|assistant_start|>`. With `continues` it may end on the assistant, whose last message is left
    open, to be continued.
    """
    ids = render(tokenizer, conversation).ids
    if conversation.messages[-1].role == "user":
        return [*ids, tokenizer.assistant_start]
    if not continues:
        raise DataError(
            "A prompt has to end on a user message.", "Leave out the last assistant message."
        )
    return ids[:-1]


def fit(tokenizer: Tokenizer, conversation: Conversation, room: int) -> tuple[Conversation, int]:
    """A conversation without as many of its oldest turns as do not fit `room` tokens, and how many
    those are.

    The system message and the last question stay, whatever their length, and so does what the
    assistant has begun to answer.
    """
    turns = [message for message in conversation.messages if message.role != "system"]
    system = conversation.messages[: len(conversation.messages) - len(turns)]
    for first in range(0, len(turns), 2):
        kept = Conversation((*system, *turns[first:]))
        if len(render_prompt(tokenizer, kept, continues=True)) <= room:
            break
    return kept, first


class PartTracker:
    """Which part of an assistant message each token belongs to: the one state machine for tool
    calls.

    Any sequence is taken: an opening token ends the part before it, and a closing token with
    nothing to close does nothing.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.kind: PartKind = "text"
        self.opens: dict[int, PartKind] = {
            tokenizer.python_start: "python",
            tokenizer.output_start: "output",
        }
        self.closes: dict[int, PartKind] = {
            tokenizer.python_end: "python",
            tokenizer.output_end: "output",
        }

    def push(self, special: int) -> PartKind | None:
        """Take a special token; returns the kind of the part that it ended, if it ended one."""
        before = self.kind
        if special in self.opens:
            self.kind = self.opens[special]
        elif self.closes.get(special) == before:
            self.kind = "text"
        else:
            return None
        return before


def parse_completion(tokenizer: Tokenizer, ids: Iterable[int]) -> tuple[Part, ...]:
    """The parts of an assistant message from the ids after `<|assistant_start|>`; the inverse of
    `render` on one message.

    A part that nothing closes ends where the next begins or the ids end, and `<|assistant_end|>` or
    a token of another turn ends the message.
    """
    tracker = PartTracker(tokenizer)
    parts: list[Part] = []
    held: list[int] = []
    for i in ids:
        if i < tokenizer.bos:
            held.append(i)
        elif i not in tracker.opens and i not in tracker.closes:
            break
        elif ended := tracker.push(i):
            parts.append(Part(ended, tokenizer.decode(held)))
            held = []
    return merge_texts([*parts, Part(tracker.kind, tokenizer.decode(held))])


def merge_texts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Neighbouring text parts as one and empty ones left out: what the reader sees between specials
    is encoded in one go.
    """
    merged: list[Part] = []
    for is_text, group in groupby(parts, key=lambda part: part.kind == "text"):
        if not is_text:
            merged.extend(group)
        elif text := "".join(part.text for part in group):
            merged.append(Part("text", text))
    return tuple(merged)


def _turns(conversation: Conversation) -> tuple[Message, ...]:
    """User and assistant messages, the system message merged into the first."""
    first, *rest = conversation.messages
    if first.role != "system":
        return conversation.messages
    return (Message.of("user", f"{first.text}\n\n{rest[0].text}"), *rest[1:])


def _append(out: Rendered, ids: list[int], loss_mask: bool) -> None:
    out.ids.extend(ids)
    out.mask.extend([loss_mask] * len(ids))
