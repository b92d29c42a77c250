"""What mixtures come to: the reference's counts with complete data sets, and where an entry's
conversations come from.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatling.config.recipe import Recipe, from_toml, load_recipe
from chatling.config.stages import MixtureEntry
from chatling.data.hub import Fetcher
from chatling.errors import DataError
from chatling.messages import Conversation
from chatling.tasks.identity import IdentityConfig
from chatling.tasks.registry import TASKS, expected_length
from chatling.toy.dataset import BUILT_IN
from chatling.train.datasets import Sources, notes

# DESIGN, section 5
MID = {
    "SmolTalk": 460_341,
    "MMLU": 99_842,
    "GSM8K": 7_473,
    "SimpleSpelling": 200_000,
    "SpellingBee": 80_000,
    "identity": 2_000,
}
SFT = {
    "ARC-Easy": 2_251,
    "ARC-Challenge": 1_119,
    "GSM8K": 7_473,
    "SmolTalk": 10_000,
    "identity": 1_000,
}
SFT |= {"SimpleSpelling": 300, "SpellingBee": 300}
MID_VALIDATION = {"SmolTalk": 24_229, "MMLU": 5_200, "GSM8K": 420}
FINETUNING = Path(__file__).parents[2] / "docs/finetuning.md"


class Stub(Sequence[Conversation]):
    """As many conversations as a data set has when it is complete."""

    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        return Conversation.of(f"{index}?", f"{index}.")


class Complete(Sources):
    """Every data set at its full length, without the data."""

    def load(self, entry: MixtureEntry, stage: str, split: Any, most: Any = None) -> Stub:
        length = (
            entry.count
            if not TASKS[entry.task].repo and entry.count is not None
            else expected_length(entry.task, entry.split or split)
        )
        assert length is not None
        return Stub(length)


def counted(entries: tuple[MixtureEntry, ...], split: Any) -> dict[str, int]:
    """Conversations of each part that are really in the mixture."""
    mixture = Complete(lambda: Fetcher(), IdentityConfig(), 1).mixture(entries, 1, split)
    names = [part.name for part in mixture.parts]
    met = Counter(
        names[mixture.locate(i)[0]]
        for i in range(0, len(mixture), 101 if len(mixture) > 100_000 else 1)
    )
    totals = {part.name: part.total for part in mixture.parts}
    assert sum(totals.values()) == len(mixture)
    for name, total in totals.items():  # each in its proportion
        assert met[name] / sum(met.values()) == pytest.approx(total / len(mixture), abs=0.025)
    assert len(mixture) == sum(entry.expected or 0 for entry in entries) or split != "train"
    return totals


def documented() -> Recipe:
    """The two tables that docs/finetuning.md shows."""
    block = next(
        text
        for text in re.findall(
            r"```toml\n(.*?)```", FINETUNING.read_text(encoding="utf-8"), re.DOTALL
        )
        if "SmolTalk" in text
    )
    return from_toml(Recipe, block, "docs/finetuning.md")


@pytest.mark.parametrize("name", ["docs", "spark", "spark-modern", "speedrun", "d32"])
def test_the_reference_mixtures_have_the_reference_s_counts(name: str) -> None:
    recipe = documented() if name == "docs" else load_recipe(name)
    assert recipe.mid is not None
    assert recipe.sft is not None
    assert counted(recipe.mid.mixture, "train") == MID
    assert counted(recipe.mid.held_out, "validation") == MID_VALIDATION
    assert counted(recipe.sft.mixture, "train") == SFT
    assert sum(SFT.values()) == 22_443
    assert 840_000 < sum(MID.values()) < 860_000
    assert {entry.task for entry in recipe.sft.held_out} == {"SmolTalk"}
    assert (recipe.mid.packed, recipe.sft.packed) == (True, False)


def write(path: Path, count: int, bad: int = 0) -> MixtureEntry:
    lines = [json.dumps(Conversation.of(f"{i}?", f"{i}.").to_dict()) for i in range(count)] + [
        "{"
    ] * bad
    path.write_text("\n".join(lines))
    return MixtureEntry(str(path))


def test_parts_come_from_wherever_they_are(tmp_path: Path) -> None:
    sources = Sources(lambda: Fetcher(local=tmp_path), IdentityConfig(name="Ada"), 1)
    entries = (
        MixtureEntry("pocket", count=30),
        MixtureEntry("identity", epochs=2, count=20),
        write(tmp_path / "talks.jsonl", 200, bad=1),
    )
    mixture = sources.mixture(entries, 2, "train")
    assert [part.total for part in mixture.parts] == [30, 40, 196]
    talks = Counter(mixture[i] for i in range(len(mixture)))
    assert sum(count == 2 for count in talks.values()) >= 20
    (note,) = notes(mixture)
    assert note.startswith(
        f"{tmp_path / 'talks.jsonl'}: left out 1 of 201 lines; line 201 is not a conversation"
    )
    held_out = sources.mixture(entries, 2, "validation", most=10)
    assert [part.total for part in held_out.parts] == [10, 10, 4]
    assert not {held_out[i] for i in range(len(held_out)) if held_out.locate(i)[0] != 1} & set(
        talks
    )
    assert sources.files(entries, "train") == [tmp_path / "talks.jsonl"]


def test_stages_and_seeds_draw_other_conversations_of_the_pocket_world() -> None:
    entry = MixtureEntry("pocket", count=50)
    drawn = {
        (seed, stage, split): tuple(
            Sources(lambda: Fetcher(), IdentityConfig(), seed).load(entry, stage, split)
        )  # type: ignore[arg-type]
        for seed in (1, 2)
        for stage in (1, 2)
        for split in ("train", "validation")
    }
    assert len(set(drawn.values())) == 8


def test_a_count_is_a_different_part_each_time_until_all_were_there(tmp_path: Path) -> None:
    path = write(tmp_path / "talks.jsonl", 102).task
    sources = Sources(lambda: Fetcher(), IdentityConfig(), 1)
    mixture = sources.mixture((MixtureEntry(path, epochs=4, count=50),), 2, "train")
    met = Counter(mixture[i] for i in range(len(mixture)))
    assert (len(met), set(met.values())) == (100, {2})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    sources = Sources(lambda: Fetcher(), IdentityConfig(), 1)
    with pytest.raises(DataError, match=r"There is no task or file '.*gone\.jsonl'"):
        sources.mixture((MixtureEntry(str(tmp_path / "gone.jsonl")),), 2, "train")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (MixtureEntry("MMLU", epochs=3), 299_526),
        (MixtureEntry("GSM8K", epochs=4), 29_892),
        (MixtureEntry("SpellingBee", count=300), 300),
        (MixtureEntry("pocket"), 10_000),
        (MixtureEntry("MMLU", split="test"), 14_042),
        (MixtureEntry("own.jsonl"), None),
        (MixtureEntry("own.jsonl", count=5, epochs=2), 10),
    ],
)
def test_what_an_entry_will_come_to_is_known_beforehand(
    entry: MixtureEntry, expected: int | None
) -> None:
    assert entry.expected == expected


def test_a_generated_source_makes_no_more_than_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    pocket = BUILT_IN["pocket"]

    def counted(seed: int, count: int) -> Any:
        made.append(count)
        return pocket.conversations(seed, count)

    counting = {**BUILT_IN, "pocket": replace(pocket, conversations=counted)}
    monkeypatch.setattr("chatling.train.datasets.BUILT_IN", counting)
    sources = Sources(lambda: Fetcher(), IdentityConfig(), 1)
    entry = MixtureEntry("pocket", count=50)
    taken = sources.mixture((entry,), 1, "validation", most=8)
    assert made == [8]
    assert len(taken) == 8
    assert len(sources.mixture((entry,), 1, "train")) == made[-1] == 50
