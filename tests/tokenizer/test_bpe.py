"""Encoding: round trips, equality of three independent encoders, no special token from text, damage
on disk.
"""

import json
import re
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from chatling.data.parquet import iter_texts
from chatling.errors import DataError
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from chatling.tokenizer.hf_format import _replay, recover_merges
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

any_text = st.text(st.characters())  # lone surrogates included
valid_text = st.one_of(
    st.text(),
    st.text(st.sampled_from("ab '!,.\n\r\t\v1²½٣\x85\xa0\u180e\u2003\u200b\ufeffſéß中😀")),
    st.lists(
        st.sampled_from([*SPECIAL_TOKENS, "<|", "|>", "'s", "'LL", " the", "12345", "  ", "\r\n"])
    ).map("".join),
)


@pytest.fixture(scope="module")
def reference(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer(tokenizer.pieces, tokenizer.digits, backend="tiktoken")


@pytest.fixture(scope="module")
def exported(folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_layout_of_the_vocabulary(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 500
    assert sorted(tokenizer.pieces[:256]) == [bytes([b]) for b in range(256)]
    names = [name.strip("<|>") for name in SPECIAL_TOKENS]
    assert [getattr(tokenizer, name) for name in names] == list(range(491, 500))
    assert tokenizer.token_bytes.shape == (500,)
    assert tokenizer.token_bytes.dtype == np.int32
    assert not tokenizer.token_bytes[491:].any()
    assert (tokenizer.token_bytes[:491] > 0).all()


@given(any_text)
@example("\ud800")
@example("a\udfff\ud83d b")
def test_every_string_encodes_and_comes_back(tokenizer: Tokenizer, text: str) -> None:
    joined = re.sub(
        "[\ud800-\udbff][\udc00-\udfff]",
        lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"),
        text,
    )
    expected = "".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in joined)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == expected
    assert tokenizer.decode_bytes(ids) == expected.encode()
    assert tokenizer.token_bytes[ids].sum() == len(expected.encode())
    assert all(i < tokenizer.bos for i in ids)


def test_surrogate_pair_is_one_character(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("\ud83d\ude00") == tokenizer.encode("😀")


@given(valid_text)
@settings(max_examples=400)
def test_three_encoders_agree(
    tokenizer: Tokenizer, reference: Tokenizer, exported: tokenizers.Tokenizer, text: str
) -> None:
    ids = tokenizer.encode(text)
    assert ids == reference.encode(text)
    if not any(special in text for special in SPECIAL_TOKENS):
        assert ids == exported.encode(text).ids
        assert exported.decode(ids) == text


@pytest.mark.parametrize("before", ["x", "1", "!", " ", "'", "\n"])
def test_split_pattern_classes_agree_on_all_code_points(before: str) -> None:
    # Two-byte tokens that begin with `before` show whether the pattern puts the next character into
    # the same piece.
    pieces = [bytes([b]) for b in range(256)] + [before.encode() + bytes([b]) for b in range(256)]
    # Every tenth or so above the planes that hold nearly all characters.
    texts = [
        before + chr(c)
        for c in (*range(0xD800), *range(0xE000, 0x20000), *range(0x20000, 0x110000, 11))
    ]
    ours, theirs = (
        Tokenizer(pieces, 2, backend).encode_flat(texts) for backend in ("fastokens", "tiktoken")
    )
    assert np.array_equal(ours[1], theirs[1])
    assert np.array_equal(ours[0], theirs[0])
    assert (ours[0] > 255).any()


@given(st.lists(any_text, max_size=6))
def test_batches_equal_single_texts(
    tokenizer: Tokenizer, reference: Tokenizer, texts: list[str]
) -> None:
    for encoder in (tokenizer, reference):
        ids, offsets = encoder.encode_flat(texts)
        assert (ids.dtype, offsets.dtype) == (np.uint32, np.int64)
        assert offsets[0] == 0
        assert offsets[-1] == len(ids)
        assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == [
            encoder.encode(text) for text in texts
        ]


@given(st.lists(st.sampled_from(SPECIAL_TOKENS), min_size=1), st.text(max_size=5))
def test_text_never_becomes_a_special_token(
    tokenizer: Tokenizer, reference: Tokenizer, specials: list[str], glue: str
) -> None:
    text = glue.join(["", *specials, ""])
    for encoder in (tokenizer, reference):
        assert max(encoder.encode(text)) < tokenizer.bos
        assert encoder.encode_flat([text])[0].max() < tokenizer.bos


@pytest.mark.parametrize("backend", ["fastokens", "tiktoken"])
@pytest.mark.parametrize("unit", [" ", "\n", "a", "!", "7", "中", " a", "\t \r\n"])
def test_long_runs(tokenizer: Tokenizer, backend: str, unit: str) -> None:
    encoder = Tokenizer(tokenizer.pieces, tokenizer.digits, backend)  # type: ignore[arg-type]
    text = unit * (1_000_000 // len(unit))
    assert encoder.decode(encoder.encode(text)) == text


def test_run_beyond_the_regex_engine_limit(tokenizer: Tokenizer) -> None:
    # Ten million spaces exceed fastokens' match limit; its neighbours in the batch must not suffer.
    ids, offsets = tokenizer.encode_flat(["one", " " * 11_000_000, "two"])
    assert [tokenizer.decode(ids[a:b]) for a, b in pairwise(offsets)] == [
        "one",
        " " * 11_000_000,
        "two",
    ]


def test_real_text_agrees_with_tiktoken(data_pack: Path) -> None:
    files = [
        data_pack / "pretrain_en" / "shard_00005.parquet",
        data_pack / "pretrain_zh" / "shard_00001.parquet",
    ]
    texts = list(iter_texts(files))
    tokenizer = train_tokenizer(iter(texts), TokenizerConfig(vocab_size=8192))
    ids, offsets = tokenizer.encode_flat(texts)
    reference_ids, reference_offsets = Tokenizer(
        tokenizer.pieces, tokenizer.digits, backend="tiktoken"
    ).encode_flat(texts)
    assert np.array_equal(ids, reference_ids)
    assert np.array_equal(offsets, reference_offsets)
    assert tokenizer.token_bytes[ids].sum() == sum(len(text.encode()) for text in texts)
    assert tokenizer.decode_bytes(ids) == "".join(texts).encode()
    assert len(np.unique(ids)) > 6000


def test_decoding_shows_specials_and_replaces_broken_bytes(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.bos, *tokenizer.encode("é")[:1], tokenizer.user_end]
    assert tokenizer.decode(ids).startswith("<|bos|>")
    assert tokenizer.decode(ids).endswith("<|user_end|>")
    assert tokenizer.decode([tokenizer.pieces.index(b"\xff")]) == "\ufffd"
    assert (
        tokenizer.decode_bytes([tokenizer.bos, *tokenizer.encode("hi"), tokenizer.user_end])
        == b"hi"
    )


def test_digits_decide_how_numbers_split() -> None:
    for digits in (1, 2, 3):
        tokenizer = train_tokenizer(
            iter(["1234 " * 50]), TokenizerConfig(vocab_size=265 + digits - 1, digits=digits)
        )
        assert max(len(piece) for piece in tokenizer.pieces if piece.isdigit()) == digits
        assert tokenizer.decode(tokenizer.encode("1234")[:1]) == "1234"[:digits]


def test_folder_comes_back(tokenizer: Tokenizer, folder: Path, corpus: list[str]) -> None:
    loaded = Tokenizer.load(folder)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.pieces == tokenizer.pieces
    assert [loaded.encode(text) for text in corpus] == [tokenizer.encode(text) for text in corpus]
    assert np.array_equal(
        load_file(folder / "token_bytes.safetensors")["token_bytes"], tokenizer.token_bytes
    )
    assert json.loads((folder / "meta.json").read_text())["vocab_size"] == 500


def test_fingerprint_tells_what_changes_the_ids(tokenizer: Tokenizer) -> None:
    assert Tokenizer(tokenizer.pieces, 3).fingerprint != tokenizer.fingerprint
    assert Tokenizer(tokenizer.pieces[:-1], 2).fingerprint != tokenizer.fingerprint
    assert Tokenizer(tokenizer.pieces, 2, backend="tiktoken").fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    "name",
    [
        "ranks.tiktoken",
        "tokenizer.json",
        "tokenizer_config.json",
        "token_bytes.safetensors",
        "meta.json",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty"])
def test_damaged_file_is_named(
    tokenizer: Tokenizer, tmp_path: Path, name: str, damage: str
) -> None:
    tokenizer.save(tmp_path / "t")
    file = tmp_path / "t" / name
    data = file.read_bytes()
    changed = {
        "truncated": data[:-3],
        "flipped": data[:9] + bytes([data[9] ^ 1]) + data[10:],
        "empty": b"",
    }
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(changed[damage])
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        Tokenizer.load(tmp_path / "t")


def test_folder_that_is_absent_or_has_no_manifest(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenizer at"):
        Tokenizer.load(tmp_path / "absent")
    tokenizer.save(tmp_path / "t")
    (tmp_path / "t" / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"manifest\.json"):
        Tokenizer.load(tmp_path / "t")


def test_pieces_that_are_no_byte_pair_encoding() -> None:
    singles = [bytes([b]) for b in range(256)]
    with pytest.raises(DataError, match="256 bytes"):
        Tokenizer(singles[1:], 2)
    with pytest.raises(DataError, match="twice"):
        Tokenizer([*singles, b"ab", b"ab"], 2)
    with pytest.raises(DataError, match="merge"):
        Tokenizer([*singles, b"abc"], 2).encode("abc")


def merge_by_rescanning(piece: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, ...]:
    """Byte-pair encoding as it is defined: again and again the leftmost pair of lowest rank, until
    two parts or no pair is left.
    """
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 2:
        joined = [ranks.get(a + b, rank) for a, b in pairwise(parts)]
        best = joined.index(min(joined))
        if joined[best] >= rank:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return tuple(parts)


SINGLES = [bytes([byte]) for byte in range(256)]
some_pieces = st.lists(
    st.text("ab ", min_size=2, max_size=9).map(str.encode), max_size=40, unique=True
)


@given(some_pieces, st.text("ab ", min_size=1, max_size=60))
@settings(max_examples=400)
def test_replayed_merges_are_those_of_the_definition(longer: list[bytes], text: str) -> None:
    ranks = {piece: rank for rank, piece in enumerate([*SINGLES, *longer])}
    for piece in [*longer, text.encode()]:
        rank = ranks.get(piece, len(ranks))
        assert _replay(piece, rank, ranks) == merge_by_rescanning(piece, rank, ranks)


@given(
    st.lists(st.text("ab ", min_size=1, max_size=80), min_size=1, max_size=8), st.integers(266, 330)
)
def test_recovered_merges_are_those_of_the_definition(texts: list[str], vocab_size: int) -> None:
    with warnings.catch_warnings(action="ignore"):
        pieces = train_tokenizer(iter(texts), TokenizerConfig(vocab_size)).pieces
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    merges = recover_merges(pieces)
    assert [a + b for a, b in merges] == list(pieces[256:])
    for rank, (piece, merge) in enumerate(zip(pieces[256:], merges, strict=True), 256):
        assert merge == merge_by_rescanning(piece, rank, ranks) or len(piece) == 2


@pytest.mark.parametrize("unit", [" ", "a", "-", "ab", "\n", "7", "中"])
def test_long_tokens_cost_little_more_than_their_length(unit: str) -> None:
    """A page of 10,000 blanks took 25 s to save, and again at the first encoding of every
    command.
    """
    text = unit * (10_000 // len(unit)) + "x"
    with warnings.catch_warnings(action="ignore"):
        tokenizer = train_tokenizer(iter([text]), TokenizerConfig(600))
    begin = time.process_time()
    recover_merges(tokenizer.pieces)
    ids = tokenizer.encode(text)
    assert time.process_time() - begin < 3  # about 0.15 s alone
    assert tokenizer.decode(ids) == text


def test_fallback_when_fastokens_does_not_load(
    tokenizer: Tokenizer, corpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", None)  # importing it raises ImportError
    alone = Tokenizer(tokenizer.pieces, tokenizer.digits)
    with pytest.warns(UserWarning, match="tiktoken"):
        assert [alone.encode(text) for text in corpus] == [
            tokenizer.encode(text) for text in corpus
        ]
    with pytest.raises(ImportError):
        Tokenizer(tokenizer.pieces, tokenizer.digits, backend="fastokens").encode("a")
