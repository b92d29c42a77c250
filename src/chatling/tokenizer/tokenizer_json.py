"""The files other tools read: `tokenizer.json` (tokenizers, transformers, vLLM) and `tokenizer_config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from chatling.errors import DataError

# White_Space spelled out: PCRE2's \s also takes U+180E, which tiktoken and tokenizers call punctuation.
_SPACE = r"\t-\r \x{85}\p{Z}"


def split_pattern(digits: int) -> str:
    """GPT-4-style pre-tokenization with digits in runs of at most `digits`; merges never cross its pieces.

    Contractions | a word with one leading non-letter | digits | punctuation with its newlines | newlines | spaces. One
    spelling that rustbpe, tiktoken (fancy-regex), fastokens (PCRE2) and tokenizers (Oniguruma) read alike.
    """
    return (
        r"'(?i:[sdmt]|ll|ve|re)"
        r"|[^\r\n\p{L}\p{N}]?+\p{L}+"
        rf"|\p{{N}}{{1,{digits}}}"
        rf"| ?[^{_SPACE}\p{{L}}\p{{N}}]++[\r\n]*"
        rf"|[{_SPACE}]*[\r\n]"
        rf"|[{_SPACE}]+(?![^{_SPACE}])"
        rf"|[{_SPACE}]+"
    )


def byte_alphabet() -> list[str]:
    """A printable character for each byte, as GPT-2 chose them: tokenizer.json holds text, and tokens are bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [characters[byte] for byte in range(256)]


def recover_merges(pieces: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The pair that each token was merged from, in rank order. `pieces` are the tokens by rank, single bytes first.

    Within a token only earlier merges apply, so byte-pair encoding its bytes with the earlier ranks leaves exactly the
    pair. Raises DataError when it does not: then these are not the ranks of a byte-pair encoding.
    """
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    merges = []
    for rank, piece in enumerate(pieces):
        if len(piece) == 1:
            continue
        splits = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        pairs = [pair for pair in splits if ranks.get(pair[0], rank) < rank and ranks.get(pair[1], rank) < rank]
        # Most tokens split in one way only; the others are replayed.
        parts = pairs[0] if len(pairs) == 1 else _replay(piece, rank, ranks)
        if len(parts) != 2:
            raise DataError(f"Token {rank} ({piece!r}) of the tokenizer is not a merge of two earlier tokens.")
        merges.append((parts[0], parts[1]))
    return merges


def _replay(piece: bytes, rank: int, ranks: Mapping[bytes, int]) -> tuple[bytes, ...]:
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 2:
        joined = [ranks.get(parts[i] + parts[i + 1], rank) for i in range(len(parts) - 1)]
        best = min(range(len(joined)), key=joined.__getitem__)
        if joined[best] >= rank:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return tuple(parts)


def tokenizer_json(pieces: Sequence[bytes], digits: int, specials: Sequence[str]) -> str:
    """The whole of `tokenizer.json`. `specials` take the ids after `pieces`; without them no text can become one."""
    alphabet = byte_alphabet()

    def printable(piece: bytes) -> str:
        return "".join(alphabet[byte] for byte in piece)

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": split_pattern(digits)}, "behavior": "Isolated", "invert": False}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": len(pieces) + i, "content": text, **plain, "special": True} for i, text in enumerate(specials)]
    return json.dumps({
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {printable(piece): rank for rank, piece in enumerate(pieces)},
            "merges": [[printable(left), printable(right)] for left, right in recover_merges(pieces)],
        },
    }, ensure_ascii=False)  # fmt: skip


def tokenizer_config(bos: str, end: str, chat_template: str) -> dict[str, Any]:
    """`tokenizer_config.json`: what transformers needs beside `tokenizer.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": end,
        "pad_token": end,
        "clean_up_tokenization_spaces": False,
        "chat_template": chat_template,
    }
