"""One request on its way through the engine: what it has said, its calculator, its end."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from chatling.errors import ChatlingError
from chatling.inference.detokenizer import Chunk, Detokenizer
from chatling.inference.prefix_cache import block_keys
from chatling.inference.sampling import SamplingParams, TopLogprobs
from chatling.inference.structured_outputs import Grammar
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
    """One step of an answer. The last one has `finish_reason` set; its token is None when the
    answer ended on a closing token.
    """

    token: int | None
    injected: bool  # put in by the calculator, not sampled
    # what became certain to be said, by the parts of the message: whole characters, nothing that a
    # stop string could still take back
    chunks: tuple[Chunk, ...]
    logprob: float  # of the token under the model; 0 when injected
    finish_reason: FinishReason | None = None
    # the likeliest tokens in its place, as many as `SamplingParams.top_logprobs`; none if injected
    top_logprobs: TopLogprobs = ()

    @property
    def text(self) -> str:
        return "".join([chunk.text for chunk in self.chunks])


@dataclass
class Completion:
    """An answer. `ids` holds sampled and injected tokens without the closing one; `text` is cut
    before a stop string, `ids` are not.

    With `Request.echo` the prompt's log-probabilities and top ones are there before the first
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
        self.request, self.sampling = request, request.sampling
        self.tokenizer, self.context = tokenizer, context
        self.completion = Completion()
        self.tokens = [*request.prompt]  # and the answer so far
        self.queue: deque[int] = deque()  # tokens to be put in before sampling continues
        self.call = 0  # where the answer's last calculator call begins
        self.sampled = 0
        self.slot = -1  # of the cache, once it runs
        self.blocks = block_keys(request.prompt)
        self.read = 0  # how much of the prompt is in the cache
        self.grammar: Grammar | None = None  # that the answer has to follow
        self.error: Exception | None = None  # what went wrong in this request alone
        self.detokenizer = Detokenizer(
            tokenizer, request.sampling.stop, len(self.prompt_text) if request.echo else 0
        )

    @property
    def prompt_text(self) -> str:
        return self.tokenizer.decode_bytes(self.request.prompt).decode("utf-8", "replace")

    @property
    def position(self) -> int:
        """Where the last token goes, which the model has not read yet."""
        return len(self.tokens) - 1

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
                    None, False, self.detokenizer.flush(), logprob, "stop", top_logprobs
                )
            self._calculator(token)
            if self.grammar is not None:
                self.grammar.push(token)
        done = self.completion
        self.tokens.append(token)
        done.ids.append(token)
        done.injected.append(injected)
        done.logprobs.append(logprob)
        chunks = self.detokenizer.push(token, logprob, top_logprobs, chosen=not injected)
        finish_reason: FinishReason | None = None
        if self.detokenizer.stopped:
            finish_reason = "stop"
        elif self.sampled >= self.sampling.max_tokens or self.position >= self.context:
            finish_reason = "length"
            chunks += self.detokenizer.flush()
        return self._event(token, injected, chunks, logprob, finish_reason, top_logprobs)

    def cancel(self) -> Event:
        """End here, for its error if it has one; what was held back comes out."""
        reason: FinishReason = "error" if self.error else "cancelled"
        return self._event(None, False, self.detokenizer.flush(), 0.0, reason)

    def _event(
        self,
        token: int | None,
        injected: bool,
        chunks: list[Chunk],
        logprob: float,
        finish_reason: FinishReason | None,
        top_logprobs: TopLogprobs = (),
    ) -> Event:
        event = Event(token, injected, tuple(chunks), logprob, finish_reason, top_logprobs)
        self.completion.text += event.text
        self.completion.finish_reason = finish_reason
        return event

    def _calculator(self, token: int) -> None:
        """Where the sampled token ends an expression, queue its result to be put in."""
        t, ids = self.tokenizer, self.completion.ids
        if token == t.python_start:
            self.call = len(ids) + 1
        elif token == t.python_end and self.detokenizer.tracker.kind == "python":
            result = calculate(t.decode(ids[self.call :]))
            if result is not None:
                self.queue.extend((t.output_start, *t.encode(result), t.output_end))
