"""The tokenizer: byte-level BPE with nine special tokens that no text can spell. fastokens encodes,
tiktoken stands in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from safetensors.numpy import save

from chatling.errors import DataError
from chatling.run_dir import (
    building_folder,
    manifest_fault,
    read_json,
    read_plain,
    write_atomic,
    write_json,
)
from chatling.tokenizer.hf_format import split_pattern, tokenizer_config, tokenizer_json

SPECIAL_TOKENS = (
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
)
# it takes len(token)² steps a token to load, 0.2 s for these; tokens of thousands of blanks take
# minutes
FASTOKENS_STEPS = 10_000_000
Backend = Literal["fastokens", "tiktoken"]
RANKS, META = "ranks.tiktoken", "meta.json"
MOST_DIGITS = 3  # of a token


def valid_text(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates, which UTF-8 cannot hold, replaced by
    U+FFFD.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Encoder(Protocol):
    """What encodes ordinary text; specials do not exist for it. Raises UnicodeEncodeError on lone
    surrogates.
    """

    def encode(self, text: str) -> list[int]: ...

    def encode_flat(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]: ...


class FastokensEncoder:
    """fastokens over our own tokenizer.json without its added tokens; batches are encoded on all
    cores.
    """

    def __init__(self, pieces: Sequence[bytes], digits: int):
        import fastokens

        self._native = fastokens.Tokenizer.from_json_str(
            tokenizer_json(pieces, digits, specials=())
        )

    def encode(self, text: str) -> list[int]:
        try:
            ids: list[int] = self._native.encode_ordinary(text).ids
        except UnicodeEncodeError:
            raise
        except ValueError:  # PCRE2's match limit: some ten million spaces in a row
            return _encode_halves(self, text)
        return ids

    def encode_flat(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        try:
            ids, offsets = self._native.encode_batch_flat(texts, split_special_tokens=True)
        except UnicodeEncodeError:
            raise
        except ValueError:
            return _flat([self.encode(text) for text in texts])
        return np.frombuffer(ids, "<u4"), np.frombuffer(offsets, "<u8").astype(np.int64)


class TiktokenEncoder:
    """tiktoken over the same ranks: the reference for tests, and the fallback where fastokens does
    not load.
    """

    def __init__(self, pieces: Sequence[bytes], digits: int):
        import tiktoken

        ranks = {piece: rank for rank, piece in enumerate(pieces)}
        self._native = tiktoken.Encoding(
            "chatling", pat_str=split_pattern(digits), mergeable_ranks=ranks, special_tokens={}
        )

    def encode(self, text: str) -> list[int]:
        text.encode()  # tiktoken would repair surrogates in a way of its own
        try:
            return self._native.encode_ordinary(text)
        except BaseException as error:
            # its regex's stack overflow: a million spaces in a row
            if type(error).__name__ != "PanicException":
                raise
            return _encode_halves(self, text)

    def encode_flat(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        # a task a text would cost more than a short text
        blocks = [texts[i : i + 64] for i in range(0, len(texts), 64)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return _flat(
                [
                    row
                    for block in pool.map(
                        lambda block: [self.encode(text) for text in block], blocks
                    )
                    for row in block
                ]
            )


def _encode_halves(encoder: Encoder, text: str) -> list[int]:
    """For text that is too much for a regex engine: nothing is lost, though the tokens at the cut
    may be others.
    """
    if len(text) < 2:
        raise DataError(f"The tokenizer cannot encode {text!r}.")
    middle = len(text) // 2
    return encoder.encode(text[:middle]) + encoder.encode(text[middle:])


def _flat(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Token rows end to end, uint32 (N,), and their offsets, int64 (rows + 1,)."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return np.fromiter(chain.from_iterable(rows), np.uint32, count=int(offsets[-1])), offsets


class Tokenizer:
    """Byte-level BPE over `pieces` (the bytes of each token by rank: 256 single bytes, then
    merges), then nine specials.

    `bos`, `user_start`, … are the specials' ids, `vocab_size - 9` to `vocab_size - 1` in the order
    of SPECIAL_TOKENS. `token_bytes` is (V,) int32, the bytes each token stands for; specials 0.
    `fingerprint` is a sha256 of all that decides the ids. Raises DataError when `pieces` do not
    hold every byte, or repeat one.
    """

    def __init__(self, pieces: Sequence[bytes], digits: int, backend: Backend | None = None):
        if sorted(pieces[:256]) != [bytes([byte]) for byte in range(256)]:
            raise DataError("The tokenizer's first 256 tokens are not the 256 bytes.")
        if len(set(pieces)) != len(pieces) or not all(pieces):
            raise DataError("The tokenizer's ranks hold a token twice, or an empty one.")
        self.pieces, self.digits = tuple(pieces), digits
        self.vocab_size = len(pieces) + len(SPECIAL_TOKENS)
        (
            self.bos,
            self.user_start,
            self.user_end,
            self.assistant_start,
            self.assistant_end,
            self.python_start,
            self.python_end,
            self.output_start,
            self.output_end,
        ) = self.specials = range(len(pieces), self.vocab_size)
        self.token_bytes = np.array(
            [len(piece) for piece in pieces] + [0] * len(SPECIAL_TOKENS), np.int32
        )
        self._backend = backend
        self._decoder = [*self.pieces, *(text.encode() for text in SPECIAL_TOKENS)]

    @cached_property
    def fingerprint(self) -> str:
        parts = [
            split_pattern(self.digits).encode(),
            *(text.encode() for text in SPECIAL_TOKENS),
            *self.pieces,
        ]
        return hashlib.sha256(
            b"".join(len(part).to_bytes(4, "little") + part for part in parts)
        ).hexdigest()

    @cached_property
    def encoder(self) -> Encoder:
        """Built at the first use: it takes most of a second at 65,536 tokens, and decoding does not
        need it.
        """
        slow = sum(len(piece) ** 2 for piece in self.pieces) > FASTOKENS_STEPS
        if self._backend == "tiktoken" or (slow and self._backend is None):
            return TiktokenEncoder(self.pieces, self.digits)
        try:
            return FastokensEncoder(self.pieces, self.digits)
        except (ImportError, OSError, ValueError, RuntimeError) as error:
            if self._backend == "fastokens":
                raise
            warnings.warn(
                f"fastokens does not load here ({error}); encoding with tiktoken, several times"
                " slower.",
                stacklevel=2,
            )
            return TiktokenEncoder(self.pieces, self.digits)

    def encode(self, text: str) -> list[int]:
        """Token ids of ordinary text; never a special token, whatever the text spells. Lone
        surrogates become U+FFFD.
        """
        try:
            return self.encoder.encode(text)
        except UnicodeEncodeError:
            return self.encoder.encode(valid_text(text))

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Many texts at once, in parallel: ids uint32 (N,) end to end, and offsets int64
        (len(texts) + 1,) into them.
        """
        texts = list(texts)
        try:
            return self.encoder.encode_flat(texts)
        except UnicodeEncodeError:
            return self.encoder.encode_flat([valid_text(text) for text in texts])

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; specials as they are written, bytes that are not UTF-8 as U+FFFD."""
        return b"".join([self._decoder[i] for i in ids]).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Raw bytes of the ids; specials contribute nothing."""
        return b"".join([self.pieces[i] for i in ids if i < self.bos])

    def save(self, folder: Path) -> None:
        """Write the tokenizer folder with its manifest: our ranks, and the files that
        `transformers` loads as they are.
        """
        with building_folder(folder) as building:
            lines = [
                base64.b64encode(piece) + b" %d\n" % rank for rank, piece in enumerate(self.pieces)
            ]
            write_atomic(building / RANKS, b"".join(lines))
            write_atomic(
                building / "tokenizer.json",
                tokenizer_json(self.pieces, self.digits, SPECIAL_TOKENS),
            )
            config = tokenizer_config(bos="<|bos|>", end="<|assistant_end|>")
            write_json(building / "tokenizer_config.json", config)
            write_atomic(
                building / "token_bytes.safetensors", save({"token_bytes": self.token_bytes})
            )
            meta = {
                "vocab_size": self.vocab_size,
                "digits": self.digits,
                "specials": SPECIAL_TOKENS,
                "fingerprint": self.fingerprint,
            }
            write_json(building / META, meta)

    @staticmethod
    def load(folder: Path, backend: Backend | None = None) -> Tokenizer:
        """Read what `save` wrote. Raises DataError naming the file that is missing or damaged."""
        if not folder.is_dir():
            raise DataError(
                f"There is no tokenizer at {folder}.",
                "Train one first: it is the first stage of `chatling run`.",
            )
        hint = "Delete the folder and run again; the tokenizer is trained again."
        if fault := manifest_fault(folder, required=(RANKS, META)):
            raise DataError(f"The tokenizer in {folder} is damaged: {fault}.", hint)
        try:
            meta = read_json(folder / META)
            if (
                not isinstance(meta, dict)
                or type(meta.get("digits")) is not int
                or not 1 <= meta["digits"] <= MOST_DIGITS
            ):
                raise DataError("it does not say how many digits make a token.")
            pieces = [
                base64.b64decode(line.split()[0], validate=True)
                for line in read_plain(folder / RANKS).splitlines()
            ]
            tokenizer = Tokenizer(pieces, meta["digits"], backend)
            said = {
                "vocab_size": tokenizer.vocab_size,
                "specials": list(SPECIAL_TOKENS),
                "fingerprint": tokenizer.fingerprint,
            }
            if odd := next((key for key, value in said.items() if meta.get(key) != value), None):
                raise DataError(f"its {odd} is not that of the ranks.")
        except (DataError, OSError, LookupError, TypeError, binascii.Error) as error:
            raise DataError(
                f"The tokenizer in {folder} is damaged: {RANKS} or {META} cannot be used: {error}",
                hint,
            ) from error
        return tokenizer
