"""Training on a corpus that is still being written: the same rows, waits for what is missing, hears
of what went wrong.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from chatling.data import streaming
from chatling.data.corpus import HubFiles
from chatling.data.hub import Fetcher
from chatling.data.packing import PackedRows
from chatling.data.shard_writer import text_shards, write_first_shards, write_token_shards
from chatling.data.streaming import GrowingShards, grow_token_shards, open_shards
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError
from chatling.run_dir import waiting_lock, write_json
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from mirror import Fault, Mirror

REPO = "karpathy/fineweb-edu-100b-shuffle"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words") / "tokenizer"
    train_tokenizer(
        iter(["some words and other words to learn pairs from"] * 20),
        TokenizerConfig(vocab_size=280),
    ).save(folder)
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Five shards of 3 to 7 documents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = []
    for i in range(5):
        files.append(tmp_path / f"part_{i}.parquet")
        pq.write_table(
            pa.table(
                {
                    "text": [
                        f"shard {i}, document {k}: " + "words " * (7 * k % 11) for k in range(3 + i)
                    ]
                }
            ),
            files[-1],
        )
    return files


def plan(folder: Path, parts: list[Path], tokenizer: Tokenizer, ahead: int) -> None:
    corpus = text_shards(folder, parts, tokenizer, "text")
    write_first_shards(corpus, parts, tokenizer, "text", ahead)
    write_json(
        folder / streaming.PLAN,
        {"vocab_size": tokenizer.vocab_size, "fingerprints": corpus.fingerprints},
    )


def test_a_growing_corpus_gives_the_rows_of_the_finished_one(
    tmp_path: Path, parts: list[Path], tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "LOOK_SECONDS", 0.01)
    words = Tokenizer.load(tokenizer)
    finished = PackedRows(
        write_token_shards(tmp_path / "finished", parts, words),
        16,
        words.bos,
        seed=3,
        block_documents=6,
    )
    expected = list(finished.rows(0)) + list(finished.rows(1))
    folder = tmp_path / "growing"
    plan(folder, parts, words, 1)
    assert not (folder / "corpus.json").exists()

    def write() -> None:
        with waiting_lock(folder / streaming.WRITING):
            for count in range(2, 6):
                time.sleep(0.05)
                write_first_shards(
                    text_shards(folder, parts, words, "text"), parts, words, "text", count
                )

    writer = threading.Thread(target=write)
    rows = PackedRows(open_shards(folder), 16, words.bos, seed=3, block_documents=6)
    writer.start()
    met = [*rows.rows(0), *rows.rows(1)]
    writer.join()
    assert len(met) == len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(met, expected, strict=True))
    assert rows.row_count == finished.row_count


def test_only_what_is_needed_is_waited_for(
    tmp_path: Path, parts: list[Path], tokenizer: Path
) -> None:
    words = Tokenizer.load(tokenizer)
    plan(tmp_path / "g", parts, words, 2)
    shards = GrowingShards(tmp_path / "g")
    assert shards.available(1) == 1
    assert shards.documents == 3  # the first shard
    assert shards.available(7) == 7
    assert words.decode(shards.document(6).tolist()).startswith("shard 1, document 3")


def test_a_writer_that_failed_says_why(tmp_path: Path, parts: list[Path], tokenizer: Path) -> None:
    plan(tmp_path / "g", parts, Tokenizer.load(tokenizer), 1)
    write_json(tmp_path / "g" / streaming.FAILURE, {"error": "There is no shard_00007 (404)."})
    shards = GrowingShards(tmp_path / "g")
    assert shards.available(3) == 3
    with pytest.raises(DataError, match="There is no shard_00007"):
        shards.available(4)


def test_a_writer_that_died_is_noticed(
    tmp_path: Path, parts: list[Path], tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(streaming, "SILENCE", 0.1)
    plan(tmp_path / "g", parts, Tokenizer.load(tokenizer), 1)
    with pytest.raises(
        DataError,
        match=(
            r"The process that writes token shards ended before shard_00001 was there\. Start the"
            r" run again"
        ),
    ):
        GrowingShards(tmp_path / "g").available(4)


def test_nobody_planned_anything(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There are no finished token shards"):
        open_shards(tmp_path)


@pytest.fixture
def hub(mirror: Mirror, parts: list[Path]) -> HubFiles:
    for i, part in enumerate(parts):
        mirror.add(REPO, f"shard_{i:05d}.parquet", part)
    return HubFiles(Fetcher(pause=0.01), REPO, [f"shard_{i:05d}.parquet" for i in range(5)])


def join() -> None:
    for child in multiprocessing.active_children():
        child.join(60)


def test_later_shards_are_fetched_and_written_by_a_process_of_their_own(
    mirror: Mirror, hub: HubFiles, tmp_path: Path, tokenizer: Path, parts: list[Path]
) -> None:
    notes: list[str] = []
    mirror.faults.append(Fault("shard_00004*", delay=0.5))
    grow_token_shards(tmp_path / "g", hub, tokenizer, "text", 2, notes.append)
    assert notes == [
        "2 of 5 shards of text are ready; the others are written while the training runs."
    ]
    shards = open_shards(tmp_path / "g")
    assert isinstance(shards, GrowingShards)
    words = Tokenizer.load(tokenizer)
    finished = write_token_shards(tmp_path / "finished", parts, words)
    assert shards.available(10**6) == finished.documents
    assert all(
        np.array_equal(shards.document(i), finished.document(i)) for i in range(finished.documents)
    )
    join()
    assert not isinstance(open_shards(tmp_path / "g"), GrowingShards)
    grow_token_shards(
        tmp_path / "g", hub, tokenizer, "text", 2, notes.append
    )  # a resume only looks
    assert len(notes) == 1
    assert TokenShards.open(tmp_path / "g", checksums=True).documents == finished.documents
    assert set(mirror.downloads().values()) == {1}


def test_what_the_process_fails_at_reaches_the_training(
    mirror: Mirror, hub: HubFiles, tmp_path: Path, tokenizer: Path
) -> None:
    mirror.faults.append(Fault("shard_00003*", status=404, times=99))
    grow_token_shards(tmp_path / "g", hub, tokenizer, "text", 2)
    with pytest.raises(
        DataError,
        match=r"There is no shard_00003\.parquet of karpathy/fineweb-edu-100b-shuffle \(404\)",
    ):
        open_shards(tmp_path / "g").available(10**6)
    join()
    mirror.faults.clear()
    grow_token_shards(tmp_path / "g", hub, tokenizer, "text", 2)  # goes on
    assert open_shards(tmp_path / "g").available(10**6) == sum(3 + i for i in range(5))
    join()
