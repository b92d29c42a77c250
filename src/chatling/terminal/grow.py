"""What was understood of a user's files, and how the assistant made of them answers."""

from collections.abc import Sequence

from rich.console import Console

from chatling.data.facts import Source
from chatling.errors import DataError
from chatling.run_dir import RunFolder, read_json
from chatling.terminal.tables import print_table

WHAT = {
    "questions": "questions with answers",
    "conversations": "conversations",
    "things": "a table of things",
    "notes": "notes",
}
SHOWN = 30  # files


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
    """The held-out questions by skill, of the most advanced model."""
    path = folder.evals / f"{folder.finished_stage()}-chat.json"
    try:
        results = read_json(path)["results"]
    except (DataError, KeyError, TypeError):
        return
    rows = [
        (row["name"], f"{row['accuracy']:.1%}", f"{row['total']:,}")
        for row in results
        if row["total"]
    ]
    print_table(console, ("held-out questions", "right", "asked"), rows)
