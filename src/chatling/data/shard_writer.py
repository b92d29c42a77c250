"""Token shards written from texts and conversations, so that a kill costs at most one shard."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from chatling.data.parquet import CorpusCounts, iter_texts
from chatling.data.shard_files import (
    CORPUS,
    MASK,
    META,
    OFFSETS,
    TOKENS,
    ShardList,
    ShardMeta,
    digest,
    file_fingerprint,
    id_type,
)
from chatling.data.token_shards import Indexed, TokenShards
from chatling.run_dir import MANIFEST, building_folder, disk_errors, write_json

# texts encoded at a time: enough to keep all cores busy, little memory
BLOCK_CHARACTERS = 4_000_000
CONVERSATIONS_PER_SHARD = 50_000
Progress = Callable[[int, int], None]
Note = Callable[[str], None]


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


class ShardWriter:
    """The open files of the shard being written."""

    def __init__(self, tokens: IO[bytes], mask: IO[bytes] | None, vocab_size: int):
        self.tokens, self.mask, self.vocab_size = tokens, mask, vocab_size
        self.lengths: list[np.ndarray] = [np.zeros(1, np.int64)]

    def add(self, ids: np.ndarray, lengths: np.ndarray, mask: np.ndarray | None = None) -> None:
        if ids.size and int(ids.max()) >= self.vocab_size:
            raise ValueError(
                f"token id {int(ids.max())} is outside the vocabulary of {self.vocab_size}"
            )
        self.tokens.write(ids.astype(id_type(self.vocab_size)).tobytes())
        self.lengths.append(lengths)
        if self.mask is not None and mask is not None:
            self.mask.write(mask.astype(np.uint8).tobytes())


Fill = Callable[[int, ShardWriter], CorpusCounts]  # adds the documents of a shard


def _write_corpus(
    corpus: ShardList, fill: Fill, progress: Progress | None, note: Note | None
) -> TokenShards:
    """Write the shards that are not there yet, then corpus.json."""
    # of a large finished corpus, the tokens are left to whoever reads them, so that 20 GB open at
    # once
    finished = corpus.is_finished
    later = corpus.checked_later if finished else ()
    wrote = _write_missing(
        corpus, fill, len(corpus.fingerprints), finished, later, progress=progress, note=note
    )
    if wrote or not finished:
        write_json(corpus.folder / CORPUS, corpus.index())
    return TokenShards.open(corpus.folder, checksums=bool(later))


def _write_missing(
    corpus: ShardList,
    fill: Fill,
    count: int,
    finished: bool = False,
    later: Sequence[str] = (),
    *,
    progress: Progress | None = None,
    note: Note | None = None,
) -> bool:
    """Write those of the first `count` shards that are not there, or not whole, which `note` hears
    of; returns whether there were any. Before that, a corpus stops being finished.
    """
    shards = corpus.shards
    found = {i: corpus.fault(i, True, later) for i in range(count)}
    faults = {i: fault for i, fault in found.items() if fault}
    for i, fault in faults.items():
        if note and (shards[i] / MANIFEST).exists():
            note(f"A token shard is written again: {fault}.")
    if faults or not finished:
        with disk_errors(corpus.folder):
            corpus.folder.mkdir(parents=True, exist_ok=True)
            (corpus.folder / CORPUS).unlink(missing_ok=True)
            for path in corpus.folder.iterdir():
                if path not in shards and path.name.startswith(("shard_", ".shard_")):
                    shutil.rmtree(path)
    for i in range(count):
        if progress:
            progress(i, count)
        if i in faults:
            _write_shard(corpus, i, fill)
    if progress:
        progress(count, count)
    return bool(faults)


def _write_shard(corpus: ShardList, i: int, fill: Fill) -> None:
    with building_folder(corpus.shards[i]) as shard:
        with ExitStack() as stack:
            tokens = stack.enter_context(open(shard / TOKENS, "wb"))
            mask = stack.enter_context(open(shard / MASK, "wb")) if corpus.masked else None
            files = ShardWriter(tokens, mask, corpus.vocab_size)
            counts = fill(i, files)
        offsets = np.cumsum(np.concatenate(files.lengths))
        (shard / OFFSETS).write_bytes(offsets.astype("<i8").tobytes())
        meta = ShardMeta(corpus.fingerprints[i], int(offsets[-1]), len(offsets) - 1, counts)
        write_json(shard / META, asdict(meta))


def text_shards(
    folder: Path,
    files: Sequence[Path],
    tokenizer: TextTokenizer,
    column: str,
    marks: Sequence[str] | None = None,
) -> ShardList:
    """The shards of some parquet files, one a file. `marks` tell the files from others; else their
    sizes and ends do.
    """
    marks = marks or [file_fingerprint(file) for file in files]
    fingerprints = [digest(tokenizer.fingerprint, column, mark) for mark in marks]
    return ShardList(folder, tokenizer.vocab_size, False, fingerprints)


def write_token_shards(
    folder: Path,
    files: Sequence[Path],
    tokenizer: TextTokenizer,
    *,
    column: str = "text",
    marks: Sequence[str] | None = None,
    note: Note | None = None,
) -> TokenShards:
    """Tokenise parquet files into `folder`, one shard a file, and open it; valid shards of an
    earlier, interrupted call are kept.

    `marks` as of `text_shards`. Files of shards that are there are not looked at, so that `files`
    may be a sequence that fetches. `note` hears of damaged shards that are written again. Raises
    DataError for unreadable files, a missing column or an empty corpus.
    """
    corpus = text_shards(folder, files, tokenizer, column, marks)
    return _write_corpus(corpus, partial(_add_texts, files, tokenizer, column), None, note)


def write_first_shards(
    corpus: ShardList,
    files: Sequence[Path],
    tokenizer: TextTokenizer,
    column: str,
    count: int,
    note: Note | None = None,
) -> None:
    """The first `count` shards of what `write_token_shards` would write, without the index that
    makes it a finished corpus.
    """
    _write_missing(corpus, partial(_add_texts, files, tokenizer, column), count, note=note)


def _add_texts(
    files: Sequence[Path], tokenizer: TextTokenizer, column: str, i: int, shard: ShardWriter
) -> CorpusCounts:
    counts = CorpusCounts()
    for texts in _blocks(iter_texts([files[i]], column, counts)):
        ids, offsets = tokenizer.encode_flat(texts)
        shard.add(ids, np.diff(offsets))
    return counts


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
    each is left out. `progress(done, total)` counts shards, `note` hears of damaged ones that are
    written again.
    """
    total = len(rendered)

    def fill(i: int, shard: ShardWriter) -> CorpusCounts:
        begin, end = i * CONVERSATIONS_PER_SHARD, min(total, (i + 1) * CONVERSATIONS_PER_SHARD)
        for index in range(begin, end):
            item = rendered[index]
            ids, mask = np.asarray(item.ids[1:], np.int64), np.asarray(item.mask[1:], np.uint8)
            if len(ids) != len(mask) or not len(ids):
                raise ValueError(
                    f"conversation {index} has {len(item.ids)} ids and {len(item.mask)} mask"
                    " entries"
                )
            shard.add(ids, np.array([len(ids)]), mask)
        return CorpusCounts(documents=end - begin)

    shards = range(-(-total // CONVERSATIONS_PER_SHARD))
    fingerprints = [digest(fingerprint, vocab_size, total, i) for i in shards]
    return _write_corpus(ShardList(folder, vocab_size, True, fingerprints), fill, progress, note)
