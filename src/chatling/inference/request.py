"""One request on its way through the engine: what it has said, its calculator, its stop strings,
its end.
"""

from __future__ import annotations

import codecs
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from chatling.errors import ChatlingError
from chatling.inference.prefix_cache import block_keys
from chatling.inference.sampling import SamplingParams, TopLogprobs
from chatling.tokenizer.bpe import Tokenizer
from chatling.tools.calculator import calculate

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Request:
    """A prompt that ends where the assistant begins to speak, and how to go on from it. `echo` asks
    for the prompt's own scores, too.
    """

    prompt: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    echo: bool = False


class Event(NamedTuple):  # one is made for every token, and a tuple is made faster than a dataclass
    """One step of an answer. `text` is what became certain to be said: whole characters, nothing
    that a stop string could still take back.

    The last event has `finish_reason` set; its token is None when the answer ended on a closing
    token.
    """

    token: int | None
    injected: bool  # put in by the calculator, not sampled
    text: str
    logprob: float  # of the token under the model; 0 when forced
    finish_reason: FinishReason | None = None
    # the likeliest tokens in its place, as many as `SamplingParams.top_logprobs`; none when forced
    top_logprobs: TopLogprobs = ()


@dataclass
class Completion:
    """An answer. `ids` holds sampled and forced tokens without the closing one; `text` is cut
    before a stop string, `ids` are not.

    With `Request.echo` the prompt's log-probabilities and alternatives are there before the first
    event, from its second token on.
    """

    ids: list[int] = field(default_factory=list)
    injected: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason | None = None
    prompt_logprobs: list[float] = field(default_factory=list)
    prompt_top_logprobs: list[TopLogprobs] = field(default_factory=list)
    closing: int | None = None  # the sampled token that ended it, where one did


class TextStream:
    """Bytes in, certain text out: waits for whole UTF-8 characters and for the end of what may
    become a stop string.
    """

    def __init__(self, stop: tuple[str, ...]):
        self.stop, self.held, self.stopped = stop, "", False
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, data: bytes, *, flush: bool = False) -> str:
        """The text that became certain. After `flush` nothing is held back; after a stop string
        nothing more comes out.
        """
        if not self.stop:
            return self.decoder.decode(data, final=flush)
        if self.stopped:
            return ""
        self.held += self.decoder.decode(data, final=flush)
        first = min(
            (at for at in (self.held.find(stop) for stop in self.stop) if at >= 0), default=None
        )
        if first is not None:
            self.stopped = True
            sure, self.held = self.held[:first], ""
            return sure
        keep = 0 if flush else max(_overlap(self.held, stop) for stop in self.stop)
        sure, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return sure


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without being all of it."""
    return next(
        (n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0
    )


class RequestState:
    """A request with its state. `advance` takes one step's sampled token and says what came of
    it.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, context: int):
        """Raises ChatlingError when the prompt is empty or does not fit the context."""
        length = len(request.prompt)
        if not length:
            raise ChatlingError("The prompt is empty.", "Give at least one token.")
        if length > context:
            raise ChatlingError(
                f"The prompt has {length:,} tokens, but the model reads at most {context:,}.",
                "Shorten it.",
            )
        if not 0 <= min(request.prompt) <= max(request.prompt) < tokenizer.vocab_size:
            raise ChatlingError(
                f"The prompt holds a token outside the vocabulary of {tokenizer.vocab_size:,}."
            )
        self.request, self.sampling, self.tokenizer, self.context = (
            request,
            request.sampling,
            tokenizer,
            context,
        )
        self.completion = Completion()
        self.queue: deque[int] = deque()  # tokens to be put in before sampling goes on
        self.expression: list[int] | None = None  # what the open calculator call holds so far
        self.stream = TextStream(request.sampling.stop)
        self.sampled = 0
        self.blocks = block_keys(request.prompt)
        self.read = 0  # how much of the prompt is in the cache
        self.error: Exception | None = None  # what went wrong in this request alone

    @property
    def next_input(self) -> int:
        """The token that the model has not read yet."""
        return self.completion.ids[-1]

    @property
    def before(self) -> int:
        """The token before `next_input`."""
        return self.completion.ids[-2] if len(self.completion.ids) > 1 else self.request.prompt[-1]

    @property
    def position(self) -> int:
        """Where `next_input` goes."""
        return len(self.request.prompt) + len(self.completion.ids) - 1

    @property
    def tokens(self) -> list[int]:
        """Prompt and answer so far."""
        return [*self.request.prompt, *self.completion.ids]

    @property
    def decoding(self) -> bool:
        """Whether its whole prompt is in the cache."""
        return self.read == len(self.request.prompt)

    def advance(self, token: int, logprob: float, top_logprobs: TopLogprobs = ()) -> Event:
        """Take the token that was sampled, unless the calculator has one to put in, whose turn it
        then is.
        """
        injected = bool(self.queue)
        if injected:
            token, logprob, top_logprobs = self.queue.popleft(), 0.0, ()
        else:
            self.sampled += 1
            if token in (self.tokenizer.assistant_end, self.tokenizer.bos):
                self.completion.closing = token
                return self._event(
                    None, False, self.stream.push(b"", flush=True), logprob, "stop", top_logprobs
                )
            self._calculator(token)
        done = self.completion
        done.ids.append(token)
        done.injected.append(injected)
        done.logprobs.append(logprob)
        data = self.tokenizer.decode_bytes([token])
        text = self.stream.push(data) if data else self._special()
        finish_reason: FinishReason | None = None
        if self.stream.stopped:
            finish_reason = "stop"
        elif self.sampled >= self.sampling.max_tokens or self.position >= self.context:
            finish_reason = "length"
            text += self.stream.push(b"", flush=True)
        return self._event(token, injected, text, logprob, finish_reason, top_logprobs)

    def cancel(self) -> Event:
        """End here, for its error if it has one; what was held back comes out."""
        return self._event(
            None,
            False,
            self.stream.push(b"", flush=True),
            0.0,
            "error" if self.error else "cancelled",
        )

    def _event(
        self,
        token: int | None,
        injected: bool,
        text: str,
        logprob: float,
        finish_reason: FinishReason | None,
        top_logprobs: TopLogprobs = (),
    ) -> Event:
        self.completion.text += text
        self.completion.finish_reason = finish_reason
        return Event(token, injected, text, logprob, finish_reason, top_logprobs)

    def _special(self) -> str:
        """A special token has no text, and half a character before it stays half."""
        return self.stream.push(self.stream.decoder.decode(b"", final=True).encode())

    def _calculator(self, token: int) -> None:
        t = self.tokenizer
        if token == t.python_start:
            self.expression = []
        elif token == t.python_end and self.expression is not None:
            result = calculate(t.decode(self.expression))
            self.expression = None
            if result is not None:
                self.queue.extend((t.output_start, *t.encode(result), t.output_end))
        elif self.expression is not None:
            self.expression.append(token)
