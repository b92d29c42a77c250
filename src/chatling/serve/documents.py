"""Passages of the server's documents before a question, as many as a model's context has room
for.
"""

from collections.abc import Sequence
from typing import Any

from chatling.data.passages import Passage
from chatling.messages import Conversation, Message
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import render_prompt


def with_passages(
    tokenizer: Tokenizer, conversation: Conversation, found: Sequence[Passage], room: int
) -> tuple[Conversation, Sequence[Passage]]:
    """The conversation with the first passages before its last question, and which these are: none
    where not even one fits into so many tokens.
    """
    *earlier, last = conversation.messages
    for count in range(len(found), 0, -1):
        texts = [f"[{i}] {each.file}\n{each.text}" for i, each in enumerate(found[:count], 1)]
        asked = Message.of("user", "\n\n".join((*texts, last.text)))
        read = Conversation((*earlier, asked))
        if len(render_prompt(tokenizer, read)) <= room:
            return read, found[:count]
    return conversation, ()


def sources(read: Sequence[Passage]) -> dict[str, Any]:
    """What an answer says of the passages that the model read."""
    return {"sources": [{"file": each.file, "text": each.text} for each in read]} if read else {}
