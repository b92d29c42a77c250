"""`chatling eval` on a run folder made by hand: each evaluation prints a table and writes its
file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from chatling.cli import main
from chatling.config.recipe import Recipe, to_toml
from chatling.data.shard_writer import write_token_shards
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from chatling.toy import conversations
from chatling.toy.core_bundle import write_core_bundle
from chatling.train.checkpoint import save_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = RunFolder(tmp_path_factory.mktemp("home") / "runs/tiny")
    texts = [
        message.text for conversation in conversations(0, 500) for message in conversation.messages
    ]
    tokenizer = train_tokenizer(iter(texts), TokenizerConfig(vocab_size=400))
    folder.path.mkdir(parents=True)
    tokenizer.save(folder.tokenizer)
    recipe = ModelRecipe(depth=2, width=32, head_width=16, context=64)
    for seed, stage in enumerate(("base", "sft")):
        model = GPT(recipe.resolve(tokenizer.vocab_size))
        model.initialize(torch.Generator().manual_seed(seed))
        torch.nn.init.normal_(model.lm_head.weight, generator=torch.Generator().manual_seed(seed))
        save_model(model, folder.model(stage), {"stage": stage})
    for split, some in (("train", texts[:200]), ("validation", texts[200:300])):
        pq.write_table(pa.table({"text": some}), folder.path / "texts.parquet")
        write_token_shards(
            folder.data / f"base-{split}", [folder.path / "texts.parquet"], tokenizer
        )
    (folder.path / "recipe.toml").write_text(to_toml(Recipe(model=recipe)))
    folder.write_state({"stages": {}, "execution": {"dtype": "float32", "device": "cpu"}})
    return folder


def results(run: RunFolder, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((run.evals / f"{name}.json").read_text())
    return found


def test_the_tokenizer_alone_needs_no_model(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "chatling.evals.tokenizer.load_peers", lambda: ({}, "Left out GPT-2 and GPT-4.")
    )
    monkeypatch.setattr("chatling.llm.open_engine", None)
    assert main(["eval", str(run.path), "tokenizer"]) == 0
    assert re.search(r"validation +[\d,]+ +[\d,]+ +\d+\.\d\d ", capsys.readouterr().out)
    assert (run.evals / "tokenizer.png").is_file()
    assert {row["text"] for row in results(run, "tokenizer")["results"]} >= {
        "news",
        "train",
        "validation",
    }  # type: ignore[attr-defined]
    assert main(["eval", str(run.path), "tokeniser"]) == 2
    assert "Did you mean 'tokenizer'?" in capsys.readouterr().err


def test_core_of_the_pocket_world(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run.path), "core", "--questions", "6", "--stage", "base"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"pocket capitals +[01]\.\d{4} \([+-]\d\.\d{4}\)", out)
    assert "at most 6 examples of each task: does not compare" in out
    found = results(run, "base-core")
    assert (found["stage"], found["eval"]) == ("base", "core")


def test_chat_of_every_stage_side_by_side(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "eval",
        str(run.path),
        "chat",
        "--questions",
        "2",
        "--stage",
        "all",
        "--max-tokens",
        "3",
        "--samples",
        "2",
    ]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert re.search(r"tiny base +tiny sft", out)
    assert "together" not in out
    assert "pass@2" in out
    assert results(run, "sft-chat")["samples"] == 2
    found = results(run, "base-chat")
    rows = found["results"]
    assert isinstance(rows, list)
    assert found["chatcore"] == pytest.approx(sum(row["accuracy"] for row in rows) / len(rows))


def test_bits_per_byte_at_another_context(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run.path), "bpb", "--context", "96"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"validation +\d+\.\d{4} bpb", out)
    assert "place 65 to 96" in out
    found = results(run, "sft-bpb")["results"]
    assert isinstance(found, dict)
    assert len(found["positions"]) == 96


def test_two_processes_share_the_work(run: RunFolder, tmp_path: Path) -> None:
    import subprocess
    import sys

    command = ["-m", "chatling", "eval", str(run.path), "core", "--questions", "9"]
    subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=120)
    alone = results(run, "sft-core")
    (run.evals / "sft-core.json").unlink()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *launcher, *command], check=True, capture_output=True, timeout=120
    )
    assert results(run, "sft-core") == alone


def test_a_model_of_the_hub_takes_core(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(run.tokenizer)
    tokenizer.save_pretrained(tmp_path / "gpt2")
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    write_core_bundle(tmp_path / "bundle", 0)
    capsys.readouterr()
    command = [
        "eval",
        f"hf:{tmp_path}/gpt2",
        "core",
        "--questions",
        "3",
        "--output",
        str(tmp_path / "found.json"),
    ]
    assert main(command) == 2
    assert "Which bundle for" in capsys.readouterr().err
    assert main([*command, "--bundle", str(tmp_path / "bundle")]) == 0
    assert "CORE" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["results"]["limit"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["harness"], "Which of lm-eval's tasks?"),
        (["chat", "--samples", "3", "--temperature", "0"], "are all the same"),
        (["chat", "--tasks", "GSM9K"], "Did you mean 'GSM8K'?"),
        (["core", "--bundle", "/nowhere"], "There is no CORE bundle in /nowhere"),
        (["bpb", "--tokens", "0"], "--tokens must be at least 1"),
    ],
)
def test_mistakes_are_one_sentence(
    run: RunFolder, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["eval", str(run.path), *words]) in (1, 2)
    assert said in capsys.readouterr().err
