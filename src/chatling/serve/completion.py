"""A client's request on its way: from the model's name to answers that grow, and back to nothing
held.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from chatling.inference.async_engine import Ticket
from chatling.inference.request import Event, Request
from chatling.inference.sampling import SamplingParams
from chatling.serve.errors import ApiError, Limits, too_many
from chatling.serve.metrics import Metrics
from chatling.serve.model_manager import Loaded, ModelManager
from chatling.serve.protocol import ChatRequest, SamplingFields
from chatling.serve.response_stream import Chunk, EventBridge, Reader, ResponseStream, TokenLogprob
from chatling.tokenizer.bpe import Tokenizer

Read = Callable[[Loaded], list[list[int]]]  # prompts for a model

LONG = 20_000  # characters from which on encoding leaves the event loop to a thread
CHOICE_STRIDE = 0x9E3779B97F4A7C15  # seeds of a request's further choices lie this far apart


@dataclass(frozen=True)
class Service:
    """What the routes work with. Made inside the running event loop."""

    models: ModelManager
    limits: Limits
    metrics: Metrics
    log_text: bool = False
    post: EventBridge = field(default_factory=EventBridge)


@dataclass
class Choice:
    """One answer as it grows; with `Request.echo` the prompt's text comes first, from its token
    `echo_from` on.

    `silent` is an answer that nobody wants: the engine samples at least one token.
    """

    index: int
    reader: Reader
    ticket: Ticket
    echo_from: int = 0
    silent: bool = False
    pieces: list[Chunk] = field(default_factory=list)
    finish_reason: str | None = None
    written: int = 0  # characters that a stream has sent

    def take(self, event: Event) -> list[Chunk]:
        """What became certain with the event."""
        request = self.ticket.sequence.request
        fresh = [] if self.silent else self.reader.read(event)
        if request.echo and not self.pieces:
            fresh = [_echo(self.ticket, self.reader.tokenizer, self.echo_from), *fresh]
        self.pieces += fresh
        self.finish_reason = (
            "length" if self.silent and event.finish_reason else event.finish_reason
        )
        return fresh

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces if piece.kind == "text")


def _echo(ticket: Ticket, tokenizer: Tokenizer, echo_from: int) -> Chunk:
    """The prompt as a piece; its very first token has no score (NaN)."""
    done, prompt = ticket.completion, ticket.sequence.request.prompt
    others = done.prompt_top_logprobs or [()] * (len(prompt) - 1)
    scores = [(math.nan, ()), *zip(done.prompt_logprobs, others, strict=True)]
    tokens = [TokenLogprob(token, *score) for token, score in zip(prompt, scores, strict=True)]
    return Chunk(
        "text", tokenizer.decode_bytes(prompt).decode("utf-8", "replace"), tuple(tokens[echo_from:])
    )


@dataclass(frozen=True)
class RequestOptions:
    """What chat and plain completions word differently."""

    tokens: int | None  # at most so many new ones; None: as many as fit
    top_logprobs: int = 0
    echo: bool = False
    echo_from: int = 0


class CompletionJob:
    """A client's request from its model to its answers. `close` gives everything back; it has to be
    called.
    """

    def __init__(self, service: Service, facts: dict[str, Any]):
        self.service, self.facts = service, facts
        self.start = time.perf_counter()
        self.held = contextlib.AsyncExitStack()
        self.choices: list[Choice] = []
        self.prompts: list[list[int]] = []
        self.created = int(time.time())
        self.dropped = 0

    async def open(
        self, body: SamplingFields, asked: RequestOptions, characters: int, read: Read
    ) -> None:
        """Load the model, have `read` make prompts for it, and submit them, each `n` times. Raises
        ApiError, ChatlingError.
        """
        self.model = await self.held.enter_async_context(self.service.models.acquire(body.model))
        self.facts["model"] = self.model.entry.id
        self.prompts = (
            await asyncio.to_thread(read, self.model) if characters > LONG else read(self.model)
        )
        requests = self._requests(body, asked)
        self.answers = ResponseStream(
            self.service.post, self.model.service, requests, self.service.limits.seconds
        )
        self.held.callback(self.answers.close)
        self.choices = [
            Choice(i, Reader(self.model.tokenizer), ticket, asked.echo_from, asked.tokens == 0)
            for i, ticket in enumerate(self.answers.tickets)
        ]
        self.facts["prompt_tokens"] = self.prompt_tokens

    def _requests(self, body: SamplingFields, asked: RequestOptions) -> list[Request]:
        n, limits, tokens = body.n or 1, self.service.limits, asked.tokens
        if len(self.prompts) * n > limits.choices:
            raise too_many(
                f"The request asks for {len(self.prompts) * n:,} answers",
                limits.choices,
                "answers",
                "n",
            )
        if tokens is not None and tokens > limits.tokens:
            raise too_many(
                f"The request asks for {tokens:,} new tokens",
                limits.tokens,
                "new tokens",
                "max_tokens",
            )
        bias = tuple((int(token), value) for token, value in (body.logit_bias or {}).items())
        if any(token >= self.model.vocab_size for token, _ in bias):
            raise ApiError(
                400,
                f"logit_bias names a token outside the vocabulary of {self.model.vocab_size:,}.",
                param="logit_bias",
            )
        for prompt in self.prompts:
            if len(prompt) > self.model.context:
                message = (
                    f"This model's maximum context length is {self.model.context:,} tokens, but the"
                    f" prompt has {len(prompt):,}."
                )
                hint, param = "Shorten it.", "prompt"
                if isinstance(body, ChatRequest):
                    hint, param = (
                        (
                            'Shorten it, or send "truncation": "auto", which leaves out the oldest'
                            " messages."
                        ),
                        "messages",
                    )
                raise ApiError(
                    400, f"{message} {hint}", param=param, code="context_length_exceeded"
                )
        seed = secrets.randbits(63) if body.seed is None else body.seed
        samplings = [
            SamplingParams(
                temperature=1.0 if body.temperature is None else body.temperature,
                top_k=body.top_k or 0,
                top_p=1.0 if body.top_p is None else body.top_p,
                min_p=body.min_p or 0.0,
                repetition_penalty=body.repetition_penalty or 1.0,
                seed=seed + i * CHOICE_STRIDE,
                max_tokens=max(
                    1, min(limits.tokens if tokens is None else tokens, self.model.context)
                ),
                stop=body.stops,
                logit_bias=bias,
                top_logprobs=asked.top_logprobs,
            )
            for i in range(n)
        ]
        return [
            Request(tuple(prompt), sampling, asked.echo)
            for prompt in self.prompts
            for sampling in samplings
        ]

    async def batches(self) -> AsyncIterator[list[tuple[Choice, list[Chunk]]]]:
        """What became certain, for each choice that anything did for, in the order of the
        choices.
        """
        first = True
        async for batch in self.answers:
            if first:
                first = False
                self.service.metrics.first_token.add(seconds := time.perf_counter() - self.start)
                self.facts["first_token"] = round(seconds, 4)
            fresh: dict[int, list[Chunk]] = {}
            for index, event in batch:
                fresh.setdefault(index, []).extend(self.choices[index].take(event))
            yield [(self.choices[index], pieces) for index, pieces in fresh.items()]

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))

    @property
    def sampled(self) -> int:
        return sum(choice.ticket.sequence.sampled for choice in self.choices if not choice.silent)

    def usage(self) -> dict[str, int]:
        sampled = self.sampled
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": sampled,
            "total_tokens": self.prompt_tokens + sampled,
        }

    def head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
        return {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": self.created,
            "model": self.model.entry.id,
            "system_fingerprint": self.model.fingerprint,
        }

    async def close(self) -> None:
        if self.choices:
            ends = Counter(choice.finish_reason or "cut off" for choice in self.choices)
            self.facts |= {"completion_tokens": self.sampled, "finish": dict(ends)}
            if self.service.log_text:
                self.facts["answers"] = [choice.text for choice in self.choices]
        await self.held.aclose()
