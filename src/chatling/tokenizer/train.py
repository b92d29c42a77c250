"""Training the tokenizer: rustbpe counts the split pattern's pieces and merges the most frequent
pairs.
"""

import warnings
from collections.abc import Iterator
from typing import Annotated

from chatling.errors import DataError
from chatling.fields import Tokens, bounded, config
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer, valid_text
from chatling.tokenizer.hf_format import split_pattern

_BUFFERED_CHARACTERS = (
    32_000_000  # documents that rustbpe counts in parallel at a time; bounds the memory
)


@config
class TokenizerConfig:
    """The `[tokenizer]` table: how the tokenizer is trained."""

    vocab_size: Annotated[int, bounded(ge=256 + len(SPECIAL_TOKENS), le=2**20)] = 65_536
    """Tokens in all: 256 bytes, merges, nine special ones."""
    digits: Annotated[int, bounded(ge=1, le=3)] = 2
    """Longest run of digits in one token."""
    characters: Tokens = 2_000_000_000
    """Of the corpus that are read for training it."""
    document_characters: Tokens = 10_000
    """Of one document that are read, so that no long one rules the merges."""


def train_tokenizer(texts: Iterator[str], config: TokenizerConfig) -> Tokenizer:
    """Learn the merges from `texts`, which are streamed, never held; the same texts give the same
    tokenizer.

    A corpus with too few distinct pairs gives a smaller vocabulary, and a warning that says so.
    Raises DataError when there is no text at all; errors of the iterator pass through.
    """
    import rustbpe

    native, read = rustbpe.Tokenizer(), 0

    def limited() -> Iterator[str]:
        nonlocal read
        for text in texts:
            text = valid_text(text[: min(config.document_characters, config.characters - read)])
            read += len(text)
            yield text
            if read >= config.characters:
                return

    native.train_from_iterator(
        limited(),
        config.vocab_size - len(SPECIAL_TOKENS),
        buffer_size=max(1, min(8192, _BUFFERED_CHARACTERS // config.document_characters)),
        pattern=split_pattern(config.digits),
    )
    if not read:
        raise DataError(
            "The corpus holds no text to train a tokenizer on.",
            "Check the data folder and its text column.",
        )
    pieces = [
        bytes(piece) for piece, _ in sorted(native.get_mergeable_ranks(), key=lambda pair: pair[1])
    ]
    tokenizer = Tokenizer(pieces, config.digits)
    if tokenizer.vocab_size < config.vocab_size:
        warnings.warn(
            f"The corpus ({read:,} characters) fills a vocabulary of {tokenizer.vocab_size:,}, not"
            f" {config.vocab_size:,}; the tokenizer has {tokenizer.vocab_size:,} tokens.",
            stacklevel=2,
        )
    return tokenizer
