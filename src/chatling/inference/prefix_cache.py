"""Which slots of the cache hold the beginnings of which prompts, so that a beginning is read once
and copied after that.
"""

import hashlib
from array import array
from collections.abc import Sequence

from torch import Tensor

BLOCK = 32  # prompts are read in blocks of this many tokens


def block_keys(prompt: Sequence[int]) -> tuple[bytes, ...]:
    """A key for each block, the last one perhaps short. Equal keys mean equal tokens from the
    prompt's start to the block's end.
    """
    keys, digest = [], hashlib.blake2b(digest_size=16)
    for start in range(0, len(prompt), BLOCK):
        digest.update(array("q", prompt[start : start + BLOCK]).tobytes())
        keys.append(digest.digest())
    return tuple(keys)


class PrefixCache:
    """The blocks of prompts that each slot holds, from its beginning on. Only what was read as
    prompt counts, not what was decoded: equal blocks then have equal bits, whoever read them.
    """

    def __init__(self, slots: int):
        self.blocks: list[list[bytes]] = [[] for _ in range(slots)]
        self.holders: dict[bytes, set[int]] = {}
        self.last_logits: dict[bytes, Tensor] = {}  # logits (V,) after a prompt's last block
        self.used = [0] * slots  # when each slot was last taken
        self.clock = 0

    def matching(self, keys: Sequence[bytes]) -> int:
        """How many of a prompt's blocks need not be read again; its last one only counts where its
        logits are known.
        """
        known = next((i for i, key in enumerate(keys) if key not in self.holders), len(keys))
        return known - 1 if known == len(keys) and keys[-1] not in self.last_logits else known

    def add(self, slot: int, keys: Sequence[bytes]) -> None:
        """The slot now holds these first blocks of a prompt; those that it held before are among
        them.
        """
        for key in keys[len(self.blocks[slot]) :]:
            self.blocks[slot].append(key)
            self.holders.setdefault(key, set()).add(slot)

    def allocate(self, slot: int, keys: Sequence[bytes]) -> int:
        """Begin a prompt in a slot; returns how many of its first blocks the slot holds already.
        The rest of what it held is forgotten.
        """
        self.clock += 1
        self.used[slot] = self.clock
        same = _common(self.blocks[slot], keys)
        for key in self.blocks[slot][same:]:
            self.holders[key].discard(slot)
            if not self.holders[key]:
                del self.holders[key]
                self.last_logits.pop(key, None)
        del self.blocks[slot][same:]
        return same

    def choose(self, free: Sequence[int], keys: Sequence[bytes]) -> int:
        """The free slot to take: one that holds little but what the prompt begins with, else the
        one unused for longest.
        """
        shared = {slot: _common(self.blocks[slot], keys) for slot in free}
        continued = [
            slot
            for slot, blocks in shared.items()
            if blocks and blocks >= len(self.blocks[slot]) - 1
        ]
        return max(
            continued,
            key=lambda slot: shared[slot],
            default=min(free, key=lambda slot: self.used[slot]),
        )

    def forget(self) -> None:
        """All of it: the weights have changed."""
        for slot in range(len(self.blocks)):
            self.allocate(slot, ())


def _common(left: Sequence[bytes], right: Sequence[bytes]) -> int:
    """How many first elements are the same."""
    return next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )
