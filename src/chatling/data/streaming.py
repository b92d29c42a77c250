"""A corpus that is trained on while its later shards are still being fetched and tokenised by
another process.

Which rows come in which order depends on the finished corpus alone: where a shard is missing,
training waits for it.

    plan.json       the shards that there will be
    .writing        locked by the process that writes them
    failure.json    why it stopped, if it did
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chatling.data.corpus import HubFiles
from chatling.data.shard_files import CORPUS, META, ShardList, content_fault, damaged, map_shard
from chatling.data.shard_writer import text_shards, write_first_shards, write_token_shards
from chatling.data.subprocesses import start
from chatling.data.token_shards import TokenShards
from chatling.errors import ChatlingError, DataError
from chatling.run_dir import (
    MANIFEST,
    is_locked,
    read_json,
    read_manifest,
    waiting_lock,
    write_json,
)
from chatling.tokenizer.bpe import Tokenizer

PLAN, FAILURE, WRITING = "plan.json", "failure.json", ".writing"
LOOK_SECONDS = 0.5
SILENCE = 60.0  # seconds without a writer after which no shard is expected any more


class GrowingShards(TokenShards):
    """Token shards of text whose later ones may not be there yet. Holds the shards taken so far."""

    def __init__(self, folder: Path, checksums: bool = True):
        """`checksums` as of `TokenShards.open`. Raises DataError when nobody ever planned shards
        there.
        """
        plan = {key: _field(folder / PLAN, key) for key in ("vocab_size", "fingerprints")}
        if type(plan["vocab_size"]) is not int or not isinstance(plan["fingerprints"], list):
            raise DataError(
                f"{folder / PLAN} is damaged.",
                f"Delete {folder} and run again: it is written again.",
            )
        self._corpus, self._checksums = ShardList(folder, masked=False, **plan), checksums
        super().__init__([], np.zeros(1, np.int64), plan["vocab_size"])

    def available(self, documents: int) -> int:
        while self.documents < documents and len(self._parts) < len(self._corpus.fingerprints):
            shard = self._wait(len(self._parts))
            if self._checksums and (fault := content_fault(shard, self.vocab_size)):
                raise damaged(shard, fault)
            part, offsets, _ = map_shard(shard, self.vocab_size)
            self._parts.append(part)
            self._begins.append(self._begins[-1] + len(part))
            self.offsets = np.concatenate((self.offsets, offsets[1:] + self.tokens))
            self.lengths = np.diff(self.offsets)
        return min(documents, self.documents)

    def _wait(self, i: int) -> Path:
        """Shard i, when it is there. Raises DataError when it will not come."""
        shard, folder = self._corpus.shards[i], self._corpus.folder
        alone = time.monotonic()
        while self._corpus.fault(i, checksums=False):
            failure = folder / FAILURE
            if failure.exists():
                raise DataError(str(_field(failure, "error")))
            if is_locked(folder / WRITING):
                alone = time.monotonic()
            elif time.monotonic() - alone > SILENCE:
                what = f"The process that writes token shards ended before {shard.name} was there."
                raise DataError(what, "Start the run again; it resumes.")
            time.sleep(LOOK_SECONDS)
        return shard


def _field(path: Path, key: str) -> Any:
    found = read_json(path)
    if not isinstance(found, dict) or key not in found:
        raise DataError(f"{path} is damaged: it has no {key}.", f"Delete {path} and run again.")
    return found[key]


def open_shards(folder: Path, checksums: bool = True) -> TokenShards:
    """A finished corpus, or one that is being written. Raises DataError when it is neither, and as
    `TokenShards.open`.
    """
    growing = (folder / PLAN).exists() and not (folder / CORPUS).exists()
    return GrowingShards(folder, checksums) if growing else TokenShards.open(folder, checksums)


def shards_mark(folder: Path) -> tuple[str, str | None]:
    """What a corpus is made of, and once it is finished, what is in it."""
    finished = (folder / CORPUS).exists()
    inputs = repr(_field(folder / (CORPUS if finished else PLAN), "fingerprints"))
    if not finished:
        return inputs, None
    contents = (
        (path.parent.name, name, listed.sha256)
        for path in sorted(folder.glob(f"*/{MANIFEST}"))
        for name, listed in sorted(read_manifest(path.parent).items())
        if name != META
    )
    return inputs, hashlib.sha256(repr(list(contents)).encode()).hexdigest()


def compare_marks(marks: Sequence[tuple[str, str | None]], folder: Path) -> None:
    """Raises DataError when a corpus that each node made for itself is not the same on all. By what
    is in it, or while one is still being written, by what it is made of.
    """
    finished = all(contents is not None for _, contents in marks)
    compared = [contents if finished else inputs for inputs, contents in marks]
    odd = next((rank for rank, mark in enumerate(compared) if mark != compared[0]), None)
    if odd is not None:
        raise DataError(
            f"data/{folder.name} of process {odd} is not that of process 0: they would train on"
            " different data.",
            "Give every node the same text and the same version of chatling, or remove that folder"
            " where it is wrong.",
        )


def grow_token_shards(
    folder: Path,
    files: Sequence[Path],
    tokenizer: Path,
    column: str,
    ahead: int,
    note: Callable[[str], None] = lambda line: None,
) -> None:
    """Bring token shards of `files` to `folder`: all of them when they are on this disk or `ahead`
    at most, else the first `ahead`, and the others by a process of their own, which ends with this
    one. `tokenizer` is a folder. Raises as `write_token_shards`.
    """
    words = Tokenizer.load(tokenizer)
    marks = files.fingerprints if isinstance(files, HubFiles) else None
    corpus = text_shards(folder, files, words, column, marks)
    if not isinstance(files, HubFiles) or len(files) <= ahead or corpus.is_finished:
        write_token_shards(folder, files, words, column=column, marks=marks, note=note)
        return
    write_first_shards(corpus, files, words, column, ahead, note)
    (folder / FAILURE).unlink(missing_ok=True)
    write_json(folder / PLAN, {"vocab_size": words.vocab_size, "fingerprints": corpus.fingerprints})
    note(
        f"{ahead} of {len(files)} shards of text are ready; the others are written while the"
        " training runs."
    )
    start(_write_rest, folder, files, tokenizer, column)


def _write_rest(folder: Path, files: HubFiles, tokenizer: Path, column: str) -> None:
    with waiting_lock(folder / WRITING):
        try:
            write_token_shards(
                folder, files, Tokenizer.load(tokenizer), column=column, marks=files.fingerprints
            )
        except ChatlingError as error:
            write_json(folder / FAILURE, {"error": str(error)})
        except Exception as error:
            what = f"Tokenising {folder.name} failed: {type(error).__name__}: {error}"
            write_json(folder / FAILURE, {"error": what})
            raise
