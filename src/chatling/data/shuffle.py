"""Seeded orders that are the same on every machine and under every numpy version."""

import numpy as np


def random_words(count: int, *key: int) -> np.ndarray:
    """`count` uint64 random words, a pure function of the non-negative integers in `key`.

    Only the raw stream of a bit generator is promised to stay the same between numpy versions;
    `Generator.permutation` is not.
    """
    return np.asarray(
        np.random.PCG64(np.random.SeedSequence(key)).random_raw(count), dtype=np.uint64
    )


def seeded_order(count: int, *key: int) -> np.ndarray:
    """A permutation of `range(count)`, int64 (count,), a pure function of `key`."""
    return np.argsort(random_words(count, *key), kind="stable")
