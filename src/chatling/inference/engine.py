"""The engine: many requests in one batch, rows joining and leaving between steps.

A request's tokens depend on the request and the engine's settings alone, never on what else runs.
Matrix products of different shapes can differ in their last bits. So prompts are read in blocks of
one size, always the same number of blocks at once, whosever they are; and a decoding step has one
of a few widths, of which only those are used that were seen to agree to the last bit.
"""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from chatling.errors import ChatlingError, MachineError
from chatling.hardware.detect import device_memory, has_compiler, memory_errors
from chatling.inference.compiled import compiled_step
from chatling.inference.kv_cache import KVCache, Pass, bytes_per_slot
from chatling.inference.prefix_cache import BLOCK, PrefixCache
from chatling.inference.request import Completion, Event, FinishReason, Request, RequestState
from chatling.inference.sampling import (
    Sampler,
    SamplingParams,
    Summary,
    TopLogprobs,
    log_probability,
    summarise,
    top_logprobs_of,
)
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

PREFILL_BLOCKS = 8  # blocks of prompts read at once, at most
PATIENCE = 4  # decoding steps that a prompt waits for others to be read with
PROBED_ROUNDINGS = (
    1 << 18
)  # rounded numbers that must be equal before two widths are taken to agree
_FREE = SamplingParams(temperature=0.0)


def in_dtype(model: GPT, dtype: torch.dtype) -> GPT:
    """A model for inference with its parameters in `dtype`; they may or may not share memory with
    the original's.
    """
    matrices = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    weights = ((p, p.detach().to(dtype)) for p in model.parameters())
    cast = {
        id(p): nn.Parameter(_laid_out(w) if id(p) in matrices else w, requires_grad=False)
        for p, w in weights
    }
    clone = copy.deepcopy(
        model, cast
    )  # the memo stands in for each parameter, so no fp32 copy is made on the way
    clone.compute_dtype = dtype
    return clone.eval()


def _laid_out(weight: torch.Tensor) -> torch.Tensor:
    """The same values in the memory order that decodes fastest.

    A processor's fp32 product of one row with a matrix of more outputs than inputs (the head above
    all) runs 2.5 to 3.6 times faster when the matrix lies input by input: 8,192 x 256 in 0.26 ms
    rather than 0.95 ms on one core of an EPYC.
    """
    wide = weight.shape[0] > weight.shape[1]
    return (
        weight.t().contiguous().t()
        if wide and weight.device.type == "cpu" and weight.dtype == torch.float32
        else weight
    )


Step = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, Summary]]


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
        compiled: bool = False,
    ):
        """At most `max_batch_size` rows are decoded together; more requests wait. `context`
        (default: the model's) bounds prompt and answer.

        `compiled` builds decoding steps and the reading of prompts, in half a minute, at first use
        or by `build`: several times faster.

        Raises ChatlingError when the tokenizer is not the model's, MachineError when there is no
        memory for the cache or no compiler.
        """
        if compiled and not has_compiler():
            raise MachineError(
                "There is no C++ compiler to compile the decoding step.",
                "Install g++ or clang, or do not compile.",
            )
        if model.config.vocab_size != tokenizer.vocab_size:
            what = (
                f"The model knows {model.config.vocab_size:,} tokens, the tokenizer"
                f" {tokenizer.vocab_size:,}."
            )
            raise ChatlingError(what, "Load both from one run.")
        self.model = in_dtype(model, dtype or model.compute_dtype)
        self.device = self.model.embed_tokens.weight.device
        self.tokenizer, self.max_batch_size, self.compiled = tokenizer, max_batch_size, compiled
        self.context = min(context or model.config.context, model.config.context)
        self._check_memory()
        with memory_errors(f"making room for {max_batch_size} answers of {self.context:,} tokens"):
            self.cache = KVCache(
                model.config,
                max_batch_size,
                self.context,
                self.model.compute_dtype,
                self.device,
                compiled=compiled,
            )
        self.prefill_blocks = max(2, min(max_batch_size, PREFILL_BLOCKS))
        self.slots: list[RequestState | None] = [None] * max_batch_size
        self.waiting: deque[RequestState] = deque()
        self.reading: list[RequestState] = []  # in slots, their prompts not read to the end yet
        self.prefixes = PrefixCache(max_batch_size)
        self.frozen = True  # the weights stay as they are, until new ones are loaded
        self._steps: dict[int, Step] = {}
        self._widths: list[int] = []
        self._patience = PATIENCE
        self._sampler: Sampler | None = (
            None  # of the decoding batch; made anew when its rows change
        )

    def _check_memory(self) -> None:
        """The cache is set up once and admits no more than it holds. RequestOptions for too much, a
        system may promise it and fail later.
        """
        each = bytes_per_slot(
            self.model.config,
            self.context,
            self.model.compute_dtype,
            self.device,
            compiled=self.compiled,
        )
        memory, _ = device_memory(self.device.type)  # type: ignore[arg-type]
        needed = each * (self.max_batch_size + 1)  # one slot is for padding
        if needed > memory:
            what = (
                f"{self.max_batch_size} answers of {self.context:,} tokens take"
                f" {needed / 1e9:.1f} GB; there are {memory / 1e9:.1f}."
            )
            raise MachineError(
                what,
                f"Take at most {max(1, int(memory / each) - 1)} at once, or a shorter context.",
            )

    @torch.no_grad()
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
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs)
        self.prefixes.forget()
        if self.frozen:
            self.frozen = False
            self._steps.clear()
            self.__dict__.pop("widths", None)  # to be seen anew, with the new steps

    def prepare(self, request: Request) -> RequestState:
        """A request ready to be queued. Raises ChatlingError when its prompt cannot be read. Any
        thread may call it.
        """
        return RequestState(request, self.tokenizer, self.context)

    def submit(self, request: Request | RequestState) -> RequestState:
        """Queue a request. Raises ChatlingError when its prompt cannot be read."""
        sequence = request if isinstance(request, RequestState) else self.prepare(request)
        self.waiting.append(sequence)
        return sequence

    def cancel(self, sequence: RequestState) -> Event | None:
        """Take a request out, running or waiting, and return its last event; one that has ended
        stays as it is.
        """
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        elif sequence in self.slots:
            self._free(sequence)
        return sequence.cancel() if sequence.completion.finish_reason is None else None

    @property
    def busy(self) -> bool:
        return bool(self.waiting) or any(self.slots)

    @torch.no_grad()
    def step(self) -> list[tuple[RequestState, Event]]:
        """Read some blocks of prompts where it pays, then decode one token for every row. The
        device is waited for once in each.

        Raises MachineError when memory runs out.
        """
        with memory_errors("answering"):
            self._admit()
            events = self._prefill() if self._worth_prefilling() else []
            if any(row is not None and row.decoding for row in self.slots):
                events += self._decode()
        return events

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer all requests, in their order. Raises ChatlingError, before any work, when one of
        them cannot be read.
        """
        sequences = [self.prepare(request) for request in requests]
        self.waiting.extend(
            sorted(sequences, key=lambda sequence: sequence.request.prompt)
        )  # equal beginnings are read once
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
        """Answer one request event by event. Closing the iterator cancels the request and frees its
        row.
        """
        sequence = self.submit(request)
        try:
            while sequence.completion.finish_reason is None:
                for owner, event in self.step():
                    if owner is sequence:
                        yield event
        finally:
            self.cancel(sequence)
        if sequence.error:
            raise sequence.error

    def _admit(self) -> None:
        """Give free slots to those who have waited longest. The lowest free ones, so that the batch
        stays narrow.
        """
        while self.waiting and None in self.slots:
            sequence = self.waiting.popleft()
            free = [slot for slot, row in enumerate(self.slots) if row is None]
            bucket = next(width for width in self.widths if width > free[0])
            slot = self.prefixes.choose([slot for slot in free if slot < bucket], sequence.blocks)
            self.slots[slot] = sequence
            self.reading.append(sequence)
            held = self.prefixes.allocate(slot, () if sequence.request.echo else sequence.blocks)
            sequence.read = min(held, len(sequence.blocks) - 1) * BLOCK
            self._sampler = None

    def _worth_prefilling(self) -> bool:
        """Reading costs the same for one block as for all that fit, so where others decode, a
        single one waits a little for company.
        """
        if not self.reading:
            return False
        blocks = sum(len(row.blocks) - row.read // BLOCK for row in self.reading)
        self._patience -= 1
        worth = (
            blocks >= self.prefill_blocks
            or self._patience < 0
            or not any(row and row.decoding for row in self.slots)
        )
        self._patience = PATIENCE if worth else self._patience
        return worth

    def _prefill(self) -> list[tuple[RequestState, Event]]:
        """Take over what other slots have read, read blocks of the rest, and give those that are
        through their first token.
        """
        ends = self._share()
        plan = self._plan()
        if plan:
            ends |= self._read(plan)
            ends |= self._share()
        self.reading = [row for row in self.reading if row not in ends]
        if not ends:
            return []
        self._sampler = None
        logits = torch.stack(list(ends.values()))
        return self._advance(list(ends), logits, self._sampler_for(list(ends)))

    def _share(self) -> dict[RequestState, torch.Tensor]:
        """Copy blocks that some slot holds; returns the logits (V,) after the prompts that are
        whole now.
        """
        copies = []
        for row in self.reading:
            blocks = 0 if row.request.echo else self.prefixes.matching(row.blocks)
            stop = min(blocks * BLOCK, len(row.request.prompt))
            if stop > row.read:
                copies.append(
                    (
                        row,
                        self.prefixes.owner(row.blocks[blocks - 1]),
                        self.slots.index(row),
                        blocks,
                        stop,
                    )
                )
        if not copies:
            return {}
        rows, sources, targets, counts, stops = zip(*copies, strict=True)
        self.cache.copy(sources, targets, max(stops))
        for row, target, count, stop in zip(
            rows, targets, counts, stops, strict=True
        ):  # only now: a source has what it is said to have
            self.prefixes.add(target, row.blocks[:count])
            row.read = stop
        return {row: self.prefixes.last_logits[row.blocks[-1]] for row in rows if row.decoding}

    def _plan(self) -> list[tuple[RequestState, int]]:
        """Which blocks to read now, as (row, first token): one of each prompt in turn, so that a
        long one holds up nobody.
        """
        plan: list[tuple[RequestState, int]] = []
        planned: set[bytes] = set()
        reading = {row: row.read for row in self.reading if not row.decoding}
        while reading and len(plan) < self.prefill_blocks:
            for row, start in list(reading.items())[: self.prefill_blocks - len(plan)]:
                key = row.blocks[start // BLOCK]
                if (
                    key in planned and not row.request.echo
                ):  # another row is about to read the same; it will be copied
                    del reading[row]
                    continue
                planned.add(key)
                plan.append((row, start))
                reading[row] += BLOCK
                if reading[row] >= len(row.request.prompt):
                    del reading[row]
        return plan

    def _read(self, plan: list[tuple[RequestState, int]]) -> dict[RequestState, torch.Tensor]:
        """Read blocks; returns the logits (V,) after the prompts that are whole now."""
        empty = self.prefill_blocks - len(plan)
        parts = [row.request.prompt[start : start + BLOCK] for row, start in plan]
        ids = torch.tensor(
            [[*part, *[0] * (BLOCK - len(part))] for part in [*parts, *[()] * empty]],
            device=self.device,
        )
        slots = [self.slots.index(row) for row, _ in plan] + [self.max_batch_size] * empty
        starts = [start for _, start in plan] + [0] * empty
        lengths = [len(part) for part in parts] + [0] * empty
        before = [row.request.prompt[start - 1] if start else -1 for row, start in plan] + [
            -1
        ] * empty
        state = torch.tensor([slots, starts, lengths, before], device=self.device)
        columns = self.cache.seen_by(
            max(start + length for start, length in zip(starts, lengths, strict=True))
        )
        hidden = self._reader(ids, state, columns)  # (B, T, D)
        for row, start in plan:
            self.prefixes.add(self.slots.index(row), row.blocks[: start // BLOCK + 1])
            row.read = min(start + BLOCK, len(row.request.prompt))
        for (row, start), states in zip(plan, hidden, strict=False):
            if row.request.echo:
                self._echo(row, start, states)
        last = [
            (row, i)
            for i, (row, start) in enumerate(plan)
            if start + BLOCK >= len(row.request.prompt)
        ]
        if not last:
            return {}
        logits = self.model.logits(
            hidden[torch.arange(len(ids), device=self.device), (state[2] - 1).clamp_min(0)]
        )
        ends = {
            row: logits[i].clone() for row, i in last
        }  # a copy, or it would keep the others' alive
        self.prefixes.last_logits.update((row.blocks[-1], end) for row, end in ends.items())
        return ends

    @functools.cached_property
    def _reader(self) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
        """One pass over blocks as a function of tensors: ids (B, T); (4, B) int64 of each block's
        slot, first position, length and the token before it; and the positions that attention sees.
        Returns hidden states (B, T, D).
        """
        model, cache = self.model, self.cache

        def read(ids: torch.Tensor, state: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
            slots, starts, lengths, before = state
            return model(ids, Pass(cache, starts, lengths, before, columns, BLOCK, slots))

        return compiled_step(read, frozen=False, varies=2) if self.compiled else read

    def _echo(self, sequence: RequestState, start: int, hidden: torch.Tensor) -> None:
        """A block's own scores from its hidden states (T, D)."""
        goals, done = sequence.request.prompt[start + 1 : start + BLOCK + 1], sequence.completion
        logits = self.model.logits(hidden)[: len(goals)]
        if goals:
            done.prompt_logprobs += log_probability(
                logits, torch.tensor(goals, device=logits.device)
            ).tolist()
            done.prompt_top_logprobs += top_logprobs_of(logits, sequence.sampling.top_logprobs)

    def _decode(self) -> list[tuple[RequestState, Event]]:
        """One token for every row that has read its prompt; those that have not, and free slots,
        are padding.
        """
        ready = [row if row is not None and row.decoding else None for row in self.slots]
        last = max(slot for slot, row in enumerate(ready) if row is not None)
        rows = ready[: next(width for width in self.widths if width > last)]
        longest = max(row.position for row in rows if row is not None) + 1
        state = [
            (row.next_input, row.before, row.position, 1) if row is not None else (0, -1, 0, 0)
            for row in rows
        ]
        logits, summary = self._run(state, longest)
        self._sampler = self._sampler or self._sampler_for(rows)
        return self._advance(rows, logits, self._sampler, summary)

    def _run(
        self, state: Sequence[tuple[int, int, int, int]], longest: int
    ) -> tuple[torch.Tensor, Summary]:
        """The decoding step for as many rows as `state` has, built when it is first needed."""
        width = len(state)
        if width not in self._steps:
            self._steps[width] = (
                compiled_step(self._step(), frozen=self.frozen, varies=1)
                if self.compiled
                else self._step()
            )
        return self._steps[width](
            torch.tensor(state, device=self.device).T, self.cache.seen_by(longest)
        )

    def _step(self) -> Step:
        """The decoding step as a function of tensors: (4, B) int64 of each row's token, the one
        before it, its position, and whether it counts; and the positions that attention sees.
        Returns logits (B, V) and their summary.
        """
        model, cache = self.model, self.cache

        def decode(state: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, Summary]:
            ids, before, starts, lengths = state
            hidden = model(ids[:, None], Pass(cache, starts, lengths, before, columns))
            logits = model.logits(hidden[:, 0])
            return logits, summarise(logits)

        return decode

    @functools.cached_property
    def widths(self) -> list[int]:
        """How many rows a decoding step may have: `width`, and those fewer whose rows come out the
        same to the last bit on this machine.

        Another order of summation shows in few of bf16's roundings, so enough rows are looked at
        that these are many. Below four rows products are made by other kernels altogether.
        """
        fewer = [4] if self.compiled else [4 << i for i in range(self.max_batch_size.bit_length())]
        config, longest = self.model.config, min(self.context, 100)
        agreeing = []
        for rows in (rows for rows in fewer if rows < self.max_batch_size):
            rounds = -(-PROBED_ROUNDINGS // (rows * config.depth * config.width * 12))
            states = [
                [
                    (
                        token % config.vocab_size,
                        7 * token % config.vocab_size,
                        13 * token % longest,
                        1,
                    )
                    for token in range(31 * part, 31 * part + self.max_batch_size)
                ]
                for part in range(rounds)
            ]
            if all(
                torch.equal(
                    self._run(state[:rows], longest)[0], self._run(state, longest)[0][:rows]
                )
                for state in states
            ):
                agreeing.append(rows)
        return [*agreeing, self.max_batch_size]

    @torch.no_grad()
    def build(self) -> None:
        """Make the decoding steps of all widths, and the reading of prompts, now rather than during
        the first answers.
        """
        for width in self.widths:
            self._run([(0, -1, 0, 0)] * width, 1)
        self.generate([Request((0,), SamplingParams(max_tokens=1))])
        self.prefixes.forget()

    def _sampler_for(self, rows: Sequence[RequestState | None]) -> Sampler:
        settings = [_FREE if row is None else row.sampling for row in rows]
        return Sampler(
            settings,
            self.model.config.vocab_size,
            self.device,
            [() if row is None else row.tokens for row in rows],
        )

    def _advance(
        self,
        rows: Sequence[RequestState | None],
        logits: torch.Tensor,
        sampler: Sampler,
        summary: Summary | None = None,
    ) -> list[tuple[RequestState, Event]]:
        """Sample (B, V) logits and give each row its token; rows that end leave."""
        ids, logprobs = sampler(
            logits, [0 if row is None else len(row.completion.ids) for row in rows], summary
        )
        others = sampler.likeliest(logits)
        events = []
        for row, token, chance, some in zip(
            list(rows), ids.tolist(), logprobs.tolist(), others, strict=True
        ):
            if row is not None:
                events.append((row, self._advance_one(row, token, chance, some)))
                if row.completion.finish_reason is not None:
                    self._free(row)
        sampler.saw(
            [0 if row is None or not row.completion.ids else row.next_input for row in rows]
        )
        return events

    def _advance_one(
        self, row: RequestState, token: int, logprob: float, some: TopLogprobs
    ) -> Event:
        """A request that fails on its own token (its calculator, its text) ends alone."""
        try:
            return row.advance(token, logprob, some)
        except Exception as error:
            row.error = error
            return row.cancel()

    def _free(self, sequence: RequestState) -> None:
        self.slots[self.slots.index(sequence)] = None
        if sequence in self.reading:
            self.reading.remove(sequence)
        self._sampler = None
