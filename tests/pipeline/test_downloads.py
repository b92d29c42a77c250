"""What a run fetches before it starts, what beside it, and what not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chatling.config.recipe import Recipe, load_recipe
from chatling.pipeline.downloads import fetch_first
from chatling.run_dir import RunFolder, home
from chatling.train.corpus import AHEAD
from mirror import CORPORA, Fault, Mirror

STAGES = ("tokenizer", "base", "mid", "sft", "rl")


@pytest.fixture
def hub(mirror: Mirror, data_pack: Path) -> Mirror:
    """With twelve shards."""
    mirror.add_pack(data_pack)
    for i in range(13):
        mirror.add(CORPORA[1], f"shard_{i:05d}.parquet", f"shard {i}".encode())
    return mirror


@pytest.fixture
def recipe(hub: Mirror, data_pack: Path, tmp_path: Path) -> Recipe:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/words_alpha.txt").symlink_to(data_pack / "words/words_alpha.txt")
    overrides = [
        "--data.source",
        CORPORA[1],
        "--data.local",
        str(tmp_path / "own"),
        "--eval.core",
        "none",
        "--eval.chat",
        "GSM8K",
    ]
    return load_recipe("spark", overrides)


def test_tasks_and_the_first_shards_are_there_before_and_the_rest_is_told(
    hub: Mirror, recipe: Recipe
) -> None:
    later = fetch_first(recipe, STAGES, lambda line: None)
    assert later is not None
    asked = hub.downloads()
    assert {path for path in asked if path.startswith("shard_")} == {
        f"shard_{i:05d}.parquet" for i in (*range(AHEAD), 12)
    }
    assert {
        "all/auxiliary_train-00000-of-00001.parquet",
        "main/train.jsonl",
        "main/test.jsonl",
        "data/train-00000-of-00001.parquet",
        "data/test-00000-of-00001.parquet",
        "ARC-Challenge/train-00000-of-00001.parquet",
    } < set(asked)
    assert later.names == tuple(f"shard_{i:05d}.parquet" for i in range(AHEAD, 12))
    later.fetch()
    assert set(hub.downloads().values()) == {1}
    hub.close()
    fetch_first(recipe, STAGES, lambda line: None)  # all there: the network may be dead


def test_only_what_is_left_to_do_is_fetched(hub: Mirror, recipe: Recipe, tmp_path: Path) -> None:
    assert fetch_first(recipe, ("sft",), lambda line: None) is None
    assert not any(path.startswith(("shard_", "all/")) for path in hub.downloads())
    assert fetch_first(recipe, (), lambda line: None) is None
    run = RunFolder(tmp_path / "run")
    for split in ("train", "validation"):
        (run.data / f"base-{split}").mkdir(parents=True)
        (run.data / f"base-{split}/corpus.json").write_text("{}")
    assert (
        fetch_first(recipe, ("base",), lambda line: None, run) is None
    )  # tokenised: the text may be thrown away
    assert not any(path.startswith("shard_") for path in hub.downloads())
    assert fetch_first(recipe, ("tokenizer", "base"), lambda line: None, run) is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_fetching_ends_the_run_so_that_it_goes_on(
    hub: Mirror, recipe: Recipe, number: signal.Signals
) -> None:
    hub.faults.append(Fault("data/train*", delay=0.2))
    words = ["run", "spark", "--data.local", str(recipe.data.local), "--eval.core", "none"]
    process = subprocess.Popen(
        [sys.executable, "-m", "chatling", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list((home() / "cache").rglob("train-*.part")):
        assert process.poll() is None and time.monotonic() < deadline  # noqa: PT018
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 75
    assert "Start it again with the same command; it resumes." in told
    assert "Traceback" not in told
