"""The engine: many requests in one batch, rows joining and leaving between steps.

A request's tokens depend on the request and the engine's settings alone, never on what else runs
(batch invariance). `scheduler.py` says which requests run, `model_runner.py` computes.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from chatling.errors import ChatlingError
from chatling.hardware.device_errors import OutOfMemory, memory_errors
from chatling.inference.model_runner import ModelRunner, PromptBlock
from chatling.inference.prefix_cache import BLOCK
from chatling.inference.request import Completion, Event, FinishReason, Request, RequestState
from chatling.inference.sampling import (
    Sampler,
    SamplingParams,
    Summary,
    TopLogprobs,
    constrain,
    log_probability,
    top_logprobs_of,
)
from chatling.inference.scheduler import Scheduler
from chatling.inference.structured_outputs import GrammarCompiler
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer

__all__ = [
    "Completion",
    "Engine",
    "Event",
    "FinishReason",
    "Request",
    "RequestState",
    "SamplingParams",
]

_PADDING = SamplingParams(temperature=0.0)
log = logging.getLogger(__name__)
T = TypeVar("T")
Events = list[tuple[RequestState, Event]]
Sampled = tuple[int, float, TopLogprobs]  # token, its log-probability, the likeliest ones


class Engine:
    """Generates for one model. `submit`, `step` and `cancel` are the engine proper; `generate` and
    `stream` are ways to drive it.

    Not for several threads at once.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        *,
        max_batch_size: int = 1,
        context: int | None = None,
        dtype: torch.dtype | None = None,
        compiled: bool | None = None,
    ):
        """At most `max_batch_size` rows are decoded together; more requests wait. `context`
        (default: the model's) bounds prompt and answer.

        `compiled` builds decoding steps and the reading of prompts, at first use or by `build`:
        several times faster. On a processor that takes half a minute; on CUDA, where each step
        becomes a graph, little, so there it is the default.

        Raises ChatlingError when the tokenizer is not the model's, MachineError when there is no
        memory for the cache or no compiler.
        """
        if model.config.vocab_size != tokenizer.vocab_size:
            what = (
                f"The model knows {model.config.vocab_size:,} tokens, the tokenizer"
                f" {tokenizer.vocab_size:,}."
            )
            raise ChatlingError(what, "Load both from one run.")
        self.tokenizer, self.max_batch_size = tokenizer, max_batch_size
        self.context = min(context or model.config.context, model.config.context)
        self.runner = ModelRunner(
            model,
            max_batch_size=max_batch_size,
            context=self.context,
            dtype=dtype or model.compute_dtype,
            compiled=model.embed_tokens.weight.is_cuda if compiled is None else compiled,
        )
        # after the runner, which refuses more rows than fit the memory
        self.scheduler = Scheduler(max_batch_size, self.runner.prefill_blocks)
        self.grammars = GrammarCompiler(tokenizer)
        self.model, self.device = self.runner.model, self.runner.device
        self._rows: Sequence[RequestState | None] = ()  # of the last decoding step
        self._sampler = self._sampler_for(())  # theirs: made again when they change

    def load_weights(self, model: GPT) -> None:
        """Take over the weights of a model of the same shape, as after each update in reinforcement
        learning.

        Raises ChatlingError while requests run: their answers would be half one model's, half the
        other's.
        """
        if self.busy:
            raise ChatlingError(
                "The engine's weights cannot change while requests run.", "Let them end first."
            )
        self.runner.load_weights(model)
        self.scheduler.prefixes.forget()

    @torch.no_grad()
    def build(self) -> None:
        """Make the decoding steps of all widths, and the reading of prompts, now rather than during
        the first answers.
        """
        for width in self.runner.widths:
            self.runner.decode([(0, -1, 0, 0)] * width, 1)
        self.generate([Request((0,), SamplingParams(max_tokens=1))])
        self.scheduler.prefixes.forget()

    def prepare(self, request: Request | RequestState) -> RequestState:
        """A request ready to be queued. Raises ChatlingError when its prompt cannot be read, or its
        schema not be compiled, which may take seconds. Any thread may call it.
        """
        if isinstance(request, RequestState):
            return request
        state = RequestState(request, self.tokenizer, self.context)
        if request.sampling.structured_outputs is not None:
            state.grammar = self.grammars.start(request.sampling.structured_outputs)
        return state

    def submit(self, request: Request | RequestState) -> RequestState:
        """Queue a request. Raises as `prepare`."""
        state = self.prepare(request)
        self.scheduler.waiting.append(state)
        return state

    def cancel(self, state: RequestState) -> Event | None:
        """Take a request out, running or waiting, and return its last event; one that has ended
        stays as it is.
        """
        self.scheduler.remove(state)
        return state.cancel() if state.completion.finish_reason is None else None

    @property
    def busy(self) -> bool:
        return self.scheduler.busy

    @torch.no_grad()
    def step(self) -> list[tuple[RequestState, Event]]:
        """Read some blocks of prompts where it pays, then decode one token for every row. The
        device is waited for once in each.

        A request that cannot be computed ends with its error ("error"), and no other.
        """
        if self.scheduler.waiting:
            self.scheduler.admit(self.runner.widths)
        events = self._prefill() if self.scheduler.worth_prefilling() else []
        if rows := self.scheduler.decoding():
            events += self._decode(rows)
        return events

    def generate(
        self, requests: Sequence[Request], ended: Callable[[], None] | None = None
    ) -> list[Completion]:
        """Answer all requests, in their order; `ended` is called at the end of each. Raises
        ChatlingError, before any work, when one of them cannot be read.
        """
        states = [self.prepare(request) for request in requests]
        # equal beginnings are read once
        self.scheduler.waiting.extend(sorted(states, key=lambda state: state.request.prompt))
        try:
            while self.busy:
                for _, event in self.step():
                    if ended and event.finish_reason is not None:
                        ended()
        finally:
            for state in states:
                self.cancel(state)
        for state in states:
            if state.error:
                raise state.error
        return [state.completion for state in states]

    def stream(self, request: Request) -> Iterator[Event]:
        """Answer one request event by event. Closing the iterator cancels the request and frees its
        row.
        """
        state = self.submit(request)
        try:
            while state.completion.finish_reason is None:
                for owner, event in self.step():
                    if owner is state:
                        yield event
        finally:
            self.cancel(state)
        if state.error:
            raise state.error

    def _each(
        self, rows: Sequence[RequestState], work: Callable[[Sequence[RequestState]], Sequence[T]]
    ) -> tuple[list[tuple[RequestState, T]], Events]:
        """What `work` makes of all rows at once, one result each. Where it fails, it is tried for
        each row alone, which by batch invariance gives the same bits; who fails then has ended.
        """
        try:
            return list(zip(rows, work(rows), strict=True)), []
        except Exception:
            log.exception("A step failed; each of its requests is tried alone.")
        results: list[tuple[RequestState, T]] = []
        failed: Events = []
        for row in rows:
            try:
                with memory_errors(OutOfMemory("answering")):
                    results.append((row, work([row])[0]))
            except Exception as error:
                failed.append((row, self._fail(row, error)))
        return results, failed

    def _fail(self, state: RequestState, error: Exception) -> Event:
        state.error = error
        self.scheduler.remove(state)
        return state.cancel()

    def _prefill(self) -> Events:
        """Take over what other slots have read, read blocks of the rest, and give those that are
        through their first token.
        """
        failed = self._copy()
        if plan := self.scheduler.plan():

            def read(rows: Sequence[RequestState]) -> Sequence[None]:
                self._read([(row, start) for row, start in plan if row in rows])
                return [None] * len(rows)

            failed += self._each(list(dict(plan)), read)[1] + self._copy()
        done = self.scheduler.prefilled()

        def sample(rows: Sequence[RequestState]) -> list[Sampled]:
            logits = torch.stack([done[row] for row in rows])
            return self._sample(rows, logits, self._sampler_for(rows))

        return failed + (self._advance(*self._each(list(done), sample)) if done else [])

    def _copy(self) -> Events:
        copies = {each.state: each for each in self.scheduler.copies()}

        def copy(rows: Sequence[RequestState]) -> Sequence[None]:
            ends = [min(copies[row].blocks * BLOCK, len(row.request.prompt)) for row in rows]
            sources = [copies[row].source for row in rows]
            self.runner.cache.copy(sources, [row.slot for row in rows], max(ends))
            for row in rows:  # only now: a source has what it is said to have
                self.scheduler.record(row, copies[row].blocks)
            return [None] * len(rows)

        return self._each(list(copies), copy)[1] if copies else []

    def _read(self, plan: Sequence[tuple[RequestState, int]]) -> None:
        """Read blocks of prompts, given by the request and the block's first token."""
        blocks = []
        for state, start in plan:
            prompt = state.request.prompt
            previous = prompt[start - 1] if start else -1
            blocks.append(PromptBlock(prompt[start : start + BLOCK], state.slot, start, previous))
        hidden = self.runner.prefill(blocks)  # (B, T, D)
        ends = [start + BLOCK >= len(state.request.prompt) for state, start in plan]
        if any(ends):
            logits = self.runner.logits_at(hidden, [len(block.tokens) - 1 for block in blocks])
        for i, (state, start) in enumerate(plan):
            # a copy, or it would keep the others' alive
            last = logits[i].clone() if ends[i] else None
            self.scheduler.record(state, start // BLOCK + 1, last)
            if state.request.echo:
                self._echo(state, start, hidden[i])

    def _echo(self, state: RequestState, start: int, hidden: Tensor) -> None:
        """A block's own scores from its hidden states (T, D)."""
        goals, done = state.request.prompt[start + 1 : start + BLOCK + 1], state.completion
        logits = self.model.logits(hidden)[: len(goals)]
        if goals:  # put where they belong, since a block may be read again after a failure
            done.prompt_logprobs[start : start + len(goals)] = log_probability(
                logits, torch.tensor(goals, device=logits.device)
            ).tolist()
            done.prompt_top_logprobs[start : start + len(goals)] = top_logprobs_of(
                logits, state.sampling.top_logprobs
            )

    def _decode(self, rows: list[RequestState | None]) -> Events:
        """One token for every row; free slots, and those whose prompt is not read yet, are
        padding.
        """
        width = next(width for width in self.runner.widths if width >= len(rows))
        rows = [*rows, *[None] * (width - len(rows))]

        def decode(some: Sequence[RequestState]) -> list[Sampled]:
            here = [row if row in some else None for row in rows]
            state = [
                (row.tokens[-1], row.tokens[-2], row.position, 1) if row else (0, -1, 0, 0)
                for row in here
            ]
            logits, summary = self.runner.decode(state, max(row.position for row in some) + 1)
            if here != self._rows:
                self._rows, self._sampler = here, self._sampler_for(here)
            sampled = self._sample(here, logits, self._sampler, summary)
            return [sampled[rows.index(row)] for row in some]

        events = self._advance(*self._each([row for row in rows if row is not None], decode))
        self._sampler.saw([0 if row is None else row.tokens[-1] for row in rows])
        return events

    def _sampler_for(self, rows: Sequence[RequestState | None]) -> Sampler:
        settings = [_PADDING if row is None else row.sampling for row in rows]
        read = [() if row is None else row.tokens for row in rows]
        return Sampler(settings, self.model.config.vocab_size, self.device, read)

    @staticmethod
    def _sample(
        rows: Sequence[RequestState | None],
        logits: Tensor,
        sampler: Sampler,
        summary: Summary | None = None,
    ) -> list[Sampled]:
        """A token for each row of logits (B, V)."""
        places = [0 if row is None else len(row.completion.ids) for row in rows]
        allowed = [row.grammar.allowed if row and row.grammar else None for row in rows]
        logits, summary = constrain(logits, allowed, summary)
        drawn = torch.stack([part.double() for part in sampler(logits, places, summary)])
        top_logprobs = sampler.likeliest(logits)
        ids, logprobs = drawn.tolist()  # a single copy, which waits for the device
        return list(zip(map(int, ids), logprobs, top_logprobs, strict=True))

    def _advance(self, results: Sequence[tuple[RequestState, Sampled]], events: Events) -> Events:
        """Give each request its token; those that end leave. Their events join the others."""
        for row, sampled in results:
            try:
                event = row.advance(*sampled)
            except Exception as error:  # its calculator, its text: it ends alone
                event = self._fail(row, error)
            events.append((row, event))
            if event.finish_reason is not None:
                self.scheduler.remove(row)
        return events
