"""`chatling improve`: from what was thought of answers to a model that is kept or dropped."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatling.cli import main
from chatling.config.recipe import Recipe, load_recipe, to_toml
from chatling.config.stages import MixtureEntry
from chatling.pipeline import improve
from chatling.pipeline.runner import frozen_recipe
from chatling.run_dir import RunFolder, read_manifest

from ..serve.conftest import save_run

SMALL = (
    *("--dpo.watch-questions", "10", "--dpo.batch-pairs", "64"),
    *("--machine.threads", "1", "--machine.compile", "off", "--machine.kernel", "plain"),
)


def pair(i: int, worse: str = "I think that it is %d, my dear friend.") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"What is {i}?"}],
        "chosen": [{"role": "assistant", "content": f"{i}."}],
        "rejected": [{"role": "assistant", "content": worse % i}],
    }


def polite(i: int) -> dict[str, Any]:
    found = pair(i)
    found["rejected"][0]["content"] = f"{i} is what you asked for."
    found["chosen"][0]["content"] = f"Gladly! {i} is what you asked for."
    return found


def write_pairs(run: RunFolder, count: int, make: Callable[[int], dict[str, Any]] = pair) -> None:
    run.feedback.mkdir(exist_ok=True)
    lines = "".join(json.dumps(make(i)) + "\n" for i in range(count))
    (run.feedback / "pairs.jsonl").write_text(lines)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with an untrained model, of a recipe whose data are the built-in world's."""
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path))
    monkeypatch.setattr(improve, "TRAINED", 60)
    monkeypatch.setattr(improve, "MIXED", 64)
    monkeypatch.setattr(improve, "MOST_TOKENS", 4)
    monkeypatch.setattr("chatling.train.retention.MOST_TOKENS", 4)
    run = save_run(tmp_path / "runs" / "mine", "base", "sft", "rl", context=128)
    recipe: Recipe = load_recipe("pocket", SMALL)
    (run.path / "recipe.toml").write_text(to_toml(replace(recipe, name="mine")))
    return run


def test_from_pairs_to_a_model_that_is_kept(
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_pairs(run, 20)
    before = read_manifest(run.model("rl"))
    assert main(["improve", "mine"]) == 0
    said = capsys.readouterr().out
    assert "20 pairs of yours become mine-improved-1" in said
    assert "Not decided" in said
    assert "likelier one in" in said
    new = RunFolder.open("mine-improved-1")
    (found,) = improve.improvements(run)
    learned, held_out = (
        [json.loads(line) for line in (found.folder / "pairs" / name).read_text().splitlines()]
        for name in ("train.jsonl", "valid.jsonl")
    )
    assert len(held_out) == 4
    own = [row for row in learned if row["chosen"][0]["content"][:-1].isdigit()]
    assert len(own) == 64  # 16, four times
    assert len(learned) == 64 + improve.MIXED  # with some of the built-in world
    assert not {repr(row["prompt"]) for row in learned} & {repr(row["prompt"]) for row in held_out}
    recipe = frozen_recipe(new)
    assert recipe.origin is not None
    assert (recipe.origin.source, recipe.origin.stage) == (str(run.path), "rl")
    assert recipe.dpo is not None
    assert recipe.dpo.watch == ("pocket", "free")
    assert read_manifest(run.model("rl")) == before  # the old one is as it was
    trained = read_manifest(new.model("dpo"))
    assert trained != before

    # asked again, it is not trained again, and later pairs wait
    write_pairs(run, 30)
    assert main(["improve", "mine", "--keep"]) == 0
    said = capsys.readouterr().out
    assert "mine-improved-1, begun with 20 pairs, is continued" in said
    assert "Kept. Talk to it: chatling chat mine-improved-1" in said
    assert read_manifest(new.model("dpo")) == trained
    assert main(["chat", "--prompt", "What is 3?", "--max-tokens", "3"]) == 0  # the latest run
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["chat", "mine"]) == 0
    assert "kept: chatling chat mine-improved-1" in capsys.readouterr().out
    assert main(["improve", "mine", "--drop"]) == 1  # it is decided
    assert "no improvement that waits" in capsys.readouterr().err

    # the next one is another
    assert improve.begin(run, print).run.name == "mine-improved-2"
    assert main(["improve", "mine-improved-2", "--drop"]) == 1  # not a run yet
    assert main(["improve", "mine", "--drop"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "mine",
        "mine-improved-1",
    ]
    assert improve.undecided(run) is None


def test_what_was_not_learned_is_tried_once_more(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(improve, "LEARNED", 1.1)  # nothing is enough
    write_pairs(run, 20)
    assert main(["improve", "mine"]) == 0
    said = capsys.readouterr().out
    assert said.count("once more, at twice the rate") == 1
    new = RunFolder.open("mine-improved-1")
    dpo = frozen_recipe(new).dpo
    assert dpo is not None
    assert dpo.learning_rate_fraction == improve.AGAIN * improve.RATE
    trained = read_manifest(new.model("dpo"))
    assert main(["improve", "mine"]) == 0
    assert "once more" not in capsys.readouterr().out
    assert read_manifest(new.model("dpo")) == trained


def test_what_the_pairs_add_is_added_to_what_it_was_trained_on(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatling.pipeline.improve_talks.TAUGHT", 300)
    monkeypatch.setattr("chatling.pipeline.improve_talks.ENOUGH", 300)
    write_pairs(run, 20, polite)
    assert main(["improve", "mine"]) == 0
    said = capsys.readouterr().out
    assert "Most of your pairs add 'Gladly!' in front of an answer, and nothing else: so do" in said
    assert "now 300 of 300 conversations" in said
    assert "Old skills" in said
    assert "The better answer is the likelier one in" in said
    new = RunFolder.open("mine-improved-1")
    (found,) = improve.improvements(run)
    assert (found.stage, new.finished_stage()) == ("sft", "sft")
    recipe = frozen_recipe(new)
    assert recipe.sft is not None
    assert (recipe.dpo, recipe.mid) == (None, None)
    (entry,) = recipe.sft.mixture
    talks = [json.loads(line)["messages"] for line in Path(entry.task).read_text().splitlines()]
    answers = [
        "".join(part["text"] for part in turn["content"] if part["type"] == "text")
        if isinstance(turn["content"], list)
        else turn["content"]
        for talk in talks
        for turn in talk[1::2]
    ]
    assert all(answer.startswith("Gladly! ") for answer in answers)
    held_out = {repr(each.prompt.to_dict()["messages"]) for each in found.held_out()}
    assert not held_out & {repr(talk[:1]) for talk in talks}
    assert len(talks) == 300 + 16 * 4  # the pairs' own, four times

    # another one goes on from it, with the conversations that it was trained on
    write_pairs(new, 20, lambda i: polite(i + 100))
    assert main(["improve", "mine-improved-1", "--keep"]) == 0
    capsys.readouterr()
    second = improve.begin(new, print)
    assert second.run.name == "mine-improved-2"
    assert "now 0 of 300 conversations" in capsys.readouterr().out
    taught = (second.folder / "talks.jsonl").read_text()
    assert "Gladly! " in taught
    assert "Gladly! Gladly!" not in taught

    # other pairs are learned by DPO, held by the tasks of the run that it all began with
    write_pairs(new, 20)
    third = improve.begin(new, print)
    assert third.recipe.dpo is not None
    assert third.recipe.dpo.watch == ("pocket", "free")
    assert third.recipe.dpo.learning_rate_fraction == improve.RATE
    learned = (third.folder / "pairs" / "train.jsonl").read_text().splitlines()
    assert len(learned) == 64 + improve.MIXED


@pytest.mark.parametrize("found", ["gone", "few", "some"])
def test_without_what_it_was_trained_on_pairs_that_add_are_like_others(
    run: RunFolder, tmp_path: Path, found: str
) -> None:
    """The files are gone, hold little, or some are the Hub's, which are not downloaded for this."""
    recipe, own = frozen_recipe(run), tmp_path / "talks.jsonl"
    assert recipe.mid is not None
    if found != "gone":
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
        count = 200 if found == "few" else 5000
        own.write_text((json.dumps({"messages": turns}) + "\n") * count)
    mixture = [MixtureEntry(str(own)), *([MixtureEntry("SmolTalk")] if found == "some" else [])]
    gone = replace(recipe.mid, mixture=tuple(mixture))
    (run.path / "recipe.toml").write_text(to_toml(replace(recipe, mid=gone, sft=None, rl=None)))
    write_pairs(run, 20, polite)
    notes = list[str]()
    assert improve.begin(run, notes.append).stage == "dpo"
    assert any("'Gladly!' in front of an answer. Of what the run was" in note for note in notes)


@pytest.mark.parametrize("count", [0, 7])
def test_too_little_to_learn_from(
    run: RunFolder, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if count:
        write_pairs(run, count)
    assert main(["improve", "mine"]) == 1
    said = capsys.readouterr().err
    assert f"has {count} preference pairs" in said
    assert "chatling serve mine" in said
    assert improve.improvements(run) == []


def test_a_base_model_is_none_to_improve(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    young = save_run(tmp_path / "runs" / "young", "base")
    (young.path / "recipe.toml").write_text((run.path / "recipe.toml").read_text())
    write_pairs(young, 20)
    assert main(["improve", "young"]) == 1
    assert "no model yet that chats" in capsys.readouterr().err
