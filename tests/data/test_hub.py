"""Fetching from a mirror that misbehaves: what arrives is whole or is not there, and the reason is
said.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chatling.data import hub
from chatling.data.hub import Fetcher
from chatling.errors import DataError, MachineError
from chatling.run_dir import home
from mirror import COMMIT, Fault, Mirror

REPO = "some/data"


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def fetcher(mirror: Mirror) -> Fetcher:
    return Fetcher(pause=0.01)


@pytest.fixture
def shards(mirror: Mirror) -> dict[str, bytes]:
    """Four shards of 300 KB and a README, as the Hub would list them."""
    files = {f"shard_{i:05d}.parquet": content(300_000, i) for i in range(4)} | {
        "README.md": b"# data\n"
    }
    for path, data in files.items():
        mirror.add(REPO, path, data)
    return files


def kept(name: str = "") -> list[str]:
    """Files that bear a data file's name in the cache."""
    cache = home() / "cache"
    return sorted(
        str(p.relative_to(cache))
        for p in cache.rglob(f"*{name}*")
        if p.is_file() and ".fetch" not in p.parts
    )


def test_files_arrive_as_they_are_and_are_asked_for_once(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    paths = fetcher.dataset(REPO, "*.parquet")
    assert [path.name for path in paths] == sorted(
        name for name in shards if name.endswith(".parquet")
    )
    assert all(path.read_bytes() == shards[path.name] for path in paths)
    assert fetcher.dataset(REPO, "README*")[0].read_bytes() == b"# data\n"
    assert Fetcher().dataset(REPO, "*.parquet") == paths
    assert set(mirror.downloads().values()) == {1}


def test_a_full_cache_needs_no_network(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    paths = fetcher.dataset(REPO, "*.parquet")
    plain = fetcher.url(
        mirror.add_plain("words.txt", b"a\nb\n"), hashlib.sha256(b"a\nb\n").hexdigest()
    )
    address = mirror.url + "/plain/words.txt"
    mirror.close()
    again = Fetcher(pause=0.01)
    assert again.dataset(REPO, "*.parquet") == paths
    assert again.url(address, hashlib.sha256(b"a\nb\n").hexdigest()) == plain
    with pytest.raises(
        DataError,
        match=r"Could not fetch data set other/data: no connection\. Check the connection",
    ):
        again.dataset("other/data", "*")


@pytest.mark.parametrize("seed", range(6))
def test_cut_at_random_bytes_the_file_still_arrives(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes], seed: int
) -> None:
    drawn = random.Random(seed)
    mirror.faults += [
        Fault(cut=drawn.randrange(0, 200_000), deaf=drawn.random() < 0.3) for _ in range(5)
    ]
    assert fetcher.dataset(REPO, "shard_00000*")[0].read_bytes() == shards["shard_00000.parquet"]
    assert mirror.downloads()["shard_00000.parquet"] > 2


def test_what_came_before_a_cut_is_not_asked_for_again(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    mirror.faults.append(Fault(cut=200_000))
    fetcher.dataset(REPO, "shard_00000*")
    ranges = [asked.headers.get("range") for asked in mirror.asked if "/resolve/" in asked.path]
    assert ranges == [None, "bytes=200000-"]


def test_a_dead_mirror_leaves_no_file_but_its_beginning(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    mirror.faults += [Fault(cut=100_000), Fault(times=99, cut=0)]
    with pytest.raises(
        DataError, match=r"Could not fetch shard_00000\.parquet of some/data: the connection broke"
    ):
        fetcher.dataset(REPO, "shard_00000*")
    assert kept("shard") == []
    mirror.faults.clear()
    assert Fetcher().dataset(REPO, "shard_00000*")[0].read_bytes() == shards["shard_00000.parquet"]
    assert mirror.asked[-1].headers["range"] == "bytes=100000-"


def test_a_corrupt_file_is_fetched_again_and_refused_the_second_time(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    mirror.faults.append(Fault("shard_00001*", corrupt=True))
    assert all(
        path.read_bytes() == shards[path.name] for path in fetcher.dataset(REPO, "*.parquet")
    )
    mirror.add("other/data", "x.parquet", content(1000))
    mirror.faults = [Fault("x.parquet", corrupt=True, times=2)]
    with pytest.raises(
        DataError, match=r"x\.parquet of other/data does not have the checksum that it should have"
    ):
        fetcher.dataset("other/data", "*")
    assert kept("x.parquet") == []


def test_small_files_are_checked_by_their_git_id(mirror: Mirror, fetcher: Fetcher) -> None:
    mirror.add(REPO, "data.jsonl", b'{"text": "a"}\n' * 100)
    mirror.faults.append(Fault("data.jsonl", corrupt=True, times=2))
    with pytest.raises(DataError, match="checksum"):
        fetcher.dataset(REPO, "*.jsonl")
    assert fetcher.dataset(REPO, "*.jsonl")[0].read_bytes() == b'{"text": "a"}\n' * 100


@pytest.mark.parametrize(
    "harm",
    [lambda b: b[:-1], lambda b: b[:500] + b"x" + b[501:], lambda b: b"", lambda b: b + b"x"],
)
def test_a_file_damaged_in_the_cache_is_noticed(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes], harm: Callable[[bytes], bytes]
) -> None:
    path = fetcher.dataset(REPO, "shard_00000*")[0]
    path.write_bytes(harm(path.read_bytes()))
    assert Fetcher().dataset(REPO, "shard_00000*")[0].read_bytes() == shards["shard_00000.parquet"]


def test_a_file_put_into_the_cache_by_hand_is_checked_and_taken(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    folder = home() / "cache" / REPO
    folder.mkdir(parents=True)
    (folder / "shard_00000.parquet").write_bytes(shards["shard_00000.parquet"])
    (folder / "shard_00001.parquet").write_bytes(b"half")
    fetcher.dataset(REPO, "*.parquet")
    assert set(mirror.downloads()) == {f"shard_{i:05d}.parquet" for i in (1, 2, 3)}


def test_waits_as_long_as_it_is_asked_to(mirror: Mirror, shards: dict[str, bytes]) -> None:
    notes: list[str] = []
    mirror.faults.append(Fault(status=429, headers={"Retry-After": "1"}))
    begun = time.monotonic()
    Fetcher(pause=0.01, note=notes.append).dataset(REPO, "shard_00000*")
    assert 1 <= time.monotonic() - begun < 5


def test_server_errors_pass_or_are_said(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    mirror.faults += [
        Fault(listing=True, status=503),
        Fault("shard*", status=500),
        Fault("shard*", status=502),
    ]
    assert fetcher.dataset(REPO, "shard_00000*")[0].read_bytes() == shards["shard_00000.parquet"]
    mirror.faults = [Fault("shard*", status=503, times=99)]
    with pytest.raises(
        DataError,
        match=r"shard_00001\.parquet of some/data: the server answers 503\. Check the connection",
    ):
        fetcher.dataset(REPO, "shard_00001*")


def test_slow_is_not_broken(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "NOTE_SECONDS", 0.1)
    notes: list[str] = []
    mirror.faults.append(Fault(delay=0.1))
    Fetcher(note=notes.append).dataset(REPO, "shard_00000*")
    assert any("0 of 1 files" in note and "MB/s" in note and "left" in note for note in notes)
    assert notes[-1].startswith("Fetched shard_00000.parquet of some/data: 0.3 MB in")


def test_one_failure_does_not_undo_the_others(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    mirror.faults.append(
        Fault("shard_00002*", status=404, headers={"X-Error-Code": "EntryNotFound"}, times=99)
    )
    with pytest.raises(
        DataError,
        match=r"There is no shard_00002\.parquet of some/data \(404\)\. A mirror may lack it",
    ):
        fetcher.dataset(REPO, "*.parquet")
    mirror.faults.clear()
    fetcher.dataset(REPO, "*.parquet")
    assert sum(mirror.downloads().values()) <= 5 + 4


@pytest.mark.parametrize(
    ("repo", "message"),
    [
        (
            "no/such",
            (
                r"There is no data set no/such, or it is private\. Check the spelling; for a"
                r" private one set HF_TOKEN"
            ),
        ),
        ("../../etc", r"'\.\./\.\./etc' is no name of a data set"),
        ("a/b/c", "no name of a data set"),
    ],
)
def test_unknown_repositories(fetcher: Fetcher, repo: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fetcher.dataset(repo, "*")


def test_a_gated_one_wants_the_token_which_is_never_told(
    mirror: Mirror,
    shards: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    mirror.gated.add(REPO)
    with pytest.raises(
        DataError, match=r"Access to data set some/data is gated\. Accept its terms .* set HF_TOKEN"
    ):
        Fetcher(pause=0.01).dataset(REPO, "*")
    monkeypatch.setenv("HF_TOKEN", mirror.token)
    mirror.redirect = True
    mirror.faults += [
        Fault(listing=True, status=503),
        Fault("shard_00000*", cut=1000),
        Fault("shard_00001*", times=99, status=500),
    ]
    notes: list[str] = []
    with pytest.raises(DataError) as failure:
        Fetcher(pause=0.01, note=notes.append).dataset(REPO, "*.parquet")
    said = capfd.readouterr()
    kept_files = b"".join(
        path.read_bytes() for path in (home() / "cache" / ".fetch").rglob("*") if path.is_file()
    )
    assert mirror.token not in "".join(
        (str(failure.value), said.out, said.err, caplog.text, *notes)
    ) + repr(failure.getrepr())
    assert mirror.token.encode() not in kept_files
    sent = {asked.path.split("/")[1]: asked.headers.get("authorization") for asked in mirror.asked}
    assert sent["datasets"] == sent["api"] == f"Bearer {mirror.token}"
    assert sent["elsewhere"] is None  # another host is not told


def test_plain_addresses(mirror: Mirror, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", mirror.token)
    data = content(200_000)
    address, checksum = mirror.add_plain("bundle.zip", data), hashlib.sha256(data).hexdigest()
    mirror.faults += [Fault("bundle.zip", cut=70_000), Fault("bundle.zip", corrupt=True)]
    elsewhere = Fetcher(endpoint="http://127.0.0.1:9", pause=0.01)
    assert elsewhere.url(address, checksum).read_bytes() == data
    assert {asked.headers.get("authorization") for asked in mirror.asked} == {None}
    with pytest.raises(DataError, match=r"bundle\.zip from http.* does not have the checksum"):
        fetcher.url(address, "0" * 64)


def test_a_folder_of_ones_own_comes_first(
    mirror: Mirror, shards: dict[str, bytes], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    (own / REPO).mkdir(parents=True)
    (own / REPO / "shard_00009.parquet").write_bytes(b"mine")
    (own / "words.txt").write_bytes(b"mine too")
    fetcher = Fetcher(local=own)
    assert fetcher.dataset(REPO, "*") == [own / REPO / "shard_00009.parquet"]
    assert fetcher.url("http://127.0.0.1:9/words.txt", "0" * 64) == own / "words.txt"
    assert mirror.asked == []
    mirror.add("other/data", "a.parquet", b"a")
    assert fetcher.dataset("other/data", "*")[0].read_bytes() == b"a"
    with pytest.raises(DataError, match=r"There is no folder .*nowhere"):
        Fetcher(local=tmp_path / "nowhere")


def test_all_files_are_of_one_commit(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    fetcher.dataset(REPO, "shard_00000*")
    mirror.add(REPO, "shard_00004.parquet", b"new")
    assert len(Fetcher().names(REPO)) == 5
    asked = [a.path for a in mirror.asked if "/resolve/" in a.path]
    assert all(f"/resolve/{COMMIT}/" in path for path in asked)


def test_paths_that_would_leave_the_cache_are_refused(mirror: Mirror, fetcher: Fetcher) -> None:
    mirror.add(REPO, "../../escaped", b"x")
    with pytest.raises(DataError, match="would lie outside the cache"):
        fetcher.dataset(REPO, "*")


def test_no_room(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "free_bytes", lambda path: 600_000)
    with pytest.raises(
        MachineError,
        match=(
            r"Fetching some/data takes 0\.0 GB, and 0\.0 GB are free .* fewer shards with"
            r" --data\.shards"
        ),
    ):
        fetcher.dataset(REPO, "*")
    assert kept() == []


def test_the_disk_fills_up(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    fetcher.names(REPO)
    monkeypatch.setattr("chatling.data.http.os.replace", full)
    with pytest.raises(MachineError, match=r"The disk is full: could not write .*shard_00000"):
        fetcher.dataset(REPO, "shard_00000*")
    assert kept("shard") == []


def test_four_processes_fetch_each_file_once(mirror: Mirror, shards: dict[str, bytes]) -> None:
    mirror.faults.append(Fault(times=8, delay=0.1))
    program = (
        "from chatling.data.hub import Fetcher; print([str(p) for p in"
        f" Fetcher(pause=0.01).dataset({REPO!r}, '*.parquet')])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    assert {process.returncode for process in processes} == {0}
    assert len(outputs) == 1
    assert mirror.downloads() == dict.fromkeys(
        (name for name in shards if name.endswith(".parquet")), 1
    )
    assert [asked.path for asked in mirror.asked if asked.path.startswith("/api/datasets/")] == [
        f"/api/datasets/{REPO}/revision/main"
    ]


def test_a_killed_fetch_goes_on(mirror: Mirror, shards: dict[str, bytes]) -> None:
    mirror.faults.append(Fault(times=4, delay=0.3))
    program = f"from chatling.data.hub import Fetcher; Fetcher().dataset({REPO!r}, '*.parquet')"
    process = subprocess.Popen([sys.executable, "-c", program])
    while not any(path.stat().st_size for path in (home() / "cache").rglob("*.part")):
        time.sleep(0.01)
        assert process.poll() is None
    process.kill()
    process.wait()
    assert kept("shard") == []
    mirror.faults.clear()
    assert all(
        path.read_bytes() == shards[path.name] for path in Fetcher().dataset(REPO, "*.parquet")
    )
    assert any("range" in asked.headers for asked in mirror.asked)


def test_an_interrupt_stops_the_threads(
    mirror: Mirror, shards: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    mirror.faults.append(Fault(times=4, delay=0.2))
    monkeypatch.setattr(hub, "wait", interrupted)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Fetcher().dataset(REPO, "*.parquet")
    assert time.monotonic() - begun < 1
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("chatling-fetch")
    ]
    assert kept("shard") == []


def test_what_is_kept_says_what_it_is(
    mirror: Mirror, fetcher: Fetcher, shards: dict[str, bytes]
) -> None:
    fetcher.dataset(REPO, "shard_00000*")
    listing = json.loads((home() / "cache/.fetch" / REPO / "listing.json").read_text())
    assert listing["commit"] == COMMIT
    checksum = hashlib.sha256(shards["shard_00000.parquet"]).hexdigest()
    assert listing["files"]["shard_00000.parquet"] == {"bytes": 300_000, "sha256": checksum}
    assert os.listdir(home() / "cache" / REPO) == ["shard_00000.parquet"]
