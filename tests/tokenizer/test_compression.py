"""Compression figures against counting by hand."""

import pytest

from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.metrics import compression


def test_compression_counts_bytes_characters_and_tokens(tokenizer: Tokenizer) -> None:
    texts = ["The capital of France", "é", ""]
    figures = compression(tokenizer, texts)
    assert (figures.bytes, figures.characters) == (21 + 2, 21 + 1)
    assert figures.tokens == sum(len(tokenizer.encode(text)) for text in texts)
    assert figures.bytes_per_token == pytest.approx(23 / figures.tokens)
    assert figures.tokens_per_character == pytest.approx(figures.tokens / 22)


def test_nothing_to_compress(tokenizer: Tokenizer) -> None:
    assert compression(tokenizer, []).bytes_per_token == 0
