"""The reference recipe on real files under their real names, from a local mirror: scaled down by
overrides alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chatling.data.hub import Fetcher
from chatling.inference.request import Request
from chatling.inference.sampling import SamplingParams
from chatling.llm import open_engine
from chatling.messages import Conversation
from chatling.run_dir import RunFolder, home
from chatling.tasks.registry import load_task
from chatling.tokenizer.chat_template import render_prompt
from mirror import CORPORA, Fault, Mirror

SMALL = [
    *[
        "--model.depth",
        "4",
        "--model.width",
        "64",
        "--model.head-width",
        "16",
        "--model.context",
        "256",
        "--tokenizer.vocab_size",
        "1024",
    ],
    *[
        "--tokenizer.characters",
        "1000000",
        "--base.batch-tokens",
        "1024",
        "--base.validation-tokens",
        "2048",
        "--mid.batch-tokens",
        "1024",
    ],
    *[
        "--machine.rows",
        "4",
        "--machine.compile",
        "off",
        "--machine.threads",
        "1",
        "--machine.kernel",
        "plain",
    ],
    *["--machine.dtype", "float32"],
    *["--loop.save-every", "0", "--loop.evaluate-every", "0", "--optim.embedding-lr", "0.05"],
    *["--eval.core", "none", "--eval.chat", "ARC-Easy", "GSM8K", "--eval.questions", "4"],
]
COUNTS = {
    "mid.mixture": (15, 15, 10, 10, 10, 5),
    "sft.mixture": (12, 4, 4, 4, 4, 4, 4),
    "mid.validation": (8, 8, 8),
}
COUNTS |= {"sft.validation": (8,)}
RL = [
    "--rl.steps",
    "1",
    "--rl.questions-per-step",
    "2",
    "--rl.samples",
    "2",
    "--rl.max-tokens",
    "8",
    "--rl.learning-rate-fraction",
    "0",
]
RL += ["--rl.evaluate-questions", "2", "--rl.evaluate-samples", "1"]


@pytest.fixture
def words(mirror: Mirror, data_pack: Path, tmp_path: Path) -> list[str]:
    """The command line's overrides, with the word list in a folder of one's own."""
    mirror.add_pack(data_pack)
    own = tmp_path / "own"
    own.mkdir()
    (own / "words_alpha.txt").symlink_to(data_pack / "words/words_alpha.txt")
    counts = [
        word
        for table, numbers in COUNTS.items()
        for i, n in enumerate(numbers)
        for word in (f"--{table}.{i}.count", str(n))
    ]
    return [*SMALL, *counts, "--data.local", str(own)]


LATER = ("mid", "sft", "dpo", "rl", "eval")


def chatling(*words: str, processes: int = 1) -> str:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if processes > 1
        else []
    )
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "chatling", *words],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_spark_from_nothing_to_a_chat(mirror: Mirror, words: list[str]) -> None:
    mirror.faults += [
        Fault("shard_0000[01]*", cut=1_000_000),
        Fault("data/train*", status=503),
        Fault("main/train*", corrupt=True),
    ]
    sft = [
        "--sft.epochs",
        "20",
        "--sft.learning-rate-fraction",
        "1",
        "--sft.pad_to_multiple_of",
        "32",
        "--sft.batch-conversations",
        "8",
    ]
    command = ["run", "spark", *words, "--data.shards", "2", "--base.steps", "40", *sft, *RL]
    shown = chatling(*command)
    for stage in ("tokenizer", "base", "mid", "sft", "rl"):
        assert f"{stage}: done" in shown
    run = RunFolder.open("spark")
    losses = {
        stage: [
            json.loads(line)["loss"]
            for line in (run.stage(stage) / "metrics.jsonl").read_text().splitlines()
        ]
        for stage in ("base", "mid", "sft")
    }
    assert losses["base"][-1] < losses["base"][0] - 1
    assert losses["sft"][-1] < 1

    # the mixtures are those of the recipe, from the real files
    asked = mirror.downloads()
    assert set(asked) == {
        "shard_00000.parquet",
        "shard_00001.parquet",
        "shard_00005.parquet",
        *(f"data/{split}-00000-of-00001.parquet" for split in ("train", "test")),
        *(f"all/{split}-00000-of-00001.parquet" for split in ("auxiliary_train", "test")),
        *(f"ARC-{kind}/train-00000-of-00001.parquet" for kind in ("Easy", "Challenge")),
        "ARC-Easy/test-00000-of-00001.parquet",
        "main/train.jsonl",
        "main/test.jsonl",
    }

    # the chat answers in format: a letter where a letter is asked for, and an end
    engine = open_engine(run, "sft", max_batch_size=8)
    arc = load_task("ARC-Easy", "train", Fetcher())
    prompts = [
        tuple(render_prompt(engine.tokenizer, Conversation(arc[i].messages[:-1]))) for i in range(8)
    ]
    answers = engine.generate(
        [Request(prompt, SamplingParams(max_tokens=32)) for prompt in prompts]
    )
    assert (
        sum(
            bool(re.fullmatch("[A-E]", answer.text)) and answer.finish_reason == "stop"
            for answer in answers
        )
        >= 6
    )
    told = chatling("chat", "spark", "--stage", "sft", "--prompt", "Who are you?")
    assert told.strip()
    assert "<|" not in told

    # done is done: neither the network nor the cache is looked at any more
    mirror.close()
    again = chatling(*command)
    assert all(
        f"{stage}: done before, skipped" in again
        for stage in ("tokenizer", "base", "mid", "sft", "rl")
    )


@pytest.mark.slow
def test_processes_share_one_fetch_and_one_growing_corpus(
    mirror: Mirror, words: list[str], tmp_path: Path
) -> None:
    """Twelve shards, of which eight are there when training starts; two processes see the rows that
    one sees with all of them.
    """
    shards = [
        content
        for (repo, _), content in sorted(mirror.files.items(), key=str)
        if repo == CORPORA[0]
    ]
    for i in range(13):
        mirror.add(CORPORA[1], f"shard_{i:05d}.parquet", shards[5])
    mirror.faults += [Fault("shard_0001[01]*", delay=0.05), Fault("shard_00003*", cut=500_000)]
    recipe = tmp_path / "base.toml"
    without = ('extends = "spark"', *(f'{stage} = "none"' for stage in LATER))
    recipe.write_text("\n".join(without))
    key, kept = "", list[str]()
    for word in words:
        key = word if word.startswith("--") else key
        kept += [] if key.split(".")[0].strip("-") in LATER else [word]
    common = [
        *kept,
        *("--data.source", CORPORA[1], "--data.shards", "12", "--base.steps", "12"),
    ]
    shown = chatling("run", str(recipe), *common, "--name", "two", processes=2)
    assert (
        "8 of 12 shards of text are ready; the others are written while the training runs." in shown
    )
    assert {
        n
        for path, n in mirror.downloads().items()
        if path.startswith("shard_") and path != "shard_00003.parquet"
    } == {1}
    chatling("run", str(recipe), *common, "--name", "one")
    rows = [
        [
            json.loads(line)["loss"]
            for line in (home() / f"runs/{name}/base/metrics.jsonl").read_text().splitlines()
        ]
        for name in ("one", "two")
    ]
    assert len(rows[0]) == 12
    assert rows[0] == pytest.approx(rows[1], abs=1e-3)


def test_what_cannot_be_had_is_said_before_training(
    mirror: Mirror, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from chatling.cli import main

    def said(*overrides: str) -> str:
        assert main(["run", "spark", *words, *overrides]) in (1, 2)
        assert not (home() / "runs/spark/tokenizer").exists()
        return capsys.readouterr().err

    mirror.gated.add("HuggingFaceTB/smol-smoltalk")
    assert "Access to data set HuggingFaceTB/smol-smoltalk is gated." in said()
    mirror.gated.clear()
    assert "There is no data set no/such, or it is private." in said("--data.source", "no/such")
    mirror.faults.append(Fault("shard_00001*", status=404, times=99))
    assert (
        "There is no shard_00001.parquet of karpathy/fineweb-edu-100b-shuffle (404). A mirror may"
        " lack it" in said()
    )
    mirror.faults.clear()
    mirror.add("junk/text", "a.parquet", b"this is not parquet")
    mirror.add("junk/text", "b.parquet", b"nor is this")
    assert "a.parquet is not a readable parquet file" in said("--data.source", "junk/text")
    assert "has no column 'content'; it has text. Name one with --data.column." in said(
        "--data.shards", "1", "--data.column", "content"
    )
