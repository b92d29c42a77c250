"""Token shards: what is read, what is refused, what a kill leaves behind, and what damage is
found.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.data import shard_files, shard_writer
from chatling.data.mixtures import Mapped
from chatling.data.parquet import iter_texts
from chatling.data.shard_files import ShardChecks, read_index
from chatling.data.shard_writer import write_conversation_shards, write_token_shards
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError, MachineError


def corpus_files(write_texts, count=3):
    return [
        write_texts(
            f"shard_{i:05d}.parquet", [f"file {i} document {j} " + "x" * j for j in range(7)]
        )
        for i in range(count)
    ]


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- writing and opening
# ------------------------------------------------------------


def test_what_is_written_is_what_is_read(write_texts, tmp_path, tokenizer):
    files = corpus_files(write_texts)
    shards = write_token_shards(tmp_path / "shards", files, tokenizer)
    texts = list(iter_texts(files))
    assert [bytes(shards.document(i).tolist()).decode() for i in range(shards.documents)] == texts
    assert shards.lengths.tolist() == [len(text) for text in texts]
    assert shards.tokens == sum(map(len, texts))
    assert read_index(tmp_path / "shards")["counts"]["documents"] == 21
    assert shards.mask(0) is None
    assert shards.document(0).dtype == np.uint16


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_ids_take_the_smaller_type_that_holds_the_vocabulary(tmp_path, vocab_size, dtype):
    conversation = Conversation([1, vocab_size - 1, 0], [False, True, False])
    shards = write_conversation_shards(tmp_path / "s", [conversation], vocab_size, fingerprint="x")
    assert shards.document(0).dtype == dtype
    assert shards.document(0).tolist() == [vocab_size - 1, 0]


def test_a_token_outside_the_vocabulary_is_not_wrapped_around(tmp_path):
    with pytest.raises(ValueError, match="outside the vocabulary"):
        write_conversation_shards(
            tmp_path / "s", [Conversation([1, 70_000], [False, True])], 300, fingerprint="x"
        )


def test_an_empty_corpus_is_refused(write_texts, tmp_path, tokenizer):
    with pytest.raises(DataError, match="empty"):
        write_token_shards(
            tmp_path / "shards", [write_texts("a.parquet", ["", None], kind=pa.string())], tokenizer
        )
    with pytest.raises(DataError, match="empty"):
        write_conversation_shards(tmp_path / "none", [], 300, fingerprint="x")


def test_a_file_without_documents_among_others_is_an_empty_shard(write_texts, tmp_path, tokenizer):
    files = [
        write_texts("a.parquet", ["", " "]),
        write_texts("b.parquet", ["text"]),
        write_texts("c.parquet", [""]),
    ]
    shards = write_token_shards(tmp_path / "shards", files, tokenizer)
    assert bytes(shards.document(0).tolist()) == b"text"
    assert (shards.documents, read_index(tmp_path / "shards")["counts"]["empty"]) == (1, 3)


def test_finished_work_is_not_done_again_and_changed_files_are(write_texts, tmp_path, tokenizer):
    files = corpus_files(write_texts)
    before = content(
        write_token_shards(tmp_path / "shards", files, tokenizer) and tmp_path / "shards"
    )
    tokenizer.texts.clear()
    os.utime(files[0])  # a copy or a touch changes no text
    write_token_shards(tmp_path / "shards", files, tokenizer)
    assert tokenizer.texts == []
    files[1] = write_texts(files[1].name, ["something else"])
    write_token_shards(tmp_path / "shards", files, tokenizer)
    assert tokenizer.texts == ["something else"]
    after = content(tmp_path / "shards")
    assert after["shard_00000/tokens.bin"] == before["shard_00000/tokens.bin"]
    tokenizer.fingerprint = "another"
    tokenizer.texts.clear()
    write_token_shards(tmp_path / "shards", files[:2], tokenizer)
    assert len(tokenizer.texts) == 8
    assert not (tmp_path / "shards" / "shard_00002").exists()  # no longer part of the corpus


@dataclass
class Conversation:
    ids: list[int]
    mask: list[bool]


def test_conversations_keep_their_masks_and_lose_their_bos(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "CONVERSATIONS_PER_SHARD", 4)
    conversations = [
        Conversation([256, *range(i, i + 5)], [False, *(k % 2 == 0 for k in range(5))])
        for i in range(10)
    ]
    done: list[tuple[int, int]] = []
    shards = write_conversation_shards(
        tmp_path / "s", conversations, 257, fingerprint="x", progress=lambda *at: done.append(at)
    )
    assert done == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [shards.document(i).tolist() for i in range(10)] == [c.ids[1:] for c in conversations]
    assert [shards.mask(i).tolist() for i in range(10)] == [c.mask[1:] for c in conversations]
    # after damage, only the damaged shard's conversations are rendered again
    (tmp_path / "s" / "shard_00001" / "mask.bin").unlink()
    rendered: list[int] = []
    write_conversation_shards(
        tmp_path / "s",
        Mapped(range(10), lambda i: rendered.append(i) or conversations[i]),
        257,
        fingerprint="x",
    )
    assert rendered == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="mask entries"):
        write_conversation_shards(
            tmp_path / "t", [Conversation([256, 1], [False])], 257, fingerprint="x"
        )


# --- damage and death
# ------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    ["truncated", "missing", "no shard", "no manifest", "foreign", "half index", "no index"],
)
def test_damage_is_found_named_and_mended(write_texts, tmp_path, tokenizer, damage):
    files, folder = corpus_files(write_texts), tmp_path / "shards"
    write_token_shards(folder, files, tokenizer)
    before = content(folder)
    shard = folder / "shard_00001"
    if damage == "truncated":
        os.truncate(shard / "tokens.bin", 10)
    elif damage == "missing":
        (shard / "offsets.bin").unlink()
    elif damage == "no shard":
        shutil.rmtree(shard)
    elif damage == "no manifest":
        (shard / "manifest.json").unlink()
    elif damage == "foreign":
        shutil.rmtree(shard)
        shutil.copytree(folder / "shard_00002", shard)
    elif damage == "half index":
        os.truncate(folder / "corpus.json", 50)
    else:
        (folder / "corpus.json").unlink()
    with pytest.raises(
        DataError,
        match="corpus.json|no finished token shards" if "index" in damage else "shard_00001",
    ):
        TokenShards.open(folder)
    tokenizer.texts.clear()
    write_token_shards(folder, files, tokenizer)
    assert len(tokenizer.texts) == (0 if "index" in damage else 7)  # the damaged shard alone
    assert content(folder) == before


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "meta.json", "manifest.json"])
def test_flipped_bits_are_found_and_a_small_corpus_is_mended_with_a_sentence(
    write_texts, tmp_path, tokenizer, name
):
    files, folder = corpus_files(write_texts), tmp_path / "shards"
    write_token_shards(folder, files, tokenizer)
    before = content(folder)
    path = folder / "shard_00001" / name
    path.write_bytes(path.read_bytes()[:-9] + b"\x01" + path.read_bytes()[-8:])
    if name == "tokens.bin":
        TokenShards.open(folder, checksums=False)  # sizes agree, and another process looks into it
    with pytest.raises(DataError, match=r"shard_00001.*Delete .*shard_00001 and run again"):
        TokenShards.open(folder)
    told = []
    write_token_shards(folder, files, tokenizer, note=told.append)
    assert len(told) == 1
    assert f"shard_00001/{name}" in told[0] or "its manifest" in told[0]
    assert content(folder) == before


def test_tokens_of_a_large_corpus_are_checked_before_they_are_read(
    write_texts, tmp_path, tokenizer, monkeypatch
):
    monkeypatch.setattr(shard_files, "AT_ONCE", 0)
    monkeypatch.setattr(
        ShardChecks, "start", lambda self: None
    )  # the background has not come to it yet
    files, folder = corpus_files(write_texts), tmp_path / "shards"
    write_token_shards(folder, files, tokenizer)
    path = folder / "shard_00001" / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    write_token_shards(folder, files, tokenizer)  # a finished corpus opens at once
    shards = TokenShards.open(folder)
    assert bytes(shards.document(0).astype(np.uint8)).decode() == "file 0 document 0 "
    shards.require([0])
    for read in (lambda: shards.document(7), lambda: shards.require([0, int(shards.offsets[7])])):
        with pytest.raises(
            DataError,
            match=r"shard_00001/tokens\.bin does not match its checksum.*Delete .*shard_00001",
        ):
            read()
    shutil.rmtree(path.parent)
    write_token_shards(folder, files, tokenizer)
    shards = TokenShards.open(folder)
    shards.require(shards.offsets[:-1].tolist())
    assert shards._checks is None  # nothing is left to wait for


def test_the_background_checks_every_shard_once(write_texts, tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(shard_files, "AT_ONCE", 0)
    looked, real = [], shard_files.content_fault
    monkeypatch.setattr(
        shard_files,
        "content_fault",
        lambda shard, size: looked.append(shard.name) or real(shard, size),
    )
    folder = tmp_path / "shards"
    write_token_shards(folder, corpus_files(write_texts), tokenizer)
    shards, deadline = TokenShards.open(folder), time.monotonic() + 20
    while not (shards._checks is None or shards._checks.passed):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shards.require(range(shards.tokens))
    assert sorted(looked[-3:]) == ["shard_00000", "shard_00001", "shard_00002"]
    TokenShards.open(folder, checksums=False)
    assert len(looked) <= 6


OFFSETS = [[], [0], [1, 5], [0, 5, 3], [0, -1], [0, 4, 4], [0, 2**62]]


@pytest.mark.parametrize("offsets", OFFSETS)
def test_offsets_that_do_not_fit_are_refused(tmp_path, offsets):
    (tmp_path / "tokens.bin").write_bytes(np.arange(4, dtype="<u2").tobytes())
    (tmp_path / "offsets.bin").write_bytes(np.array(offsets, "<i8").tobytes())
    with pytest.raises(DataError, match="do not agree in length"):
        shard_files.map_shard(tmp_path, 257)
    (tmp_path / "offsets.bin").write_bytes(b"123")
    with pytest.raises(DataError, match=r"do not agree in length|cannot be read"):
        shard_files.map_shard(tmp_path, 257)


def test_an_index_that_is_not_of_the_shards_is_refused(write_texts, tmp_path, tokenizer):
    folder = tmp_path / "shards"
    files = corpus_files(write_texts)
    write_token_shards(folder, files, tokenizer)
    right = json.loads((folder / "corpus.json").read_text())
    for change in (
        {"tokens": 1},
        {"documents": 10**9},
        {"vocab_size": 300},
        {"masked": True},
        {"shards": ["../x"]},
        {"counts": []},
        {"fingerprints": right["fingerprints"][:2]},
        {"fingerprint": "x"},
        {"shards": 3},
        {"masked": 0},
    ):
        (folder / "corpus.json").write_text(json.dumps(right | change))
        with pytest.raises(DataError):
            TokenShards.open(folder)
        write_token_shards(folder, files, tokenizer)
        assert json.loads((folder / "corpus.json").read_text()) == right


def test_a_full_disk_is_one_sentence_and_the_next_start_goes_on(write_texts, tmp_path, tokenizer):
    files = corpus_files(write_texts)
    encode = tokenizer.encode_flat

    def full(texts):
        if "file 1" in texts[0]:
            raise OSError(28, "No space left on device")
        return encode(texts)

    tokenizer.encode_flat = full
    with pytest.raises(MachineError, match="disk is full"):
        write_token_shards(tmp_path / "shards", files, tokenizer)
    tokenizer.encode_flat = encode
    write_token_shards(tmp_path / "shards", files, tokenizer)
    assert "file 0" not in "".join(tokenizer.texts[7:])
    # what is being replaced no longer counts as finished, from the first moment on
    tokenizer.encode_flat, tokenizer.fingerprint = full, "another"
    with pytest.raises(MachineError):
        write_token_shards(tmp_path / "shards", files[1:], tokenizer)
    with pytest.raises(DataError, match="no finished token shards"):
        TokenShards.open(tmp_path / "shards")


WRITER = """
import sys, time, numpy as np
from pathlib import Path
from chatling.data.shard_writer import write_token_shards
class Slow:
    vocab_size, fingerprint = 257, "bytes"
    def encode_flat(self, texts):
        time.sleep(0.15)
        raw = [text.encode() for text in texts]
        ids = np.frombuffer(b"".join(raw), np.uint8).astype(np.uint32)
        return ids, np.concatenate(([0], np.cumsum([len(r) for r in raw])))
folder, *files = map(Path, sys.argv[1:])
write_token_shards(folder, files, Slow())
"""


@pytest.mark.parametrize("wait", [0.02, 0.11])
def test_a_killed_writer_loses_at_most_one_shard(write_texts, tmp_path, tokenizer, wait):
    files = corpus_files(write_texts, 5)
    write_token_shards(tmp_path / "whole", files, tokenizer)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "killed"), *map(str, files)]
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "shard_00001").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(DataError, match="no finished token shards"):
        TokenShards.open(tmp_path / "killed")
    kept = [path for path in (tmp_path / "killed").iterdir() if path.name.startswith("shard_")]
    assert 2 <= len(kept) < 5
    tokenizer.texts.clear()
    write_token_shards(tmp_path / "killed", files, tokenizer)
    assert len(tokenizer.texts) == 7 * (5 - len(kept))
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_real_text_survives(data_pack, tmp_path, tokenizer):
    """Real shards, block after block: what the shards decode to is what the files hold."""
    file = data_pack / "pretrain_en" / "shard_00005.parquet"
    shards = write_token_shards(tmp_path / "shards", [file], tokenizer)
    expected = pq.read_table(file)["text"].to_pylist()
    assert [
        bytes(shards.document(i).tolist()).decode() for i in range(shards.documents)
    ] == expected
    assert json.loads((tmp_path / "shards" / "corpus.json").read_text())["documents"] == len(
        expected
    )
