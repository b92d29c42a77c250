"""A client's request on its way: from the model's name to answers that grow, how these are written
down, and back to nothing held.
"""

import asyncio
import codecs
import contextlib
import math
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from chatling.data.passages import Passage, PassageIndex
from chatling.errors import ChatlingError
from chatling.inference.async_engine import EventBridge, QueueFull, ResponseStream, Ticket
from chatling.inference.detokenizer import Chunk, TokenLogprob, joined
from chatling.inference.request import Event, Request, RequestState
from chatling.messages import Part
from chatling.serve.errors import ApiError, Limits, overloaded, shutting_down, too_many
from chatling.serve.history import AnswerMemory, Place
from chatling.serve.logprobs import chat_logprobs, plain_logprobs
from chatling.serve.metrics import Metrics
from chatling.serve.model_manager import Loaded, ModelManager
from chatling.serve.protocol import SamplingFields

Read = Callable[[Loaded], list[list[int]]]  # prompts for a model

LONG = 20_000  # characters from which on encoding leaves the event loop to a thread


@dataclass(frozen=True)
class Service:
    """What the routes work with. Made inside the running event loop."""

    models: ModelManager
    limits: Limits
    metrics: Metrics
    log_text: bool = False
    documents: PassageIndex | None = None
    bridge: EventBridge = field(default_factory=EventBridge)
    answers: AnswerMemory = field(default_factory=AnswerMemory)
    compiling: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Choice:
    """One answer as it grows; with `Request.echo` the prompt's text comes first, from its token
    `echo_from` on.

    `silent` is an answer that nobody wants: the engine samples at least one token.
    """

    index: int
    ticket: Ticket
    echo_from: int = 0
    silent: bool = False
    chunks: list[Chunk] = field(default_factory=list)
    unended: list[Chunk] = field(default_factory=list)  # of the open calculator call
    finish_reason: str | None = None

    def take(self, event: Event) -> list[Chunk]:
        """What became certain with the event: text, and whole calculator calls."""
        fresh = [] if self.silent else joined([*self.unended, *event.chunks])
        is_open = bool(fresh) and fresh[-1].kind != "text" and not fresh[-1].ends
        self.unended = [fresh.pop()] if is_open else []
        if self.ticket.state.request.echo and not self.chunks:
            fresh.insert(0, _echo(self.ticket.state, self.echo_from))
        self.chunks += fresh
        self.finish_reason = (
            "length" if self.silent and event.finish_reason else event.finish_reason
        )
        return fresh

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks if chunk.kind == "text")


def _echo(state: RequestState, echo_from: int) -> Chunk:
    """The prompt as a chunk; its very first token has no score (NaN)."""
    done, prompt = state.completion, state.request.prompt
    others = done.prompt_top_logprobs or [()] * (len(prompt) - 1)
    scores = [(math.nan, ()), *zip(done.prompt_logprobs, others, strict=True)]
    decoder, offset, tokens = codecs.getincrementaldecoder("utf-8")(errors="replace"), 0, []
    for token, score in zip(prompt, scores, strict=True):
        tokens.append(TokenLogprob(token, *score, offset))
        offset += len(decoder.decode(state.tokenizer.decode_bytes([token])))
    return Chunk("text", state.prompt_text, tuple(tokens[echo_from:]))


class RequestOptions(NamedTuple):
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
        self.sources: Sequence[Passage] = ()
        self.place: Place | None = None  # in a conversation

    async def open(
        self, body: SamplingFields, options: RequestOptions, characters: int, read: Read
    ) -> None:
        """Load the model, have `read` make prompts for it, and submit them, each `n` times. Raises
        ApiError, ChatlingError.
        """
        self.model = await self.held.enter_async_context(self.service.models.acquire(body.model))
        self.facts["model"] = self.model.entry.id
        self.prompts = (
            await asyncio.to_thread(read, self.model) if characters > LONG else read(self.model)
        )
        asked = self._requests(body, options)
        structured = asked[0].sampling.structured_outputs is not None
        requests = await self._prepared(asked) if structured else asked
        try:
            self.responses = ResponseStream(self.service.bridge, self.model.service, requests)
        except QueueFull as error:
            stats = self.model.service.stats()
            raise overloaded(error.what, 1 + stats["waiting"] // max(1, stats["rows"])) from error
        self.held.callback(self.responses.close)
        self.deadline = self.service.bridge.loop.time() + self.service.limits.seconds
        self.facts["prompt_tokens"] = sum(map(len, self.prompts))
        self.choices = [
            Choice(i, ticket, options.echo_from, options.tokens == 0)
            for i, ticket in enumerate(self.responses.tickets)
        ]

    async def _prepared(self, requests: Sequence[Request]) -> list[RequestState]:
        """With their schema compiled: in a thread, of which no more than one may be busy with it.
        Raises ApiError for a schema that cannot be compiled.
        """
        prepare = self.model.service.prepare
        async with self.service.compiling:
            try:
                return await asyncio.to_thread(lambda: [prepare(each) for each in requests])
            except ChatlingError as error:
                raise ApiError(400, str(error), param="response_format") from error

    def _requests(self, body: SamplingFields, options: RequestOptions) -> list[Request]:
        answers = len(self.prompts) * (body.n or 1)
        limits, model = self.service.limits, self.model
        if answers > limits.choices:
            raise too_many(
                f"The request asks for {answers:,} answers", limits.choices, "answers", "n"
            )
        if options.tokens is not None and options.tokens > limits.tokens:
            what = f"The request asks for {options.tokens:,} new tokens"
            raise too_many(what, limits.tokens, "new tokens", body.tokens_field)
        vocab_size = model.tokenizer.vocab_size
        if any(int(token) >= vocab_size for token in body.logit_bias or {}):
            message = f"logit_bias names a token outside the vocabulary of {vocab_size:,}."
            raise ApiError(400, message, param="logit_bias")
        for prompt in self.prompts:
            if len(prompt) > model.context:
                message = (
                    f"This model's maximum context length is {model.context:,} tokens, but the"
                    f" prompt has {len(prompt):,}. {body.shorten}"
                )
                code = "context_length_exceeded"
                raise ApiError(400, message, param=body.prompt_field, code=code)
        tokens = min(limits.tokens if options.tokens is None else options.tokens, model.context)
        samplings = body.sampling_params(max(1, tokens), options.top_logprobs)
        return [
            Request(tuple(prompt), sampling, options.echo)
            for prompt in self.prompts
            for sampling in samplings
        ]

    async def batches(self) -> AsyncIterator[list[tuple[Choice, list[Chunk]]]]:
        """What became certain, for each choice that anything did for, in the order of the choices.
        Raises ApiError when a request failed, took too long, or the server shuts down.
        """
        left = len(self.choices)
        while left:
            try:
                async with asyncio.timeout_at(self.deadline):
                    batch = await self.responses.batch()
            except TimeoutError:
                message = f"The request took longer than {self.service.limits.seconds:g} seconds."
                raise ApiError(408, message, code="request_timeout") from None
            fresh: dict[int, list[Chunk]] = {}
            for index, event in batch:
                choice = self.choices[index]
                if event.finish_reason == "error":
                    message = f"The answer failed: {choice.ticket.state.error}"
                    raise ApiError(500, message, code="engine_error")
                if event.finish_reason == "cancelled":
                    raise shutting_down()
                left -= event.finish_reason is not None
                fresh.setdefault(index, []).extend(choice.take(event))
            if "first_token" not in self.facts:
                seconds = time.perf_counter() - self.start
                self.service.metrics.first_token.observe(seconds)
                self.facts["first_token"] = round(seconds, 4)
            yield [(self.choices[index], joined(chunks)) for index, chunks in fresh.items()]

    def usage(self) -> dict[str, int]:
        prompt = sum(map(len, self.prompts))
        sampled = sum(choice.ticket.state.sampled for choice in self.choices if not choice.silent)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": sampled,
            "total_tokens": prompt + sampled,
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
            sampled = self.usage()["completion_tokens"]
            self.facts |= {"completion_tokens": sampled, "finish": dict(ends)}
            if self.place is not None:
                for choice in self.choices:
                    answer = [Part(chunk.kind, chunk.text) for chunk in joined(choice.chunks)]
                    self.service.answers.remember(self.place, answer)
            if self.service.log_text:
                self.facts["answers"] = [choice.text for choice in self.choices]
        await self.held.aclose()


@dataclass(frozen=True)
class ChatFormat:
    """Chat completions. Calculator calls stand beside the text: as `parts` of a delta where they
    happen, as `parts` of the message when there are any.

    `kind` and `chunk` are the `object` of a response and of a stream's chunks.
    """

    logprobs: bool
    kind = "chat.completion"
    chunk = "chat.completion.chunk"

    def opening(self, job: CompletionJob) -> list[dict[str, Any]]:
        """Choices of a stream's first chunks."""
        message = {"role": "assistant", "content": "", "refusal": None}
        return [_delta(choice, message) for choice in job.choices]

    def deltas(
        self, job: CompletionJob, choice: Choice, chunks: Sequence[Chunk]
    ) -> list[dict[str, Any]]:
        """Choices of a stream's chunks for what became certain."""
        found = [
            _delta(choice, {"content": chunk.text}, self._logprobs(job, [chunk]))
            if chunk.kind == "text"
            else _delta(choice, {"parts": [_part(chunk)]})
            for chunk in chunks
        ]
        if choice.finish_reason:
            found.append(_delta(choice, {}, finish_reason=choice.finish_reason))
        return found

    def whole(self, job: CompletionJob, choice: Choice) -> dict[str, Any]:
        """A finished choice."""
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
        if any(chunk.kind != "text" for chunk in choice.chunks):
            message["parts"] = [_part(chunk) for chunk in joined(choice.chunks)]
        return {
            "index": choice.index,
            "message": message,
            "logprobs": self._logprobs(job, choice.chunks),
            "finish_reason": choice.finish_reason,
        }

    def _logprobs(self, job: CompletionJob, chunks: Sequence[Chunk]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        tokens = [token for chunk in chunks for token in chunk.tokens]
        return {"content": chat_logprobs(job.model.tokenizer, tokens), "refusal": None}


@dataclass(frozen=True)
class PlainFormat:
    """Plain completions: text alone, calculator calls do not show."""

    logprobs: bool
    kind = chunk = "text_completion"

    def opening(self, job: CompletionJob) -> list[dict[str, Any]]:
        return []

    def deltas(
        self, job: CompletionJob, choice: Choice, chunks: Sequence[Chunk]
    ) -> list[dict[str, Any]]:
        return [self._choice(job, choice, chunks)] if chunks or choice.finish_reason else []

    def whole(self, job: CompletionJob, choice: Choice) -> dict[str, Any]:
        return self._choice(job, choice, choice.chunks)

    def _choice(
        self, job: CompletionJob, choice: Choice, chunks: Sequence[Chunk]
    ) -> dict[str, Any]:
        texts = [chunk for chunk in chunks if chunk.kind == "text"]
        tokens = [token for chunk in texts for token in chunk.tokens]
        return {
            "index": choice.index,
            "text": "".join(chunk.text for chunk in texts),
            "logprobs": plain_logprobs(job.model.tokenizer, tokens) if self.logprobs else None,
            "finish_reason": choice.finish_reason,
        }


Format = ChatFormat | PlainFormat


def _part(chunk: Chunk) -> dict[str, str]:
    return {"type": chunk.kind, "text": chunk.text}


def _delta(
    choice: Choice, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {
        "index": choice.index,
        "delta": delta,
        "logprobs": logprobs,
        "finish_reason": finish_reason,
    }
