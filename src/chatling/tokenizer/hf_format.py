"""The files other tools read: `tokenizer.json` (tokenizers, transformers, vLLM) and
`tokenizer_config.json`.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from chatling.errors import DataError

# White_Space spelled out: PCRE2's \s also takes U+180E, which tiktoken and tokenizers call
# punctuation.
_SPACE = r"\t-\r \x{85}\p{Z}"


def split_pattern(digits: int) -> str:
    """GPT-4-style pre-tokenization with digits in runs of at most `digits`; merges never cross its
    pieces.

    Contractions | a word with one leading non-letter | digits | punctuation with its newlines |
    newlines | spaces. One spelling that rustbpe, tiktoken (fancy-regex), fastokens (PCRE2) and
    tokenizers (Oniguruma) read alike.
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


def pattern_digits(pattern: object) -> int | None:
    """The digits of a token of the tokenizer that splits so, spelled as here or as nanochat spells
    it; None for another one.
    """
    for digits in (1, 2, 3):
        spelled = split_pattern(digits)
        theirs = spelled.replace(f"^{_SPACE}", r"^\s").replace(f"[{_SPACE}]", r"\s")
        if pattern in (spelled, theirs.replace(r"[^\s]", r"\S")):
            return digits
    return None


@functools.cache
def byte_alphabet() -> list[str]:
    """A printable character for each byte, as GPT-2 chose them: tokenizer.json holds text, and
    tokens are bytes.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }
    return [characters[byte] for byte in range(256)]


def printable(piece: bytes) -> str:
    """A token as these files write it."""
    alphabet = byte_alphabet()
    return "".join(alphabet[byte] for byte in piece)


def recover_merges(pieces: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The pair that each token was merged from, in rank order. `pieces` are the tokens by rank,
    single bytes first.

    Within a token only earlier merges apply, so byte-pair encoding its bytes with the earlier ranks
    leaves exactly the pair. Raises DataError when it does not: then these are not the ranks of a
    byte-pair encoding.
    """
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    heads, tails = _prefix_ranks(pieces), _prefix_ranks([piece[::-1] for piece in pieces])
    merges = []
    for rank, piece in enumerate(pieces):
        size = len(piece)
        if size == 1:
            continue
        ends = {size - len(pieces[tail]) for tail in _chain(tails, rank)}
        cuts = [len(pieces[head]) for head in _chain(heads, rank) if len(pieces[head]) in ends]
        # Most tokens split in one way only; the others are replayed.
        parts = (
            (piece[: cuts[0]], piece[cuts[0] :]) if len(cuts) == 1 else _replay(piece, rank, ranks)
        )
        if len(parts) != 2:
            raise DataError(
                f"Token {rank} ({piece!r}) of the tokenizer is not a merge of two earlier tokens."
            )
        merges.append((parts[0], parts[1]))
    return merges


def _prefix_ranks(pieces: Sequence[bytes]) -> list[int]:
    """For each piece the index of the longest other one that it begins with, or -1: in sorted order
    all its prefixes stand before it.
    """
    longest, open_prefixes = [-1] * len(pieces), list[int]()
    for rank in sorted(range(len(pieces)), key=pieces.__getitem__):
        while open_prefixes and not pieces[rank].startswith(pieces[open_prefixes[-1]]):
            open_prefixes.pop()
        if open_prefixes:
            longest[rank] = open_prefixes[-1]
        open_prefixes.append(rank)
    return longest


def _chain(longest: Sequence[int], rank: int) -> Iterator[int]:
    """The earlier tokens that the token begins with, the longest first."""
    at = longest[rank]
    while at >= 0:
        if at < rank:
            yield at
        at = longest[at]


def _replay(piece: bytes, rank: int, ranks: Mapping[bytes, int]) -> tuple[bytes, ...]:
    """Merge the pair of lowest rank, of equal ones the leftmost, until two parts are left or no
    pair is a token below `rank`.

    Parts are linked by where they begin and pairs wait in a heap, so that a token of n bytes takes
    n log n steps.
    """
    size = len(piece)
    # of the part that begins at i: its end, and the begin of the one before
    ends, begins = (list(range(1, size + 1)), list(range(-1, size)))
    waiting: list[tuple[int, int, int]] = []  # rank of a pair, its begin and end

    def consider(begin: int) -> None:
        middle = ends[begin]
        if middle < size and (found := ranks.get(piece[begin : ends[middle]], rank)) < rank:
            heappush(waiting, (found, begin, ends[middle]))

    for begin in range(size):
        consider(begin)
    parts = size
    while parts > 2 and waiting:
        _, begin, end = heappop(waiting)
        middle = ends[begin]
        if middle <= begin or middle >= size or ends[middle] != end:
            continue  # one of its parts has been merged since
        ends[begin], ends[middle] = end, -1
        if end < size:
            begins[end] = begin
        parts -= 1
        consider(begin)
        if begin:
            consider(begins[begin])
    found, begin = [], 0
    while begin < size:
        found.append(piece[begin : ends[begin]])
        begin = ends[begin]
    return tuple(found)


def tokenizer_json(pieces: Sequence[bytes], digits: int, specials: Sequence[str]) -> str:
    """The whole of `tokenizer.json`. `specials` take the ids after `pieces`; without them no text
    can become one.
    """
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": split_pattern(digits)},
        "behavior": "Isolated",
        "invert": False,
    }
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": len(pieces) + i, "content": text, **plain, "special": True}
        for i, text in enumerate(specials)
    ]
    return json.dumps(
        {
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
                "merges": [
                    [printable(left), printable(right)] for left, right in recover_merges(pieces)
                ],
            },
        },
        ensure_ascii=False,
    )


def read_tokenizer_json(found: Any) -> tuple[list[bytes], int]:
    """The inverse of `tokenizer_json`, of its parsed JSON: the pieces, and the digits of a token.

    Raises DataError for a tokenizer that splits text in another way.
    """
    back = {character: byte for byte, character in enumerate(byte_alphabet())}
    try:
        splits = found["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
        vocab, added = (
            found["model"]["vocab"],
            {token["content"] for token in found["added_tokens"]},
        )
        ids = {text: rank for text, rank in vocab.items() if text not in added}
        merges = [
            tuple(m.split(" ") if isinstance(m, str) else m) for m in found["model"]["merges"]
        ]
        pieces = [
            bytes(back[letter] for letter in text) for text in sorted(ids, key=ids.__getitem__)
        ]
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError(f"tokenizer.json is not of a byte-level BPE ({error!r}).") from None
    digits = pattern_digits(splits)
    if digits is None:
        raise DataError("tokenizer.json splits text in another way than chatling's tokenizers.")
    if merges != [tuple(map(printable, pair)) for pair in recover_merges(pieces)]:
        raise DataError("tokenizer.json has merges that are not those of its vocabulary.")
    return pieces, digits


def tokenizer_config(bos: str, end: str) -> dict[str, Any]:
    """`tokenizer_config.json`: what transformers needs beside `tokenizer.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": end,
        "pad_token": end,
        "clean_up_tokenization_spaces": False,
        "chat_template": chat_template(),
    }


def chat_template() -> str:
    """The rendering of `chat_template.py` in Jinja (with `add_generation_prompt` that of a prompt),
    for transformers, vLLM and the like.

    Takes content as a string or as a list of `{"type", "text"}` parts. Equal token for token for
    text that spells no special token; Jinja cannot tell such text from the tokens themselves. Line
    ends and indentation are taken out, so that only what stands in {{ }} is printed.
    """
    template = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
    return "".join(line.strip() for line in template.splitlines())
