"""How answers are written down: chat and plain completions, whole and as a stream's chunks."""

from __future__ import annotations

from typing import Any, Protocol

from chatling.serve.completion import Choice, CompletionJob
from chatling.serve.response_stream import Chunk, TokenLogprob, chat_logprobs, plain_logprobs


class Format(Protocol):
    """`kind` and `chunk` are the `object` of a response and of a stream's chunks."""

    kind: str
    chunk: str

    def opening(self, job: CompletionJob) -> list[dict[str, Any]]:
        """Choices of a stream's first chunks."""

    def deltas(
        self, job: CompletionJob, choice: Choice, pieces: list[Chunk]
    ) -> list[dict[str, Any]]:
        """Choices of a stream's chunks for what became certain."""

    def whole(self, job: CompletionJob, choice: Choice) -> dict[str, Any]:
        """A finished choice."""


class ChatFormat:
    """Calculator calls stand beside the text: as `parts` of a delta where they happen, as `parts`
    of the message when there are any.
    """

    kind = "chat.completion"
    chunk = "chat.completion.chunk"

    def __init__(self, *, logprobs: bool):
        self.logprobs = logprobs

    def opening(self, job: CompletionJob) -> list[dict[str, Any]]:
        return [
            _delta(choice, {"role": "assistant", "content": "", "refusal": None})
            for choice in job.choices
        ]

    def deltas(
        self, job: CompletionJob, choice: Choice, pieces: list[Chunk]
    ) -> list[dict[str, Any]]:
        found = []
        for piece in joined(pieces):
            if piece.kind == "text":
                found.append(
                    _delta(choice, {"content": piece.text}, self._scores(job, piece.tokens))
                )
            else:
                found.append(_delta(choice, {"parts": [_part(piece)]}))
        return (
            [*found, _delta(choice, {}, finish_reason=choice.finish_reason)]
            if choice.finish_reason
            else found
        )

    def whole(self, job: CompletionJob, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
        if any(piece.kind != "text" for piece in choice.pieces):
            message["parts"] = [_part(piece) for piece in joined(choice.pieces)]
        scores = self._scores(
            job, tuple(token for piece in choice.pieces for token in piece.tokens)
        )
        return {
            "index": choice.index,
            "message": message,
            "logprobs": scores,
            "finish_reason": choice.finish_reason,
        }

    def _scores(
        self, job: CompletionJob, tokens: tuple[TokenLogprob, ...]
    ) -> dict[str, Any] | None:
        return (
            {"content": chat_logprobs(job.model.tokenizer, tokens), "refusal": None}
            if self.logprobs
            else None
        )


class PlainFormat:
    """Text alone: calculator calls do not show."""

    kind = "text_completion"
    chunk = "text_completion"

    def __init__(self, *, logprobs: bool):
        self.logprobs = logprobs

    def opening(self, job: CompletionJob) -> list[dict[str, Any]]:
        return []

    def deltas(
        self, job: CompletionJob, choice: Choice, pieces: list[Chunk]
    ) -> list[dict[str, Any]]:
        written = self._choice(job, choice, pieces, choice.written)
        choice.written += len(written["text"])
        return [written] if pieces or choice.finish_reason else []

    def whole(self, job: CompletionJob, choice: Choice) -> dict[str, Any]:
        return self._choice(job, choice, choice.pieces, 0)

    def _choice(
        self, job: CompletionJob, choice: Choice, pieces: list[Chunk], offset: int
    ) -> dict[str, Any]:
        said = [piece for piece in pieces if piece.kind == "text"]
        tokens = [token for piece in said for token in piece.tokens]
        scores = plain_logprobs(job.model.tokenizer, tokens, offset) if self.logprobs else None
        text = "".join(piece.text for piece in said)
        return {
            "index": choice.index,
            "text": text,
            "logprobs": scores,
            "finish_reason": choice.finish_reason,
        }


def joined(pieces: list[Chunk]) -> list[Chunk]:
    """Neighbouring text pieces as one."""
    found: list[Chunk] = []
    for piece in pieces:
        if found and found[-1].kind == piece.kind == "text":
            last = found.pop()
            piece = Chunk("text", last.text + piece.text, last.tokens + piece.tokens)
        found.append(piece)
    return found


def _part(piece: Chunk) -> dict[str, str]:
    return {"type": piece.kind, "text": piece.text}


def _delta(
    choice: Choice, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {
        "index": choice.index,
        "delta": delta,
        "logprobs": logprobs,
        "finish_reason": finish_reason,
    }
