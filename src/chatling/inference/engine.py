"""The engine: many requests in one batch of fixed width, rows joining and leaving between steps.

A request's tokens depend on the request and the engine's settings alone, never on what else runs. Matrix products of different
shapes differ in their last bits, so every prefill has the same number of rows and a length that follows from the prompt's own, and
every decoding step has `width` rows, of which the free ones compute garbage that nobody reads.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Several

import torch
from torch import nn

from chatling.errors import ChatlingError
from chatling.inference.kv_cache import KVCache
from chatling.inference.sampling import Alternatives, Sampler, Sampling, alternatives, log_probability
from chatling.inference.sequence import Completion, Event, Finish, Request, Sequence
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer

__all__ = ["Completion", "Engine", "Event", "Finish", "Request", "Sampling", "Sequence"]

PREFILL_ROWS = 8  # prompts read at once, at most
PREFILL_STEP = 32  # prompts are padded to a multiple of this many tokens
_FREE = Sampling(temperature=0.0)


def in_dtype(model: GPT, dtype: torch.dtype) -> GPT:
    """A model for inference with its parameters in `dtype`; they may or may not share memory with the original's."""
    matrices = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    weights = ((p, p.detach().to(dtype)) for p in model.parameters())
    cast = {id(p): nn.Parameter(_laid_out(w) if id(p) in matrices else w, requires_grad=False) for p, w in weights}
    twin = copy.deepcopy(model, cast)  # the memo stands in for each parameter, so no fp32 copy is made on the way
    twin.compute_dtype = dtype
    return twin.eval()


def _laid_out(weight: torch.Tensor) -> torch.Tensor:
    """The same values in the memory order that decodes fastest.

    A processor's fp32 product of one row with a matrix of more outputs than inputs (the head above all) runs 2.5 to 3.6 times faster
    when the matrix lies input by input: 8,192 x 256 in 0.26 ms rather than 0.95 ms on one core of an EPYC.
    """
    wide = weight.shape[0] > weight.shape[1]
    return weight.t().contiguous().t() if wide and weight.device.type == "cpu" and weight.dtype == torch.float32 else weight


class Engine:
    """Generates for one model. `submit`, `step` and `cancel` are the engine proper; `generate` and `stream` are ways to drive it.

    Not for several threads at once.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        *,
        width: int = 1,
        context: int | None = None,
        dtype: torch.dtype | None = None,
        compiled: bool = False,
    ):
        """`width` rows are decoded together; more requests wait. `context` (default: the model's) bounds prompt and answer together.

        `compiled` builds the decoding step once, in seconds to a minute, and makes it several times faster from then on.

        Raises ChatlingError when the tokenizer is not the model's.
        """
        if model.config.vocabulary != tokenizer.vocab_size:
            what = f"The model knows {model.config.vocabulary:,} tokens, the tokenizer {tokenizer.vocab_size:,}."
            raise ChatlingError(what, "Load both from one run.")
        self.model = in_dtype(model, dtype or model.compute_dtype)
        self.device = self.model.embed_tokens.weight.device
        self.tokenizer, self.width = tokenizer, width
        self.context = min(context or model.config.context, model.config.context)
        self.prefill_rows = min(width, PREFILL_ROWS)
        self.cache = KVCache(model.config, width, self.context, self.model.compute_dtype, self.device, full_extent=compiled)
        # the weights stay as they are from here on, so that the compiler may lay them out for its kernels
        self._next_logits = torch.compile(self._logits, dynamic=False, options={"freezing": True}) if compiled else self._logits
        self.slots: list[Sequence | None] = [None] * width
        self.waiting: deque[Sequence] = deque()
        self._sampler: Sampler | None = None  # of the decoding batch; made anew when its rows change

    @torch.no_grad()
    def load_weights(self, model: GPT) -> None:
        """Take over the weights of a model of the same shape, as after each update in reinforcement learning.

        Raises ChatlingError while requests run: their answers would be half one model's, half the other's.
        """
        if self.busy:
            raise ChatlingError("The engine's weights cannot change while requests run.", "Let them end first.")
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs)

    def prepare(self, request: Request) -> Sequence:
        """A request ready to be queued. Raises ChatlingError when its prompt cannot be read. Any thread may call it."""
        return Sequence(request, self.tokenizer, self.context)

    def submit(self, request: Request | Sequence) -> Sequence:
        """Queue a request. Raises ChatlingError when its prompt cannot be read."""
        sequence = request if isinstance(request, Sequence) else self.prepare(request)
        self.waiting.append(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> Event | None:
        """Take a request out, running or waiting, and return its last event; one that has ended stays as it is."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        elif sequence in self.slots:
            self._free(sequence)
        return sequence.cancel() if sequence.completion.finish is None else None

    @property
    def busy(self) -> bool:
        return bool(self.waiting) or any(self.slots)

    @torch.inference_mode()
    def step(self) -> list[tuple[Sequence, Event]]:
        """Read prompts into free rows where it pays, then decode one token for every row. One synchronisation with the device each."""
        events = self._prefill() if self._worth_prefilling() else []
        if any(self.slots):
            events += self._decode()
        return events

    def generate(self, requests: Several[Request]) -> list[Completion]:
        """Answer all requests, in their order. Raises ChatlingError, before any work, when one of them cannot be read."""
        sequences = [Sequence(request, self.tokenizer, self.context) for request in requests]
        self.waiting.extend(sorted(sequences, key=lambda sequence: self._padded(sequence)))  # alike lengths are read together
        try:
            while self.busy:
                self.step()
        finally:
            for sequence in sequences:
                self.cancel(sequence)
        for sequence in sequences:
            if sequence.error:
                raise sequence.error
        return [sequence.completion for sequence in sequences]

    def stream(self, request: Request) -> Iterator[Event]:
        """Answer one request event by event. Closing the iterator cancels the request and frees its row."""
        sequence = self.submit(request)
        try:
            while sequence.completion.finish is None:
                for owner, event in self.step():
                    if owner is sequence:
                        yield event
        finally:
            self.cancel(sequence)
        if sequence.error:
            raise sequence.error

    def _padded(self, sequence: Sequence) -> int:
        return -(-len(sequence.request.prompt) // PREFILL_STEP) * PREFILL_STEP

    def _worth_prefilling(self) -> bool:
        """A prefill costs the same for one prompt as for a whole group, so a batch that is running waits for a group's worth of rows."""
        free = self.slots.count(None)
        return bool(self.waiting) and (free == self.width or free >= min(self.prefill_rows, len(self.waiting)))

    def _prefill(self) -> list[tuple[Sequence, Event]]:
        """Read the first waiting prompt, and with it others that pad to its length."""
        tokens = self._padded(self.waiting[0])
        free = [slot for slot, sequence in enumerate(self.slots) if sequence is None][: self.prefill_rows]
        group = [sequence for sequence in self.waiting if self._padded(sequence) == tokens][: len(free)]
        for slot, sequence in zip(free, group, strict=False):
            self.waiting.remove(sequence)
            self.slots[slot] = sequence
        self._sampler = None
        empty = self.prefill_rows - len(group)
        prompts = [sequence.request.prompt for sequence in group] + [()] * empty
        ids = torch.tensor([[*prompt, *[0] * (tokens - len(prompt))] for prompt in prompts], device=self.device)
        lengths = [len(prompt) for prompt in prompts]
        self.cache.begin([0] * self.prefill_rows, tokens, rows=free[: len(group)] + [-1] * empty, lengths=lengths)
        hidden = self.model(ids, self.cache)  # (B, T, D)
        last = torch.tensor([max(length - 1, 0) for length in lengths], device=self.device)
        logits = self.model.logits(hidden[torch.arange(self.prefill_rows, device=self.device), last])
        for sequence, row in zip(group, hidden, strict=False):
            if sequence.request.echo:
                self._echo(sequence, row)
        rows: list[Sequence | None] = [*group, *[None] * empty]
        return self._advance(rows, logits, self._sampler_for(rows))

    def _echo(self, sequence: Sequence, hidden: torch.Tensor) -> None:
        """The prompt's own scores from its hidden states (T, D)."""
        prompt, done = sequence.request.prompt, sequence.completion
        logits = self.model.logits(hidden[: len(prompt) - 1])
        done.prompt_logprobs = log_probability(logits, torch.tensor(prompt[1:], device=logits.device)).tolist()
        done.prompt_alternatives = alternatives(logits, sequence.sampling.top_logprobs)

    def _decode(self) -> list[tuple[Sequence, Event]]:
        self._sampler = self._sampler or self._sampler_for(self.slots)
        ids = torch.tensor([[0 if row is None else row.next_input] for row in self.slots], device=self.device)
        self.cache.begin([0 if row is None else row.position for row in self.slots])
        return self._advance(self.slots, self._next_logits(ids), self._sampler)

    def _logits(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, 1) ids of the next tokens to (B, V) logits of those after them."""
        return self.model.logits(self.model(ids, self.cache)[:, 0])

    def _sampler_for(self, rows: Several[Sequence | None]) -> Sampler:
        settings = [_FREE if row is None else row.sampling for row in rows]
        return Sampler(settings, self.model.config.vocabulary, self.device, [() if row is None else row.read for row in rows])

    def _advance(self, rows: Several[Sequence | None], logits: torch.Tensor, sampler: Sampler) -> list[tuple[Sequence, Event]]:
        """Sample (B, V) logits and give each row its token; rows that end leave."""
        ids, logprobs = sampler(logits, [0 if row is None else len(row.completion.ids) for row in rows])
        others = sampler.likeliest(logits)
        tokens, chances = torch.stack((ids.double(), logprobs.double())).tolist()  # the step's one synchronisation
        events = []
        for row, token, chance, some in zip(list(rows), tokens, chances, others, strict=True):
            if row is not None:
                events.append((row, self._advance_one(row, int(token), chance, some)))
                if row.completion.finish is not None:
                    self._free(row)
        sampler.saw([0 if row is None or not row.completion.ids else row.next_input for row in rows])
        return events

    def _advance_one(self, row: Sequence, token: int, logprob: float, some: Alternatives) -> Event:
        """A request that fails on its own token (its calculator, its text) ends alone."""
        try:
            return row.advance(token, logprob, some)
        except Exception as error:
            row.error = error
            return row.cancel()

    def _free(self, sequence: Sequence) -> None:
        self.slots[self.slots.index(sequence)] = None
        self._sampler = None
