"""What is said of a grown assistant."""

import io
import json
from pathlib import Path

from rich.console import Console

from chatling.data.facts import Fact, Source
from chatling.run_dir import MANIFEST, RunFolder
from chatling.terminal.grow import memorized, show_scores, show_sources


def test_files_are_listed_with_what_they_were_read_as() -> None:
    out = io.StringIO()
    facts = (Fact("Who?", "Ada."),)
    sources = [Source(Path(f"notes/{n}.csv"), "questions", facts) for n in range(40)]
    show_sources(sources, Console(file=out, width=120))
    assert "questions with answers" in out.getvalue()
    assert "and 10 files more" in out.getvalue()


def test_scores_stand_beside_some_answers(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "ada")
    (run.model("sft")).mkdir(parents=True)
    (run.model("sft") / MANIFEST).write_text("{}")
    run.evals.mkdir()
    results = {"results": [{"name": "rephrased", "accuracy": 0.9, "total": 10}]}
    (run.evals / "sft-chat.json").write_text(json.dumps(results))
    sample = {"topic": "rephrased", "prompt": "Wer kommt?", "text": "Anna.", "right": True}
    (run.evals / "sft-samples.jsonl").write_text(json.dumps({"step": 1, "samples": [sample]}))
    out = io.StringIO()
    show_scores(run, Console(file=out, width=120))
    for text in ("rephrased", "90.0%", "Wer kommt?", "Anna."):
        assert text in out.getvalue()


def test_memorized_is_where_the_losses_part() -> None:
    assert memorized([]) is None
    assert memorized([{"loss": 0.5}, {"loss": 0.4, "val_loss": 0.6}]) is None
    assert "0.45 on what" in str(memorized([{"loss": 0.5}, {"loss": 0.4, "val_loss": 1.6}]))
