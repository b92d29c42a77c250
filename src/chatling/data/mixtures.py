"""Mixtures of conversations from several tasks, each in its proportion all along the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from chatling.data.shuffle import random_words, seeded_order
from chatling.data.token_shards import Indexed
from chatling.errors import DataError, RecipeError
from chatling.messages import Conversation

Source = TypeVar("Source")
Result = TypeVar("Result", covariant=True)


@dataclass(frozen=True)
class MixturePart:
    """A source and how much of it is taken: `count` conversations when given, else `epochs` times
    all of them.

    Every pass over the source has its own seeded order and takes each conversation once, so a count
    below the source's size is a sample without replacement, and one above repeats all of them
    before any a second time more.
    """

    name: str
    source: Indexed[Conversation]
    epochs: int = 1
    count: int | None = None

    @property
    def total(self) -> int:
        return self.epochs * len(self.source) if self.count is None else self.count


class Mixture:
    """Conversations of several parts, interleaved: a pure function of (parts, seed, index).

    Each part is spread evenly, with seeded jitter, so that every long stretch of the mixture holds
    the parts in proportion.
    """

    def __init__(self, parts: Sequence[MixturePart], seed: int):
        """Raises DataError for a source without conversations, RecipeError for a negative count."""
        for part in parts:
            if part.total < 0:
                raise RecipeError(
                    f"The mixture takes {part.total} conversations of {part.name!r}.",
                    "Give it at least 0.",
                )
            if part.total and not len(part.source):
                raise DataError(
                    f"{part.name!r} of the mixture holds no conversations.",
                    "Check its files, or take it out of the mixture.",
                )
        self.parts, self.seed = tuple(parts), seed
        totals = [part.total for part in parts]
        # the k-th of n of a part stands at (k + jitter) / n of the way
        places = [
            (np.arange(n) + random_words(n, seed, i, 0) / 2.0**64) / max(n, 1)
            for i, n in enumerate(totals)
        ]
        order = np.argsort(np.concatenate([np.empty(0), *places]), kind="stable")
        self._part = np.repeat(np.arange(len(totals)), totals)[order]
        self._nth = np.concatenate([np.empty(0, np.int64), *(np.arange(n) for n in totals)])[order]
        self._passes: dict[tuple[int, int], np.ndarray] = {}  # (part, pass) -> order of the source

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> Conversation:
        part, item = self.locate(index)
        return self.parts[part].source[item]

    def locate(self, index: int) -> tuple[int, int]:
        """(part, index in its source) of a conversation of the mixture. Raises IndexError past the
        end.
        """
        part, nth = int(self._part[index]), int(self._nth[index])
        size = len(self.parts[part].source)
        key = part, nth // size
        if key not in self._passes:
            self._passes[key] = seeded_order(size, self.seed, part, 1, nth // size)
        return part, int(self._passes[key][nth % size])


class Mapped(Generic[Source, Result]):
    """`function(source[i])` for each i, when asked for: renders a mixture without holding it in
    memory.
    """

    def __init__(self, source: Indexed[Source], function: Callable[[Source], Result]):
        self.source, self.function = source, function

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Result:
        return self.function(self.source[index])
