"""Which requests run: who gets a slot of the cache, and which blocks of prompts are read next."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from chatling.inference.prefix_cache import BLOCK, PrefixCache
from chatling.inference.request import RequestState

PATIENCE = 4  # decoding steps that a prompt waits for others to be read with


class Copy(NamedTuple):
    """The first `blocks` blocks of a request's prompt, which the slot `source` holds."""

    state: RequestState
    source: int
    blocks: int


class Scheduler:
    """Requests that wait, that have a slot, and those among these whose prompts are being read."""

    def __init__(self, max_batch_size: int, prefill_blocks: int):
        """`prefill_blocks` are read at once, at most."""
        self.prefill_blocks = prefill_blocks
        self.waiting: deque[RequestState] = deque()
        self.slots: list[RequestState | None] = [None] * max_batch_size
        self.prefilling: list[RequestState] = []  # their prompts are not read to the end yet
        self.prefixes = PrefixCache(max_batch_size)
        self._patience = PATIENCE

    @property
    def busy(self) -> bool:
        return bool(self.waiting) or any(self.slots)

    def admit(self, widths: Sequence[int]) -> None:
        """Give free slots to those who have waited longest. The lowest free ones, so that the
        decoding batch, which has one of these `widths`, stays narrow.
        """
        while self.waiting and None in self.slots:
            state = self.waiting.popleft()
            free = [slot for slot, row in enumerate(self.slots) if row is None]
            width = next(width for width in widths if width > free[0])
            slot = self.prefixes.choose([slot for slot in free if slot < width], state.blocks)
            self.slots[slot], state.slot = state, slot
            self.prefilling.append(state)
            held = self.prefixes.allocate(slot, () if state.request.echo else state.blocks)
            state.read = min(held, len(state.blocks) - 1) * BLOCK

    def remove(self, state: RequestState) -> None:
        """Take a request out, waiting or running; one that is not there any more stays out."""
        if state in self.waiting:
            self.waiting.remove(state)
        elif state in self.slots:
            self.slots[state.slot] = None
            if state in self.prefilling:
                self.prefilling.remove(state)

    def decoding(self) -> list[RequestState | None]:
        """The slots' requests that have read their prompt, up to the last one; None elsewhere."""
        rows = [row if row is not None and row.decoding else None for row in self.slots]
        while rows and rows[-1] is None:
            rows.pop()
        return rows

    def worth_prefilling(self) -> bool:
        """Reading costs the same for one block as for all that fit, so where others decode, a
        prompt waits a few steps for more to be read with it.
        """
        if not self.prefilling:
            return False
        blocks = sum(len(row.blocks) - row.read // BLOCK for row in self.prefilling)
        self._patience -= 1
        worth = blocks >= self.prefill_blocks or self._patience < 0 or not self.decoding()
        self._patience = PATIENCE if worth else self._patience
        return worth

    def copies(self) -> list[Copy]:
        """Blocks that need not be read, since some slot holds them."""
        found = []
        for row in self.prefilling:
            blocks = 0 if row.request.echo else self.prefixes.matching(row.blocks)
            if min(blocks * BLOCK, len(row.request.prompt)) > row.read:
                found.append(Copy(row, min(self.prefixes.holders[row.blocks[blocks - 1]]), blocks))
        return found

    def plan(self) -> list[tuple[RequestState, int]]:
        """Which blocks to read now, as (request, first token): one of each prompt in turn, so that
        a long one holds up nobody.
        """
        plan: list[tuple[RequestState, int]] = []
        planned: set[bytes] = set()
        reading = {row: row.read for row in self.prefilling if not row.decoding}
        while reading and len(plan) < self.prefill_blocks:
            for row, start in list(reading.items())[: self.prefill_blocks - len(plan)]:
                key = row.blocks[start // BLOCK]
                if key in planned and not row.request.echo:
                    del reading[row]  # another is about to read the same; it will be copied
                    continue
                planned.add(key)
                plan.append((row, start))
                reading[row] += BLOCK
                if reading[row] >= len(row.request.prompt):
                    del reading[row]
        return plan

    def record(self, state: RequestState, blocks: int, logits: Tensor | None = None) -> None:
        """The first `blocks` blocks of its prompt are in its slot, and these logits (V,) follow
        them if they are all.
        """
        self.prefixes.add(state.slot, state.blocks[:blocks])
        state.read = min(blocks * BLOCK, len(state.request.prompt))
        if logits is not None:
            self.prefixes.last_logits[state.blocks[-1]] = logits

    def prefilled(self) -> dict[RequestState, Tensor]:
        """The requests whose prompts are whole now, with the logits (V,) after them; they go on to
        be decoded.
        """
        done = [row for row in self.prefilling if row.decoding]
        self.prefilling = [row for row in self.prefilling if not row.decoding]
        return {row: self.prefixes.last_logits[row.blocks[-1]] for row in done}
