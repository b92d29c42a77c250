"""Which files of a data set a run reads, and that they come when they are wanted."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.data.config import KNOWN_CORPORA, DataConfig
from chatling.data.corpus import HubFiles, corpus_mark, hub_corpus
from chatling.data.hub import Fetcher
from chatling.data.parquet import iter_texts, parquet_characters
from chatling.errors import DataError, RecipeError
from mirror import Fault, Mirror

FINEWEB = "karpathy/fineweb-edu-100b-shuffle"


def parquet(texts: list[str], column: str = "text") -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table({column: texts, "id": list(range(len(texts)))}), sink, compression="zstd"
    )
    return bytes(sink.getvalue())


@pytest.fixture
def shards(mirror: Mirror) -> Mirror:
    for i in range(6):
        mirror.add(
            FINEWEB, f"shard_{i:05d}.parquet", parquet([f"shard {i}, text {k}" for k in range(10)])
        )
        mirror.add(
            "some/text",
            f"shard_{i:05d}.parquet",
            parquet([f"{k} " + "a b c " * 999 for k in range(10)]),
        )
    return mirror


def read(files: object) -> list[str]:
    assert isinstance(files, HubFiles)
    return [path.name for path in files]


def test_the_first_files_and_the_last_one(shards: Mirror) -> None:
    corpus = hub_corpus(DataConfig(FINEWEB, shards=2), Fetcher(), 1e9)
    assert shards.downloads() == {}  # nothing before it is wanted
    assert read(corpus.train) == ["shard_00000.parquet", "shard_00001.parquet"]
    assert read(corpus.validation) == ["shard_00005.parquet"]
    assert next(iter(iter_texts(corpus.train))) == "shard 0, text 0"
    assert set(shards.downloads().values()) == {1}


def test_auto_takes_as_many_as_the_text_needs(shards: Mirror) -> None:
    each = KNOWN_CORPORA[FINEWEB].characters
    fetcher = Fetcher()
    assert [
        len(hub_corpus(DataConfig(FINEWEB), fetcher, each * shards_).train)
        for shards_ in (0.1, 1, 1.1, 3.5, 99)
    ] == [1, 1, 2, 4, 5]
    assert shards.downloads() == {}
    corpus = hub_corpus(
        DataConfig("some/text"), fetcher, 150_000
    )  # 60,000 characters a file, by the first one's own index
    assert len(corpus.train) == 3
    assert shards.downloads() == {"shard_00000.parquet": 1}


def test_characters_are_estimated_from_the_index(shards: Mirror, data_pack: Path) -> None:
    shard = data_pack / "pretrain_en/shard_00000.parquet"
    assert parquet_characters(shard, "text") == pytest.approx(
        sum(map(len, iter_texts([shard]))), rel=0.05
    )
    with pytest.raises(
        DataError, match=r"has no column 'content'; it has text\. Name one with --data\.column"
    ):
        parquet_characters(shard, "content")
    with pytest.raises(DataError, match=r"words_alpha\.txt is not a readable parquet file"):
        parquet_characters(data_pack / "words/words_alpha.txt", "text")


def test_training_files_are_found_by_name_or_pattern(mirror: Mirror) -> None:
    for name in (
        "data/train-0.parquet",
        "data/train-1.parquet",
        "data/train-2.parquet",
        "data/test-0.parquet",
        "README.md",
    ):
        mirror.add("some/splits", name, b"x")
    corpus = hub_corpus(DataConfig("some/splits", shards=9), Fetcher(), 0)
    assert corpus.train.names == ("data/train-0.parquet", "data/train-1.parquet")  # type: ignore[attr-defined]
    assert corpus.validation.names == ("data/train-2.parquet",)  # type: ignore[attr-defined]
    corpus = hub_corpus(DataConfig("some/splits", files="data/*", shards=1), Fetcher(), 0)
    assert corpus.train.names == ("data/test-0.parquet",)  # type: ignore[attr-defined]
    with pytest.raises(
        DataError, match=r"some/splits has 1 parquet files like data/test\*; training needs two\."
    ):
        hub_corpus(DataConfig("some/splits", files="data/test*"), Fetcher(), 0)


def test_the_order_is_that_of_the_names_whatever_arrives_first(shards: Mirror) -> None:
    shards.faults += [Fault("shard_00000*", delay=0.3), Fault("shard_00001*", cut=10)]
    fetcher = Fetcher(pause=0.01)
    files = hub_corpus(DataConfig(FINEWEB, shards=4), fetcher, 0).train
    assert isinstance(files, HubFiles)
    files.fetch()
    assert [text for text in iter_texts(files) if text.endswith(" 0")] == [
        f"shard {i}, text 0" for i in range(4)
    ]


def test_files_travel_to_another_process_and_tell_themselves_apart(shards: Mirror) -> None:
    files = HubFiles(Fetcher(note=print), FINEWEB, ["shard_00000.parquet", "shard_00001.parquet"])
    copy = pickle.loads(pickle.dumps(files))
    assert copy.fingerprints == files.fingerprints
    assert len(set(files.fingerprints)) == 2
    assert [path.name for path in copy[1:]] == ["shard_00001.parquet"]
    with pytest.raises(IndexError):
        files[2]


def test_what_is_on_the_hub_and_what_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = DataConfig("owner/name", local="mine")
    assert data.on_hub
    assert data.anchored() == replace(data, local=str(tmp_path / "mine"))
    (tmp_path / "owner/name").mkdir(parents=True)
    assert not data.on_hub
    assert data.anchored().source == str(tmp_path / "owner/name")
    assert not DataConfig("pocket").on_hub
    assert not DataConfig("./texts").on_hub
    assert not DataConfig("/texts/mine").on_hub
    with pytest.raises(RecipeError, match=r"data\.shards is 0"):
        DataConfig(shards=0)


def test_a_corpus_is_marked_without_having_it() -> None:
    assert corpus_mark(DataConfig(FINEWEB, shards=2)) != corpus_mark(DataConfig(FINEWEB, shards=3))
    assert corpus_mark(DataConfig(FINEWEB, local="/a")) == corpus_mark(
        DataConfig(FINEWEB, local="/b")
    )
