"""The model's tensors: weights in the compute dtype, the cache, and the two passes over them.

Matrix products of different shapes can differ in their last bits. So prompts are read in blocks of
one size, always the same number of blocks at once, whichever request they belong to; and a decoding
step has one of a few widths, of which only those are used that were seen to agree to the last bit.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from chatling.errors import MachineError
from chatling.hardware.detect import device_memory, has_compiler
from chatling.hardware.device_errors import OutOfMemory, memory_errors
from chatling.inference.compiled import compiled_step
from chatling.inference.cuda_graphs import captured_step
from chatling.inference.kv_cache import KVCache, Pass, bytes_per_slot
from chatling.inference.prefix_cache import BLOCK
from chatling.inference.sampling import Summary, summarize
from chatling.model.adapter import merged
from chatling.model.gpt import GPT
from chatling.model.sharding import is_sharded, whole_model

PREFILL_BLOCKS = 8  # blocks of prompts read at once, at most
# rounded numbers that must be equal before two widths are taken to agree
PROBED_ROUNDINGS = 1 << 18

Step = Callable[[Tensor, Tensor], tuple[Tensor, Summary]]


def in_dtype(model: GPT, dtype: torch.dtype) -> GPT:
    """A model for inference with its parameters in `dtype`; they may or may not share memory with
    the original's.
    """
    if is_sharded(model):
        return whole_model(model, dtype)
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


class PromptBlock(NamedTuple):
    """At most BLOCK tokens of a prompt, the first at position `start` of a slot, after the token
    `previous` (-1: none).
    """

    tokens: tuple[int, ...]
    slot: int
    start: int
    previous: int


class ModelRunner:
    """Reads blocks of prompts and decodes rows; which ones, the scheduler says."""

    def __init__(
        self,
        model: GPT,
        *,
        max_batch_size: int,
        context: int,
        dtype: torch.dtype,
        compiled: bool,
    ):
        """On CUDA, `compiled` captures both passes as graphs. Raises MachineError when there is no
        memory for the cache or no compiler.
        """
        self.graphs = compiled and model.embed_tokens.weight.is_cuda
        if compiled and not self.graphs and not has_compiler():
            raise MachineError(
                "There is no C++ compiler to compile the decoding step.",
                "Install g++ or clang, or do not compile.",
            )
        self.model = in_dtype(model, dtype)
        self.device = self.model.embed_tokens.weight.device
        self.max_batch_size, self.context = max_batch_size, context
        self.prefill_blocks, self.compiled = max(2, min(max_batch_size, PREFILL_BLOCKS)), compiled
        self.pool = torch.cuda.graph_pool_handle() if self.graphs else None
        self._check_memory()
        doing = f"making room for {max_batch_size} answers of {context:,} tokens"
        with memory_errors(OutOfMemory(doing)):
            self.cache = KVCache(
                model.config, max_batch_size, context, dtype, self.device, compiled=compiled
            )
        self.frozen = True  # the weights stay as they are, until new ones are loaded
        self._steps: dict[int, Step] = {}

    def _check_memory(self) -> None:
        """The cache is set up once and admits no more than it holds. Asked for too much, a system
        may promise it and fail later.
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
        """Take over the weights of a model of the same shape."""
        for mine, theirs in zip(self.model.parameters(), merged(model).parameters(), strict=True):
            mine.copy_(theirs)
        if self.frozen:
            self.frozen = False
            self._steps.clear()
            self.__dict__.pop("widths", None)  # to be seen again, with the new steps

    def prefill(self, blocks: Sequence[PromptBlock]) -> Tensor:
        """Read blocks into their slots; returns hidden states (B, T, D), those of padding last."""
        padding = PromptBlock((), self.max_batch_size, 0, -1)  # into the cache's spare slot
        rows = [*blocks, *[padding] * (self.prefill_blocks - len(blocks))]
        ids = [[*row.tokens, *[0] * (BLOCK - len(row.tokens))] for row in rows]
        state = [(row.slot, row.start, len(row.tokens), row.previous) for row in rows]
        longest = max(row.start + len(row.tokens) for row in rows)
        return self._prefill_step(
            torch.tensor(ids), torch.tensor(state).T, self.cache.seen_by(longest)
        )

    def logits_at(self, hidden: Tensor, places: Sequence[int]) -> Tensor:
        """Logits (B, V) at one place of each block, which hidden (B, T, D) are of; at 0 where
        `places` ends.
        """
        rows = torch.arange(len(hidden), device=self.device)
        at = torch.tensor([*places, *[0] * (len(hidden) - len(places))], device=self.device)
        return self.model.logits(hidden[rows, at])

    @functools.cached_property
    def _prefill_step(self) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """One pass over blocks as a function of tensors: ids (B, T); (4, B) int64 of each block's
        slot, first position, length and the token before it; and the positions that attention sees.
        Returns hidden states (B, T, D).
        """
        model, cache = self.model, self.cache

        def read(ids: Tensor, state: Tensor, columns: Tensor) -> Tensor:
            slots, starts, lengths, before = state
            return model(ids, Pass(cache, starts, lengths, before, columns, BLOCK, slots))

        return self._built(read, frozen=False, varies=2)

    def _built(self, step: Callable[..., Any], *, frozen: bool, varies: int) -> Callable[..., Any]:
        """A pass that takes its inputs from the host: compiled, as CUDA graphs, or as it is. The
        length of argument number `varies`, the last, may change from call to call.
        """
        if self.graphs:
            return captured_step(step, self.device, self.pool)
        run = compiled_step(step, frozen=frozen, varies=varies) if self.compiled else step
        return lambda *inputs: run(*(each.to(self.device, non_blocking=True) for each in inputs))

    def decode(
        self, state: Sequence[tuple[int, int, int, int]], longest: int
    ) -> tuple[Tensor, Summary]:
        """One step for as many rows as `state` has: each row's token, the one before it, its
        position, and whether it counts. Returns logits (B, V) and their summary.

        `longest` is the tokens of the longest row. The step is built when it is first needed.
        """
        width = len(state)
        if width not in self._steps:
            model, cache = self.model, self.cache

            def step(state: Tensor, columns: Tensor) -> tuple[Tensor, Summary]:
                """`state` is (4, B) int64, `columns` are the positions that attention sees."""
                ids, before, starts, lengths = state
                hidden = model(ids[:, None], Pass(cache, starts, lengths, before, columns))
                logits = model.logits(hidden[:, 0])
                return logits, summarize(logits)

            self._steps[width] = self._built(step, frozen=self.frozen, varies=1)
        return self._steps[width](torch.tensor(state).T, self.cache.seen_by(longest))

    @functools.cached_property
    def widths(self) -> list[int]:
        """How many rows a decoding step may have: `max_batch_size`, and those fewer whose rows come
        out the same to the last bit on this machine.

        Another order of summation shows in few of bf16's roundings, so enough rows are looked at
        that these are many. Below four rows products are made by other kernels altogether.
        """
        # compiling takes half a minute each, capturing nothing to speak of
        few = self.compiled and not self.graphs
        fewer = [4] if few else [4 << i for i in range(self.max_batch_size.bit_length())]
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
                    self.decode(state[:rows], longest)[0], self.decode(state, longest)[0][:rows]
                )
                for state in states
            ):
                agreeing.append(rows)
        return [*agreeing, self.max_batch_size]
