"""From a user's files to what a run reads."""

import json
from pathlib import Path

import pytest

from chatling.cli import main
from chatling.config.recipe import Recipe, load_recipe
from chatling.data.facts import Fact
from chatling.pipeline import grow
from chatling.pipeline.checks import check
from chatling.pipeline.grow_files import Understood, Wish, understand
from chatling.run_dir import home
from chatling.toy import topics
from chatling.toy.language import Random
from chatling.toy.packs import load_pack
from chatling.toy.world import training_fact

TABLE = "question,answer\n" + "".join(
    f"Where is the {thing}?,The {thing} is in room {n}.\n"
    for n, thing in enumerate(("lathe", "kiln", "loom", "forge", "anvil", "press"))
)


@pytest.fixture(autouse=True)
def small_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(grow, "LEAST", 120)
    monkeypatch.setattr(grow, "MOST", 150)
    monkeypatch.setattr(grow, "TEXT_CHARACTERS", 20_000)
    monkeypatch.setattr(grow, "reached_flops", lambda recipe, tokens: 1e11)
    (tmp_path / "tools.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def test_a_dry_run_writes_what_would_be_learned(
    small_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["grow", str(small_home / "tools.csv"), "--name", "Ada", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "found in the first" not in said
    assert "questions with answers" in said
    assert "6 facts in English" in said
    folder = home() / "data/ada"
    held = [json.loads(line) for line in lines(folder / "held-out.jsonl")]
    talks = [json.loads(line)["messages"] for line in lines(folder / "conversations.jsonl")]
    asked = {row["messages"][-2]["content"].lower() for row in held}
    trained = talks[len(talks) // 50 :]
    assert not asked & {turn["content"].lower() for talk in trained for turn in talk[::2]}
    assert len(lines(folder / "facts.jsonl")) == 6
    recipe = load_recipe(str(folder / "recipe.toml"))
    assert recipe.name == "ada"
    check(recipe)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}
    assert main(["grow", str(small_home / "tools.csv"), "--name", "Ada", "--dry-run"]) == 0
    after = {path: path.stat().st_mtime_ns for path in before}
    kept = {"conversations.jsonl", "held-out.jsonl", "shard_00000.parquet"}
    assert all(after[path] == before[path] for path in before if path.name in kept)
    monkeypatch.setattr(topics, "COMPARED", 5)
    assert main(["grow", str(small_home / "tools.csv"), "--name", "Ada", "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "found in the first 5 of them; of the other 1 no questions" in said


@pytest.mark.parametrize(("code", "own"), [("en", "chatling"), ("zh", "小聊")])
def test_the_built_in_world_has_the_assistants_name_and_no_facts(code: str, own: str) -> None:
    seen = Understood((), code, load_pack(code), (Fact("?", "!"),), ())
    talks = grow.made_world(Wish((), "Ada"), seen, 3_000)
    texts = [message.text for talk in talks for message in talk.messages]
    assert not [text for text in texts if own in text.lower()]
    rng = Random("facts", grow.WORLDS[code])
    told = {training_fact(rng).messages[-1].text for _ in range(200)}
    assert not told & set(texts)


def test_base_need_not_learn_again_when_answers_change(small_home: Path) -> None:
    """The text stays, and with it the fingerprints of tokenizer and base."""
    words = ["grow", str(small_home / "tools.csv"), "--name", "Ada", "--dry-run"]
    assert main(words) == 0
    text = (home() / "data/ada/text/shard_00000.parquet").read_bytes()
    talks = lines(home() / "data/ada/conversations.jsonl")
    (small_home / "tools.csv").write_text(TABLE.replace("room 3", "room 9"), encoding="utf-8")
    assert main(words) == 0
    assert (home() / "data/ada/text/shard_00000.parquet").read_bytes() == text
    assert lines(home() / "data/ada/conversations.jsonl") != talks


def test_what_cannot_be_asked_about_is_a_sentence(
    small_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in {
        ("--minutes", "0"): "--minutes must be above 0",
        ("--name", " "): "--name must not be empty",
    }.items():
        assert main(["grow", str(small_home), "--name", "Ada", *words]) == 2
        assert said in capsys.readouterr().err
    (small_home / "tools.csv").write_text("question,answer\n", encoding="utf-8")
    assert main(["grow", str(small_home), "--name", "Ada"]) == 1
    assert "can be asked about" in capsys.readouterr().err


def test_a_smaller_batch_is_timed_where_the_minutes_hold_few_conversations(
    small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of a step goes by the number of conversations, and what a step reaches by its
    size.
    """
    monkeypatch.setattr(grow, "MOST", 400_000)
    monkeypatch.setattr(grow, "BATCHES", {1_000: 256, 10_000: 512, 400_000: 1024})
    asked: list[int] = []

    def reached(recipe: Recipe, tokens: int) -> float:
        asked.append(tokens)
        return {256: 1e8, 512: 2e9, 1024: 1e11}[tokens]

    monkeypatch.setattr(grow, "reached_flops", reached)
    wish = Wish((str(small_home / "tools.csv"),), "Ada", minutes=4)
    most = grow._fitting(wish, understand(wish))
    assert asked == [1024]
    assert most > 10_000
    asked.clear()
    monkeypatch.setattr(grow, "reached_flops", lambda r, tokens: reached(r, tokens) / 40)
    few = grow._fitting(wish, understand(wish))
    assert asked == [1024, 256]
    assert grow.LEAST <= few <= 1_000
