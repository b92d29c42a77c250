"""The server's own answers, known again when a client sends them back as their visible text."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from chatling.messages import Part
from chatling.serve.protocol import ROLES, ChatMessage, ContentPart
from chatling.tokenizer.chat_template import merge_texts

MOST = 4 << 20  # characters that are remembered


class Place(NamedTuple):
    """Where an answer stands: after the conversation `before`, and after what the assistant has
    `begun` where its last message is continued.
    """

    before: Any  # a hash object
    begun: tuple[Part, ...] = ()


class AnswerMemory:
    """Answers by the conversation before them, the one used longest ago first: only those that
    their visible text does not tell, such as one with calculator calls. Spaces around texts do not
    count, since clients trim them.
    """

    def __init__(self, most: int = MOST):
        """Of at most so many characters."""
        self.most, self.size = most, 0
        self.answers: OrderedDict[bytes, tuple[Part, ...]] = OrderedDict()

    def restore(self, messages: Sequence[ChatMessage]) -> tuple[list[ChatMessage], Place]:
        """The messages, own answers with all their parts, and the place of the next one."""
        found, here = [], hashlib.blake2b(digest_size=16)
        place = Place(here)
        for message in messages:
            parts, before = message.content_parts, here
            here = _after(before, ROLES[message.role], _visible(parts))
            place = Place(here)
            if message.role == "assistant":
                known = self.answers.get(here.digest())
                if known is not None and all(part.kind == "text" for part in parts):
                    self.answers.move_to_end(here.digest())
                    content = [ContentPart(type=part.kind, text=part.text) for part in known]
                    message, parts = message.model_copy(update={"content": content}), known
                place = Place(before, parts)
            found.append(message)
        return found, place

    def remember(self, place: Place, answer: Sequence[Part]) -> None:
        parts = merge_texts((*place.begun, *answer))
        text = _visible(parts)
        if parts == merge_texts([Part("text", text)]):
            return
        key = _after(place.before, "assistant", text).digest()
        self.size += _length(parts) - _length(self.answers.pop(key, ()))
        self.answers[key] = parts
        while self.size > self.most:
            self.size -= _length(self.answers.popitem(last=False)[1])


def _visible(parts: Sequence[Part]) -> str:
    return "".join(part.text for part in parts if part.kind == "text").strip()


def _after(before: Any, role: str, text: str) -> Any:
    """The conversation's hash with one message more."""
    here = before.copy()
    here.update(f"{role} {len(text)} {text}".encode())
    return here


def _length(parts: Sequence[Part]) -> int:
    return sum(len(part.text) + 100 for part in parts)  # 100 for what holds it
