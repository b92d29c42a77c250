"""Training: sizes, determinism, what a small or broken corpus does, bounds on what is read."""

from collections.abc import Iterator

import pytest

from chatling.errors import DataError, RecipeError
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer


def test_same_corpus_gives_the_same_tokenizer(corpus: list[str]) -> None:
    first, second = (
        train_tokenizer(iter(corpus), TokenizerConfig(vocab_size=400)) for _ in range(2)
    )
    assert first.fingerprint == second.fingerprint


def test_merges_are_the_most_frequent_pairs() -> None:
    # By hand: "ab" 60 times, then " ab" 59, "cd" 40, " cd" 39; no merge crosses a space between
    # words.
    tokenizer = train_tokenizer(
        iter(["ab " * 60, "cd " * 40]), TokenizerConfig(vocab_size=256 + 4 + 9)
    )
    assert tokenizer.pieces[256:] == (b"ab", b" ab", b"cd", b" cd")


def test_small_corpus_gives_a_smaller_vocabulary_and_says_so() -> None:
    with pytest.warns(UserWarning, match=r"vocabulary of 269, not 1,000"):
        tokenizer = train_tokenizer(iter(["hello"]), TokenizerConfig(vocab_size=1000))
    assert tokenizer.vocab_size == 269
    assert tokenizer.encode("hello") == [259]
    assert tokenizer.bos == 260


def test_vocabulary_of_bytes_alone(corpus: list[str]) -> None:
    tokenizer = train_tokenizer(iter(corpus), TokenizerConfig(vocab_size=265))
    assert tokenizer.encode("hé") == [
        tokenizer.pieces.index(bytes([byte])) for byte in "hé".encode()
    ]


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_empty_corpus(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no text"):
        train_tokenizer(iter(texts), TokenizerConfig(vocab_size=300))


def test_surrogates_in_the_corpus_are_replaced() -> None:
    tokenizer = train_tokenizer(
        iter(["a\ud800b " * 20, "a\ud800b " * 20]), TokenizerConfig(vocab_size=268)
    )
    assert tokenizer.pieces[-1] == "\ufffdb".encode()


def test_error_of_the_corpus_passes_through() -> None:
    def broken() -> Iterator[str]:
        yield "some text"
        raise DataError("shard_00001.parquet is damaged.")

    with pytest.raises(DataError, match=r"shard_00001\.parquet"):
        train_tokenizer(broken(), TokenizerConfig(vocab_size=300))


def test_reading_stops_at_the_limits() -> None:
    taken = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(1)
            yield "word " * 20 + "unseen" * 50

    tokenizer = train_tokenizer(
        endless(), TokenizerConfig(vocab_size=267, characters=1000, document_characters=100)
    )
    assert len(taken) == 10
    assert not any(b"un" in piece for piece in tokenizer.pieces)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vocab_size": 264},
        {"digits": 0},
        {"digits": 4},
        {"characters": 0},
        {"document_characters": 0},
    ],
)
def test_numbers_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        TokenizerConfig(**wrong)
