"""The fine-tuning stages' tables, and the conversations that they prepare."""

from pathlib import Path
from typing import Any

import pytest

from chatling.config.stages import FinetuneConfig, MixtureEntry
from chatling.data.token_shards import TokenShards
from chatling.errors import RecipeError
from chatling.messages import Conversation
from chatling.tasks.identity import IdentityConfig
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer
from chatling.train.datasets import Sources
from chatling.train.finetune import prepare_finetune, source_facts


@pytest.mark.parametrize(
    "changes",
    [
        {"mixture": ()},
        {"pad_to_multiple_of": 0},
        {"batch_conversations": 0},
        {"batch_tokens": -1},
        {"validation_conversations": 0},
    ],
)
def test_senseless_numbers_are_refused(changes: dict) -> None:
    with pytest.raises(RecipeError):
        FinetuneConfig(
            **{"mixture": (MixtureEntry("pocket", count=1),), "packed": False, **changes}
        )


class Counting(Sources):
    """Twelve conversations a source; notes what it was asked for."""

    def load(
        self, entry: MixtureEntry, stage: str, split: str, most: int | None = None
    ) -> list[Conversation]:
        self.identity.asked.append((entry.task, split))
        return [Conversation.of(f"{entry.task} {split} {i}?", f"{i}.") for i in range(12)]

    def files(self, entries: Any, split: str) -> list[Path]:
        return []


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(
        iter(["a b c train validation 0 1 2 3?"] * 50), TokenizerConfig(vocab_size=300)
    )


def prepared(
    folder: Path, tokenizer: Tokenizer, config: FinetuneConfig
) -> tuple[int, int, list[tuple[str, str]]]:
    """(training, validation) conversations and what was loaded."""
    identity: Any = type("Noted", (), {"asked": [], "__repr__": lambda self: "noted"})()
    folders = folder / "sft-train", folder / "sft-validation"
    prepare_finetune("sft", 2, config, tokenizer, Counting(None, identity, 1), *folders, note=print)  # type: ignore[arg-type]
    train, validation = (TokenShards.open(path).documents for path in folders)
    return train, validation, identity.asked


def test_validation_takes_as_much_of_each_part_as_it_has(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    parts = MixtureEntry("a.jsonl", epochs=2), MixtureEntry("b.jsonl", count=5, split="test")
    config = FinetuneConfig(parts, packed=False, validation_conversations=20)
    asked = [
        ("a.jsonl", "train"),
        ("b.jsonl", "test"),
        ("a.jsonl", "validation"),
        ("b.jsonl", "validation"),
    ]
    assert prepared(tmp_path, tokenizer, config) == (29, 20, asked)


def test_a_validation_set_of_its_own_is_taken_whole(tmp_path: Path, tokenizer: Tokenizer) -> None:
    own = MixtureEntry("a.jsonl", split="test"), MixtureEntry("c.jsonl", count=7)
    config = FinetuneConfig(
        (MixtureEntry("a.jsonl"),), packed=False, validation=own, validation_conversations=1
    )
    assert prepared(tmp_path, tokenizer, config) == (
        12,
        19,
        [("a.jsonl", "train"), ("a.jsonl", "test"), ("c.jsonl", "validation")],
    )


def test_what_is_finished_is_not_loaded_again_until_it_changes(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config = FinetuneConfig((MixtureEntry("a.jsonl"),), packed=False)
    assert prepared(tmp_path, tokenizer, config)[2]
    assert prepared(tmp_path, tokenizer, config) == (12, 12, [])
    (tmp_path / "sft-train/shard_00000/tokens.bin").write_bytes(b"")
    assert prepared(tmp_path, tokenizer, config)[2]
    changed = FinetuneConfig((MixtureEntry("a.jsonl", count=3),), packed=False)
    assert prepared(tmp_path, tokenizer, changed)[0] == 3


def test_the_identity_counts_only_where_it_is_taught(tmp_path: Path) -> None:
    ada, bob = IdentityConfig(name="Ada"), IdentityConfig(name="Bob")
    without, taught = (
        FinetuneConfig((MixtureEntry(task),), packed=False) for task in ("GSM8K", "identity")
    )
    assert source_facts(without, ada) == source_facts(without, bob)
    assert source_facts(taught, ada) != source_facts(taught, bob)


def test_a_changed_file_of_ones_own_changes_the_stage(tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    config = FinetuneConfig(
        (MixtureEntry("pocket"),), packed=False, validation=(MixtureEntry(str(path)),)
    )
    seen = {repr(source_facts(config, IdentityConfig()))}
    for text in ("1", "2"):
        path.write_text(text)
        seen.add(repr(source_facts(config, IdentityConfig())))
    assert len(seen) == 3


def test_relative_paths_are_anchored_and_names_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talks.jsonl").write_text("")
    entries = (
        MixtureEntry("talks.jsonl"),
        MixtureEntry("GSM8K"),
        MixtureEntry("pocket"),
        MixtureEntry("gone.jsonl"),
    )
    anchored = FinetuneConfig(entries, packed=False, validation=entries[:1]).anchored()
    assert [entry.task for entry in anchored.mixture] == [
        str(tmp_path / "talks.jsonl"),
        "GSM8K",
        "pocket",
        "gone.jsonl",
    ]
    assert anchored.validation[0].task == str(tmp_path / "talks.jsonl")


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"task": "SmolTlk"}, r"no task 'SmolTlk'. Did you mean 'SmolTalk'\?"),
        ({"task": "HumanEval"}, "HumanEval has no split 'train'"),
        ({"task": "pocket2"}, "no task 'pocket2'. Tasks are"),
        ({"task": "SmolTalk", "subset": "main"}, "'SmolTalk' has no subsets"),
    ],
)
def test_tasks_that_there_are_not_are_refused_before_anything_runs(
    entry: dict[str, str], complaint: str
) -> None:
    with pytest.raises(RecipeError, match=complaint):
        FinetuneConfig((MixtureEntry(**entry),), packed=True)


@pytest.mark.parametrize("numbers", [{"count": -1}, {"epochs": -2}])
def test_negative_numbers_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="from 0 to"):
        MixtureEntry("GSM8K", **numbers)
