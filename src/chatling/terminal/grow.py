"""What was understood of a user's files, and how the assistant made of them answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from chatling.data.facts import Source
from chatling.errors import DataError
from chatling.run_dir import RunFolder, read_json
from chatling.terminal.tables import print_table
from chatling.train.metrics import read_metrics, read_samples

WHAT = {
    "questions": "questions with answers",
    "conversations": "conversations",
    "things": "a table of things",
    "notes": "notes",
}
SHOWN = 30  # files
LAST = 20  # steps whose loss is averaged


def show_sources(sources: Sequence[Source], console: Console) -> None:
    """Each file: what it is, how many facts and characters of text were found, its columns."""
    rows = [
        (
            source.file.name,
            WHAT[source.kind],
            f"{len(source.facts):,}",
            f"{sum(map(len, source.texts)):,}",
            ", ".join(source.columns[:8]),
        )
        for source in sources[:SHOWN]
    ]
    print_table(console, ("file", "read as", "facts", "text", "columns"), rows, left=(0, 1, 4))
    if len(sources) > SHOWN:
        console.print(f"… and {len(sources) - SHOWN:,} files more")
    for source in sources:
        for example in source.examples[:1]:
            console.print(f"{source.skipped:,} rows skipped; {example}", highlight=False)


def show_scores(folder: RunFolder, console: Console) -> None:
    """The held-out questions by skill, some with the most advanced model's answers, and whether it
    has memorized rather than learned.
    """
    stage = folder.finished_stage()
    try:
        results = read_json(folder.evals / f"{stage}-chat.json")["results"]
        rows = [
            (row["name"], f"{row['accuracy']:.1%}", f"{row['total']:,}")
            for row in results
            if row["total"]
        ]
    except (DataError, KeyError, TypeError):
        rows = []
    print_table(console, ("held-out questions", "right", "asked"), rows)
    kept = read_samples(folder.evals / f"{stage}-samples.jsonl")
    answers = [(each["prompt"], each["text"]) for each in kept[-1]["samples"]] if kept else []
    print_table(console, ("asked", "answered"), answers, left=(0, 1))
    if note := memorized(read_metrics(folder.stage(stage) / "metrics.jsonl")):
        console.print(note, highlight=False)


def memorized(lines: Sequence[Mapping[str, Any]]) -> str | None:
    """What to say where the loss of held-out questions lies far above that of training."""
    held_out = next((line["val_loss"] for line in reversed(lines) if "val_loss" in line), None)
    trained = [line["loss"] for line in lines[-LAST:] if "loss" in line]
    if held_out is None or not trained:
        return None
    mean = sum(trained) / len(trained)
    if held_out <= 2 * mean + 0.2:
        return None
    return (
        f"Memorized: the loss is {mean:.2f} on what it was trained on and {held_out:.2f} on"
        " questions in other words. More --minutes give more wordings of each."
    )
