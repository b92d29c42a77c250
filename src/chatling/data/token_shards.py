"""A corpus tokenised once: memory-mapped shards of token ids with document offsets, written so that
a kill costs at most one shard.

    corpus.json     written last: fingerprint, vocab_size, tokens, documents, what was replaced and
    dropped, the shards in order
    shard_00000/    tokens.bin (uint16, or uint32 above 65,536 tokens), offsets.bin (int64,
    documents + 1), meta.json, manifest.json;
                    shards of conversations also hold mask.bin (uint8, 1 where the token is
                    trained on)

Documents are stored without `<|bos|>`; packing and batching put it in front.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from chatling.data.parquet import CorpusCounts, iter_texts
from chatling.data.shard_files import (
    AT_ONCE,
    LARGE,
    META,
    WRITTEN_AGAIN,
    ShardChecks,
    ShardWriter,
    damaged,
    index_fields,
    map_shard,
    read_meta,
    shard_bytes,
    shard_fault,
)
from chatling.errors import DataError
from chatling.run_dir import MANIFEST, building_folder, disk_errors, read_json, write_json

CORPUS = "corpus.json"
FORMAT = 1  # part of every fingerprint: a change of layout writes shards again
BLOCK_CHARACTERS = (
    4_000_000  # texts encoded at a time: enough to keep all cores busy, little memory
)
CONVERSATIONS_PER_SHARD = 50_000
Item = TypeVar("Item", covariant=True)
Progress = Callable[[int, int], None]
Note = Callable[[str], None]


class Indexed(Protocol[Item]):
    """Anything with a length and items by index: a list, a task, a mixture."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Item: ...


class TextTokenizer(Protocol):
    """What writing shards needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]: ...


class MaskedTokens(Protocol):
    """A rendered conversation: `ids` begin with bos, `mask` is true where a token is trained on."""

    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def mask(self) -> Sequence[bool]: ...


class TokenShards:
    """Documents as token ids, in memory or memory-mapped. Positions count the tokens of the whole
    corpus in order.
    """

    def __init__(
        self,
        parts: Sequence[np.ndarray],
        offsets: np.ndarray,
        vocab_size: int,
        masks: Sequence[np.ndarray] | None = None,
        fingerprint: str = "",
        counts: CorpusCounts | None = None,
        checks: ShardChecks | None = None,
    ):
        """`parts` are each shard's ids; document i is at positions `offsets[i]` to `offsets[i + 1]`
        and never crosses a shard. With `checks`, no shard is read before it has passed them.
        """
        self._checks = checks
        self._parts, self._masks = list(parts), None if masks is None else list(masks)
        self._begins = [
            0,
            *np.cumsum([len(part) for part in parts]).tolist(),
        ]  # shard -> its first position
        self.offsets, self.vocab_size, self.fingerprint, self.counts = (
            offsets,
            vocab_size,
            fingerprint,
            counts or CorpusCounts(),
        )
        self.lengths: np.ndarray = np.diff(offsets)

    @property
    def tokens(self) -> int:
        return int(self.offsets[-1])

    @property
    def documents(self) -> int:
        return len(self.lengths)

    @property
    def has_mask(self) -> bool:
        return self._masks is not None

    def read(self, position: int, count: int) -> np.ndarray:
        """`count` token ids from a position on, within one document; a view. Raises DataError when
        the shard is damaged.
        """
        shard = bisect.bisect_right(self._begins, position) - 1
        if self._checks is not None:
            self._checks.need(shard)
        begin = position - self._begins[shard]
        return self._parts[shard][begin : begin + count]

    def document(self, i: int) -> np.ndarray:
        """The token ids of document i, without bos; a view."""
        return self.read(int(self.offsets[i]), int(self.lengths[i]))

    def mask(self, i: int) -> np.ndarray | None:
        """uint8 of document i's length, 1 where the token is learnt; None for plain text."""
        if self._masks is None:
            return None
        shard = bisect.bisect_right(self._begins, int(self.offsets[i])) - 1
        if self._checks is not None:
            self._checks.need(shard)
        begin = int(self.offsets[i]) - self._begins[shard]
        return self._masks[shard][begin : begin + int(self.lengths[i])]

    def available(self, documents: int) -> int:
        """How many of the first `documents` documents there are. Of a corpus that is still being
        written, waits until that is known.
        """
        return min(documents, self.documents)

    def require(self, positions: Iterable[int]) -> None:
        """Wait until the shards of these positions have passed their checks, so that others may
        read them, too. Raises DataError.
        """
        if self._checks is None:
            return
        for shard in sorted(
            {bisect.bisect_right(self._begins, position) - 1 for position in positions}
        ):
            self._checks.need(shard)
        if self._checks.passed:
            self._checks = None

    def require_all(self) -> None:
        """Wait until every shard has passed its checks. Raises DataError."""
        if self._checks is not None:
            for shard in range(len(self._parts)):
                self._checks.need(shard)
        self._checks = None

    @staticmethod
    def open(folder: Path, checksums: bool = True) -> TokenShards:
        """Map a finished folder. DataError names what is missing or damaged.

        Sizes and structure are always checked. Checksums are compared here, except those of large
        corpora's tokens: they are compared in the background, and no shard is read before it has
        passed. Without `checksums`, another process of this machine does it.
        """
        if not (folder / CORPUS).exists():
            raise DataError(
                f"There are no finished token shards at {folder}.", WRITTEN_AGAIN.format(folder)
            )
        corpus = index_fields(read_json(folder / CORPUS), folder)
        names, vocab_size, masked = (
            shard_names(len(corpus["fingerprints"])),
            corpus["vocab_size"],
            corpus["masked"],
        )
        later = _checked_later(folder, names)
        parts, masks, offsets, total = [], [], [np.zeros(1, np.int64)], 0
        for name, fingerprint in zip(names, corpus["fingerprints"], strict=True):
            fault = shard_fault(folder / name, fingerprint, checksums, masked=masked, later=LARGE)
            if fault:
                raise damaged(folder / name, fault)
            part, ends, mask = map_shard(folder / name, vocab_size, masked)
            parts.append(part)
            if mask is not None:
                masks.append(mask)
            offsets.append(ends[1:] + total)
            total += len(part)
        if corpus != _index(folder, corpus["fingerprints"], names, vocab_size, masked):
            raise DataError(
                f"{folder / CORPUS} does not agree with the shards beside it.",
                WRITTEN_AGAIN.format(folder / CORPUS),
            )
        checks = ShardChecks([folder / name for name in names], vocab_size) if checksums else None
        shards = TokenShards(
            parts,
            np.concatenate(offsets),
            vocab_size,
            masks if masked else None,
            corpus["fingerprint"],
            CorpusCounts(**corpus["counts"]),
            checks,
        )
        if checks is not None and later:
            checks.start()
        else:
            shards.require_all()
        return shards


def _checked_later(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The files whose checksums are compared in the background: none of a small corpus."""
    return LARGE if sum(shard_bytes(folder / name) for name in names) > AT_ONCE else ()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()


def file_fingerprint(path: Path) -> str:
    """Name, size, and a hash of the first and last 64 KB (where a parquet file keeps its index):
    quick, and copies stay equal.
    """
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            head = file.read(65_536)
            file.seek(max(0, size - 65_536))
            return _digest(path.name, size, hashlib.sha256(head + file.read()).hexdigest())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None


def _write_corpus(
    folder: Path,
    vocab_size: int,
    masked: bool,
    fingerprints: Sequence[str],
    fill: Callable[[int, ShardWriter], CorpusCounts],
    progress: Progress | None,
    note: Note | None,
) -> TokenShards:
    """Write the shards that are not there yet, then corpus.json. `fill(i, files)` adds the
    documents of shard i.
    """
    names = shard_names(len(fingerprints))
    # of a large finished corpus, the tokens are left to whoever reads them, so that 20 GB open at
    # once
    finished = is_finished(folder, vocab_size, masked, fingerprints)
    later = _checked_later(folder, names) if finished else ()
    wrote = _write_missing(
        folder,
        vocab_size,
        masked,
        fingerprints,
        fill,
        progress,
        range(len(names)),
        finished,
        later,
        note,
    )
    if wrote or not finished:
        write_json(folder / CORPUS, _index(folder, fingerprints, names, vocab_size, masked))
    return TokenShards.open(folder, checksums=bool(later))


def _write_missing(
    folder: Path,
    vocab_size: int,
    masked: bool,
    fingerprints: Sequence[str],
    fill: Callable[[int, ShardWriter], CorpusCounts],
    progress: Progress | None,
    which: range,
    finished: bool,
    later: Sequence[str],
    note: Note | None,
) -> bool:
    """Write those of the shards `which` that are not there, or not whole, which `note` hears of;
    returns whether there were any. Before that, a corpus stops being finished.
    """
    names = shard_names(len(fingerprints))
    faults = {
        i: fault
        for i in which
        if (
            fault := shard_fault(
                folder / names[i], fingerprints[i], True, masked=masked, later=later
            )
        )
    }
    for i, fault in faults.items():
        if note and (folder / names[i] / MANIFEST).exists():
            note(f"A token shard is written again: {fault}.")
    if faults or not finished:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CORPUS).unlink(missing_ok=True)
            for stale in folder.iterdir():
                if stale.name not in names and stale.name.startswith(("shard_", ".shard_")):
                    shutil.rmtree(stale)
    for done, i in enumerate(which):
        if progress:
            progress(done, len(which))
        if i in faults:
            _write_shard(folder / names[i], fingerprints[i], vocab_size, masked, partial(fill, i))
    if progress:
        progress(len(which), len(which))
    return bool(faults)


def shard_names(count: int) -> list[str]:
    return [f"shard_{i:05d}" for i in range(count)]


def is_finished(folder: Path, vocab_size: int, masked: bool, fingerprints: Sequence[str]) -> bool:
    """Whether a folder has the index of just these shards, and they are there."""
    try:
        found = index_fields(read_json(folder / CORPUS), folder)
        return found == _index(
            folder, fingerprints, shard_names(len(fingerprints)), vocab_size, masked
        )
    except DataError:
        return False


def _write_shard(
    path: Path,
    fingerprint: str,
    vocab_size: int,
    masked: bool,
    fill: Callable[[ShardWriter], CorpusCounts],
) -> None:
    with building_folder(path) as shard:
        with ExitStack() as stack:
            tokens = stack.enter_context(open(shard / "tokens.bin", "wb"))
            mask = stack.enter_context(open(shard / "mask.bin", "wb")) if masked else None
            files = ShardWriter(tokens, mask, vocab_size)
            counts = fill(files)
        offsets = np.cumsum(np.concatenate(files.lengths))
        (shard / "offsets.bin").write_bytes(offsets.astype("<i8").tobytes())
        write_json(
            shard / META,
            {
                "fingerprint": fingerprint,
                "tokens": int(offsets[-1]),
                "documents": len(offsets) - 1,
                "counts": asdict(counts),
            },
        )


def _index(
    folder: Path, fingerprints: Sequence[str], names: Sequence[str], vocab_size: int, masked: bool
) -> dict[str, Any]:
    """The content of corpus.json, which follows from the shards."""
    metas = [read_meta(folder / name) for name in names]
    documents = sum(meta.documents for meta in metas)
    if documents == 0:
        raise DataError(
            f"The corpus of {folder.name} is empty: no document with text.",
            "Check the files and the text column of [data].",
        )
    counts = {
        key: sum(getattr(meta.counts, key) for meta in metas) for key in asdict(CorpusCounts())
    }
    return {
        "fingerprint": _digest(vocab_size, masked, *fingerprints),
        "vocab_size": vocab_size,
        "masked": masked,
        "documents": documents,
        "tokens": sum(meta.tokens for meta in metas),
        "counts": counts,
        "shards": list(names),
        "fingerprints": list(fingerprints),
    }


def write_token_shards(
    folder: Path,
    files: Sequence[Path],
    tokenizer: TextTokenizer,
    *,
    column: str = "text",
    marks: Sequence[str] | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> TokenShards:
    """Tokenise parquet files into `folder`, one shard a file, and open it; valid shards of an
    earlier, interrupted call are kept.

    `marks` tell the files from others; else their sizes and ends do. Files of shards that are there
    are then not looked at, so that
    `files` may be a sequence that fetches. `progress(done, total)` counts files, `note` hears of
    damaged shards that are written again.
    Raises DataError for unreadable files, a missing column or an empty corpus.
    """
    fingerprints = text_fingerprints(files, tokenizer, column, marks)
    return _write_corpus(
        folder,
        tokenizer.vocab_size,
        False,
        fingerprints,
        _text_filler(files, tokenizer, column),
        progress,
        note,
    )


def write_first_shards(
    folder: Path,
    files: Sequence[Path],
    tokenizer: TextTokenizer,
    count: int,
    *,
    column: str = "text",
    marks: Sequence[str] | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> None:
    """The first `count` shards of what `write_token_shards` would write, without the index that
    makes it a finished corpus.
    """
    fingerprints = text_fingerprints(files, tokenizer, column, marks)
    fill = _text_filler(files, tokenizer, column)
    _write_missing(
        folder,
        tokenizer.vocab_size,
        False,
        fingerprints,
        fill,
        progress,
        range(count),
        False,
        (),
        note,
    )


def text_fingerprints(
    files: Sequence[Path], tokenizer: TextTokenizer, column: str, marks: Sequence[str] | None
) -> list[str]:
    """Of each file's shard."""
    return [
        _digest(tokenizer.fingerprint, column, mark)
        for mark in marks or [file_fingerprint(file) for file in files]
    ]


def _text_filler(
    files: Sequence[Path], tokenizer: TextTokenizer, column: str
) -> Callable[[int, ShardWriter], CorpusCounts]:
    def fill(i: int, shard: ShardWriter) -> CorpusCounts:
        counts = CorpusCounts()
        for texts in _blocks(iter_texts([files[i]], column, counts)):
            ids, offsets = tokenizer.encode_flat(texts)
            shard.add(ids, np.diff(offsets))
        return counts

    return fill


def _blocks(texts: Iterator[str]) -> Iterator[list[str]]:
    block: list[str] = []
    characters = 0
    for text in texts:
        block.append(text)
        characters += len(text)
        if characters >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def write_conversation_shards(
    folder: Path,
    rendered: Indexed[MaskedTokens],
    vocab_size: int,
    *,
    fingerprint: str,
    progress: Progress | None = None,
    note: Note | None = None,
) -> TokenShards:
    """Write rendered conversations with their masks, and open them; shards that are valid already
    are kept and not rendered again.

    `fingerprint` names what determines the content: tokenizer, data sets, seed. The leading bos of
    each is left out.
    `progress(done, total)` counts shards, `note` hears of damaged ones that are written again.
    """
    total = len(rendered)

    def fill(i: int, shard: ShardWriter) -> CorpusCounts:
        counts = CorpusCounts()
        for index in range(
            i * CONVERSATIONS_PER_SHARD, min(total, (i + 1) * CONVERSATIONS_PER_SHARD)
        ):
            item = rendered[index]
            ids, mask = np.asarray(item.ids[1:], np.int64), np.asarray(item.mask[1:], np.uint8)
            if len(ids) != len(mask) or not len(ids):
                raise ValueError(
                    f"conversation {index} has {len(item.ids)} ids and {len(item.mask)} mask"
                    " entries"
                )
            shard.add(ids, np.array([len(ids)]), mask)
            counts.documents += 1
        return counts

    shards = range(-(-total // CONVERSATIONS_PER_SHARD))
    return _write_corpus(
        folder,
        vocab_size,
        True,
        [_digest(fingerprint, vocab_size, total, i) for i in shards],
        fill,
        progress,
        note,
    )
