"""Tokens to text: what is certain to be said so far, each piece with the part of the message that
it belongs to.
"""

import codecs
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from chatling.inference.sampling import TopLogprobs
from chatling.messages import PartKind
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import PartTracker


class TokenLogprob(NamedTuple):
    """A token that the model chose. `offset`: characters of text before it, calls left out."""

    token: int
    logprob: float
    top_logprobs: TopLogprobs
    offset: int


class Chunk(NamedTuple):
    """A piece of a part, with the chosen tokens of text that begin in it. `ends`: it is the last of
    a calculator expression or result; text parts end where another begins.
    """

    kind: PartKind
    text: str
    tokens: tuple[TokenLogprob, ...] = ()
    ends: bool = False


def joined(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Neighboring chunks of one part as one."""
    found: list[Chunk] = []
    for chunk in chunks:
        if found and found[-1].kind == chunk.kind and not found[-1].ends:
            last = found.pop()
            chunk = Chunk(
                chunk.kind, last.text + chunk.text, last.tokens + chunk.tokens, chunk.ends
            )
        found.append(chunk)
    return found


class Detokenizer:
    """Waits for whole UTF-8 characters and for the end of what may become a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...], offset: int = 0):
        """`offset` is how much text comes before: of an echoed prompt."""
        self.tokenizer, self.stop, self.offset = tokenizer, stop, offset
        self.tracker, self.stopped = PartTracker(tokenizer), False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending: deque[Chunk] = deque()
        self._open: PartKind = "text"  # the part that is given out and has not ended

    def push(
        self, token: int, logprob: float, top_logprobs: TopLogprobs, *, chosen: bool
    ) -> list[Chunk]:
        """What became certain with the token, which the model has `chosen` or the calculator put
        in. After a stop string nothing more comes out.
        """
        kind = self.tracker.kind
        if token >= self.tokenizer.bos:
            # A special token has no text, and half a character before it stays half.
            text = self._decoder.decode(b"", final=True)
            self._append(kind, text, ends=self.tracker.push(token) not in (None, "text"))
        elif chosen and kind == "text":
            scored = TokenLogprob(token, logprob, top_logprobs, self.offset)
            self._append(kind, self._decoder.decode(self.tokenizer.pieces[token]), (scored,))
        else:
            self._append(kind, self._decoder.decode(self.tokenizer.pieces[token]))
        return self._release()

    def flush(self) -> list[Chunk]:
        """What was held back, at the end of the answer."""
        kind = self.tracker.kind
        self._append(kind, self._decoder.decode(b"", final=True), ends=kind != "text")
        return self._release(final=True)

    def _append(
        self,
        kind: PartKind,
        text: str,
        tokens: tuple[TokenLogprob, ...] = (),
        *,
        ends: bool = False,
    ) -> None:
        if text or tokens or ends:
            self._pending.append(Chunk(kind, text, tokens, ends))
        if kind == "text":
            self.offset += len(text)

    def _release(self, *, final: bool = False) -> list[Chunk]:
        """The pending chunks up to the last certain character, and those without text after it."""
        certain = self._certain("".join(chunk.text for chunk in self._pending), final)
        chunks: list[Chunk] = []
        while self._pending and (certain or not self._pending[0].text):
            chunk = self._pending.popleft()
            if len(chunk.text) > certain:
                self._pending.appendleft(Chunk(chunk.kind, chunk.text[certain:], (), chunk.ends))
                chunk = Chunk(chunk.kind, chunk.text[:certain], chunk.tokens)
            certain -= len(chunk.text)
            self._open = "text" if chunk.ends else chunk.kind
            chunks.append(chunk)
        if self.stopped and self._open != "text":  # the stop string cut a calculator call short
            chunks.append(Chunk(self._open, "", ends=True))
        return chunks

    def _certain(self, text: str, final: bool) -> int:
        """How many characters of the pending text no stop string can take back."""
        if not self.stop:
            return len(text)
        found = [at for at in map(text.find, self.stop) if at >= 0]
        self.stopped = bool(found)
        if found:
            return min(found)
        return len(text) - (0 if final else max(_overlap(text, stop) for stop in self.stop))


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without being all of it."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)
