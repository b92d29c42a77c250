"""Token shards written from texts and conversations, so that a kill costs at most one shard."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

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
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import Rendered

# texts encoded at a time: enough to keep all cores busy, little memory
BLOCK_CHARACTERS = 4_000_000
CONVERSATIONS_PER_SHARD = 50_000
Progress = Callable[[int, int], None]
Note = Callable[[str], None]


# ids of some documents one after the other, the length of each, and their mask where there is one
Block = tuple[np.ndarray, np.ndarray, np.ndarray | None]
Fill = Callable[[int, CorpusCounts], Iterable[Block]]  # the documents of a shard; fills the counts


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
    counts, lengths = CorpusCounts(), [np.zeros(1, np.int64)]
    with building_folder(corpus.shards[i]) as shard:
        with ExitStack() as stack:
            files = {
                name: stack.enter_context(open(shard / name, "wb"))
                for name in ((TOKENS, MASK) if corpus.masked else (TOKENS,))
            }
            for ids, sizes, mask in fill(i, counts):
                if ids.size and int(ids.max()) >= corpus.vocab_size:
                    raise ValueError(
                        f"token id {int(ids.max())} is outside the vocabulary of"
                        f" {corpus.vocab_size}"
                    )
                files[TOKENS].write(ids.astype(id_type(corpus.vocab_size)).tobytes())
                lengths.append(sizes)
                if mask is not None:
                    files[MASK].write(mask.astype(np.uint8).tobytes())
        offsets = np.cumsum(np.concatenate(lengths))
        (shard / OFFSETS).write_bytes(offsets.astype("<i8").tobytes())
        meta = ShardMeta(corpus.fingerprints[i], int(offsets[-1]), len(offsets) - 1, counts)
        write_json(shard / META, asdict(meta))


def text_shards(
    folder: Path,
    files: Sequence[Path],
    tokenizer: Tokenizer,
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
    tokenizer: Tokenizer,
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
    return _write_corpus(corpus, partial(_text_blocks, files, tokenizer, column), None, note)


def write_first_shards(
    corpus: ShardList,
    files: Sequence[Path],
    tokenizer: Tokenizer,
    column: str,
    count: int,
    note: Note | None = None,
) -> None:
    """The first `count` shards of what `write_token_shards` would write, without the index that
    makes it a finished corpus.
    """
    _write_missing(corpus, partial(_text_blocks, files, tokenizer, column), count, note=note)


def _text_blocks(
    files: Sequence[Path], tokenizer: Tokenizer, column: str, i: int, counts: CorpusCounts
) -> Iterator[Block]:
    for texts in _blocks(iter_texts([files[i]], column, counts)):
        ids, offsets = tokenizer.encode_flat(texts)
        yield ids, np.diff(offsets), None


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
    rendered: Indexed[Rendered],
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

    def fill(i: int, counts: CorpusCounts) -> Iterator[Block]:
        begin = i * CONVERSATIONS_PER_SHARD
        for index in range(begin, min(total, begin + CONVERSATIONS_PER_SHARD)):
            item = rendered[index]
            ids, mask = np.asarray(item.ids[1:], np.int64), np.asarray(item.mask[1:], np.uint8)
            if len(ids) != len(mask) or not len(ids):
                raise ValueError(
                    f"conversation {index} has {len(item.ids)} ids and {len(item.mask)} mask"
                    " entries"
                )
            counts.documents += 1
            yield ids, np.array([len(ids)]), mask

    shards = range(-(-total // CONVERSATIONS_PER_SHARD))
    fingerprints = [digest(fingerprint, vocab_size, total, i) for i in shards]
    return _write_corpus(ShardList(folder, vocab_size, True, fingerprints), fill, progress, note)
