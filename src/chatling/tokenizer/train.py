"""Training the tokenizer: rustbpe counts the split pattern's pieces and merges the most frequent pairs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from chatling.errors import DataError, RecipeError
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer, valid_text
from chatling.tokenizer.tokenizer_json import split_pattern

_BUFFERED_CHARACTERS = 32_000_000  # documents that rustbpe counts in parallel at a time; bounds the memory


@dataclass(frozen=True)
class TokenizerConfig:
    """How the tokenizer is trained. Raises RecipeError when a number is out of range."""

    vocabulary: int = 65_536  # tokens in all: 256 bytes, merges, nine specials
    digits: int = 2  # longest run of digits in one token, 1 to 3
    characters: int = 2_000_000_000  # of the corpus that are read
    document_characters: int = 10_000  # of one document that are read, so that no long one rules the merges

    def __post_init__(self) -> None:
        least = 256 + len(SPECIAL_TOKENS)
        if self.vocabulary < least:
            raise RecipeError(f"tokenizer.vocabulary is {self.vocabulary}, but bytes and special tokens alone are {least}.")
        if not 1 <= self.digits <= 3:
            raise RecipeError(f"tokenizer.digits is {self.digits}; it must be 1, 2 or 3.")
        if self.characters < 1 or self.document_characters < 1:
            raise RecipeError("tokenizer.characters and tokenizer.document_characters must be at least 1.")


def train_tokenizer(texts: Iterator[str], config: TokenizerConfig) -> Tokenizer:
    """Learn the merges from `texts`, which are streamed, never held; the same texts give the same tokenizer.

    A corpus with too few distinct pairs gives a smaller vocabulary, and a warning that says so. Raises DataError when there
    is no text at all; errors of the iterator pass through.
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
        config.vocabulary - len(SPECIAL_TOKENS),
        buffer_size=max(1, min(8192, _BUFFERED_CHARACTERS // config.document_characters)),
        pattern=split_pattern(config.digits),
    )
    if not read:
        raise DataError("The corpus holds no text to train a tokenizer on.", "Check the data folder and its text column.")
    pieces = [bytes(piece) for piece, _ in sorted(native.get_mergeable_ranks(), key=lambda pair: pair[1])]
    tokenizer = Tokenizer(pieces, config.digits)
    if tokenizer.vocab_size < config.vocabulary:
        warnings.warn(
            f"The corpus ({read:,} characters) fills a vocabulary of {tokenizer.vocab_size:,}, not {config.vocabulary:,};"
            f" the tokenizer has {tokenizer.vocab_size:,} tokens.",
            stacklevel=2,
        )
    return tokenizer
