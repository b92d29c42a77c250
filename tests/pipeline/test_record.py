"""A record of the first run: times, scores, recipe and logs, beside those of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatling.errors import RunError
from chatling.pipeline import record
from chatling.pipeline.record import Attempt, Record, kept_home, measure_record, page

TINY = (
    "--model.depth 1 --model.width 32 --model.head-width 16 --model.context 64 --base.steps 2"
    " --tokenizer.vocab-size 400 --base.batch-tokens 512 --base.validation-tokens 512"
    " --machine.compile off --mid.mixture.0.count 40 --sft.mixture.0.count 16"
    " --sft.batch-conversations 8 --dpo.pairs 40 --dpo.validation-pairs 8 --rl.steps 1"
    " --rl.questions 8 --rl.questions-per-step 4 --rl.samples 2 --rl.max-tokens 8"
    " --rl.evaluate-questions 4 --eval.questions 2"
)


def test_medians_of_times_and_shares_of_all_answers() -> None:
    attempts = [
        Attempt(seed, {record.TALK: talk, record.WHOLE: 300.0}, {"facts": (right, 4)})
        for seed, talk, right in ((1, 100.0, 4), (2, 170.0, 3), (3, 120.0, 4))
    ]
    rows = Record({}, "1", "2026-01-01", attempts).rows()
    assert [row["value"] for row in rows] == [120.0, 300.0, pytest.approx(1100 / 12)]


@pytest.mark.slow
def test_a_record_is_made_and_joins_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "SEEDS", (4,))
    folder = tmp_path / "records" / "mine"
    made = measure_record(folder, TINY.split())
    kept = json.loads((folder / record.RECORD).read_text())
    assert [each["seed"] for each in kept["attempts"]] == [4]
    assert kept["machine"]["cores"] >= 1
    times = {row["measure"]: row["value"] for row in made.rows()}
    assert 0 < times[record.TALK] < times[record.WHOLE]
    assert "facts" in times
    assert "It answers now" in (folder / "seed-4.log").read_text()
    assert "seed = 4" in (folder / "recipe.toml").read_text()
    assert "| [mine](mine/recipe.toml) |" in (tmp_path / "records/README.md").read_text()
    assert list(page(tmp_path / "records"))


def test_a_run_that_fails_is_told() -> None:
    with pytest.raises(RunError, match=r"ended with code 2: .*--no-such-key"):
        measure_record(None, ["--no-such-key", "1"])


def test_what_was_cut_off_goes_on_and_what_is_done_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path))

    def cut_off() -> None:
        with kept_home("law", ["--a", "1"]) as first:
            (first / "trained").touch()
            raise RunError("cut off")

    with pytest.raises(RunError):
        cut_off()
    with kept_home("law", ["--a", "2"]) as other:
        assert not (other / "trained").exists()
    with kept_home("law", ["--a", "1"]) as again:
        assert (again / "trained").exists()
    assert not list((tmp_path / "bench").iterdir())
