"""How well a tokenizer compresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatling.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class Compression:
    """Sizes of a text in bytes of UTF-8, in characters and in tokens."""

    bytes: int
    characters: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / max(1, self.tokens)

    @property
    def tokens_per_character(self) -> float:
        return self.tokens / max(1, self.characters)


def compression(tokenizer: Tokenizer, texts: Sequence[str]) -> Compression:
    """Sizes of `texts`, each encoded on its own; bytes are counted over the tokens, as the
    bits-per-byte metric does.
    """
    ids, _ = tokenizer.encode_flat(texts)
    return Compression(int(tokenizer.token_bytes[ids].sum()), sum(map(len, texts)), len(ids))
