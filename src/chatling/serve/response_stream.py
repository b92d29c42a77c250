"""From the engine's threads to a client: events across the thread boundary, then text, tool calls
and log-probabilities out of them.
"""

from __future__ import annotations

import asyncio
import codecs
import functools
import math
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from chatling.inference.async_engine import EngineService, QueueFull
from chatling.inference.request import Event, Request
from chatling.inference.sampling import TopLogprobs
from chatling.messages import PartKind
from chatling.serve.errors import ApiError, overloaded, shutting_down
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer

Batch = list[tuple[int, Event]]  # (which of the requests, event)


class EventBridge:
    """Carries events to the event loop, waking it once for all that arrived meanwhile: a wake-up
    costs more than an event.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.arrived: deque[tuple[ResponseStream, int, Event]] = deque()
        self.coming = False

    def put(self, answers: ResponseStream, index: int, event: Event) -> None:
        """From any thread."""
        self.arrived.append((answers, index, event))
        if not self.coming:
            self.coming = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop has closed: nobody waits
                self.arrived.clear()

    def _deliver(self) -> None:
        self.coming = (
            False  # before the queue is read, so that what comes from here on wakes the loop again
        )
        while self.arrived:
            answers, index, event = self.arrived.popleft()
            answers.batch.append((index, event))
            answers.event.set()


class ResponseStream:
    """The requests of one client under way. Iterating gives their events in batches: the slower the
    client, the larger.

    `close` cancels what still runs; whoever makes one has to call it.
    """

    def __init__(
        self, post: EventBridge, service: EngineService, requests: Sequence[Request], seconds: float
    ):
        """Hands all requests to the service, or none. Raises ApiError 429 when its queue is full,
        ChatlingError when one cannot be read.
        """
        self.batch: Batch = []
        self.event = asyncio.Event()
        self.ends = post.loop.time() + seconds
        self.seconds = seconds
        self.left = len(requests)
        self.tickets = []
        try:
            for index, request in enumerate(requests):
                put = functools.partial(post.put, self, index)
                self.tickets.append(service.submit(request, put))
        except QueueFull as error:
            self.close()
            stats = service.stats()
            raise overloaded(error.what, 1 + stats["waiting"] // max(1, stats["rows"])) from error
        except BaseException:
            self.close()
            raise

    async def __aiter__(self) -> AsyncIterator[Batch]:
        """Raises ApiError when a request failed, took too long, or the server shuts down."""
        while self.left:
            try:
                async with asyncio.timeout_at(self.ends):
                    await self.event.wait()
            except TimeoutError:
                raise ApiError(
                    408,
                    f"The request took longer than {self.seconds:g} seconds.",
                    code="request_timeout",
                ) from None
            self.event.clear()
            batch, self.batch = self.batch, []
            for index, event in batch:
                if event.finish_reason is None:
                    continue
                self.left -= 1
                if event.finish_reason == "error":
                    raise ApiError(
                        500, f"The answer failed: {self.tickets[index].error}", code="engine_error"
                    )
                if event.finish_reason == "cancelled":
                    raise shutting_down()
            yield batch

    def close(self) -> None:
        for ticket in self.tickets:
            if ticket.completion.finish_reason is None:
                ticket.cancel()


@dataclass(frozen=True)
class TokenLogprob:
    """A token that the model chose, as the log-probabilities report it."""

    token: int
    logprob: float
    top_logprobs: TopLogprobs


@dataclass(frozen=True)
class Chunk:
    """What became certain: some text with the tokens that begin in it, or one whole calculator
    expression or result.
    """

    kind: PartKind
    text: str
    tokens: tuple[TokenLogprob, ...] = ()


@dataclass
class _Segment:
    kind: PartKind
    text: str
    logprob_of_token: TokenLogprob | None = None
    closes: bool = False  # the end of a tool part, without text


class Reader:
    """One answer's events to pieces.

    An event's text says how much of all the tokens' text is certain, so it is matched against what
    the tokens spell, kind by kind.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.kind: PartKind = "text"
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.segments: deque[_Segment] = deque()
        self.tool = ""  # the open tool part's text so far

    def read(self, event: Event) -> list[Chunk]:
        if event.token is not None:
            self._token(event.token, event)
        if event.finish_reason is None:
            return self._release(len(event.text))
        self.segments.append(_Segment(self.kind, self.decoder.decode(b"", final=True)))
        kind = next(
            (segment.kind for segment in self.segments if segment.kind != "text"), self.kind
        )
        self._close()
        pieces = self._release(len(event.text))
        return (
            [*pieces, Chunk(kind, self.tool)] if self.tool else pieces
        )  # a stop string cut the tool part short

    def _token(self, token: int, event: Event) -> None:
        t = self.tokenizer
        if token < t.bos:
            logprob_of_token = (
                None
                if event.injected or self.kind != "text"
                else TokenLogprob(token, event.logprob, event.top_logprobs)
            )
            self.segments.append(
                _Segment(self.kind, self.decoder.decode(t.pieces[token]), logprob_of_token)
            )
            return
        self.segments.append(_Segment(self.kind, self.decoder.decode(b"", final=True)))
        if token in (t.python_start, t.output_start):
            self._close()
            self.kind = "python" if token == t.python_start else "output"
        elif (token, self.kind) in ((t.python_end, "python"), (t.output_end, "output")):
            self._close()

    def _close(self) -> None:
        if self.kind != "text":
            self.segments.append(_Segment(self.kind, "", closes=True))
            self.kind = "text"

    def _release(self, certain: int) -> list[Chunk]:
        """The segments' first `certain` characters, and what has none but stands among them."""
        pieces: list[Chunk] = []
        while self.segments and (certain or not self.segments[0].text):
            segment = self.segments[0]
            text, segment.text = segment.text[:certain], segment.text[certain:]
            certain -= len(text)
            if segment.closes:
                pieces.append(Chunk(segment.kind, self.tool))
                self.tool = ""
            elif segment.kind != "text":
                self.tool += text
            elif text or segment.logprob_of_token:
                pieces.append(
                    Chunk(
                        "text",
                        text,
                        (segment.logprob_of_token,) if segment.logprob_of_token else (),
                    )
                )
            segment.logprob_of_token = None
            if not segment.text:
                self.segments.popleft()
        return pieces


def token_text(tokenizer: Tokenizer, token: int) -> tuple[str, bytes]:
    """A token as log-probabilities show it, and its bytes: half a character is written
    `bytes:\\xe4`, a special token by its name.
    """
    if token >= tokenizer.bos:
        return SPECIAL_TOKENS[token - tokenizer.bos], b""
    data = tokenizer.pieces[token]
    try:
        return data.decode(), data
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data), data


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """`logprobs.content` of a chat choice."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        text, data = token_text(tokenizer, token)
        return {"token": text, "logprob": finite(logprob), "bytes": list(data)}

    return [
        entry(logprob_of_token.token, logprob_of_token.logprob)
        | {
            "top_logprobs": [
                entry(token, logprob_of_token.logprob if token == logprob_of_token.token else other)
                for token, other in logprob_of_token.top_logprobs
            ]
        }
        for logprob_of_token in (
            tokens  # one figure a token: the two ways to compute it differ in the last bits
        )
    ]


def plain_logprobs(
    tokenizer: Tokenizer, tokens: Sequence[TokenLogprob], offset: int
) -> dict[str, list[Any]]:
    """`logprobs` of a plain completion's choice; its text begins at `offset` characters. The chosen
    token is always among the top ones.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    found: dict[str, list[Any]] = {
        "tokens": [],
        "token_logprobs": [],
        "top_logprobs": [],
        "text_offset": [],
    }
    for logprob_of_token in tokens:
        text, data = token_text(tokenizer, logprob_of_token.token)
        nothing = math.isnan(logprob_of_token.logprob)  # the first token has no score
        others = {
            token_text(tokenizer, token)[0]: finite(logprob)
            for token, logprob in logprob_of_token.top_logprobs
        }
        found["tokens"].append(text)
        found["token_logprobs"].append(None if nothing else finite(logprob_of_token.logprob))
        found["top_logprobs"].append(
            None if nothing else {**others, text: finite(logprob_of_token.logprob)}
        )
        found["text_offset"].append(offset)
        offset += len(decoder.decode(data))
    return found


def finite(logprob: float) -> float:
    """JSON knows no infinity; -9999 stands for it in the OpenAI API."""
    return max(logprob, -9999.0)
