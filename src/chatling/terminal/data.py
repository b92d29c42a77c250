"""What an import did, and what a corpus holds, for the terminal."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from chatling.data.inspect import Inspection
from chatling.data.prepare import CONVERSATIONS, LONGEST, Imported
from chatling.terminal.tables import print_table
from chatling.tokenizer.bpe import valid_text

SAMPLE_CHARACTERS = 300
PASSED_NAMES = 12  # of kinds of files that were not read
BAR = 40  # characters of the histogram's longest bar


@contextmanager
def reading(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes with rate and time left, on a terminal; the callback takes (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show_import(counts: Imported, passed: Counter[str], console: Console) -> None:
    """What was written, dropped, skipped and passed over, and how to train on it."""
    talk, what = counts.kind == "conversations", counts.what
    taken = counts.used
    columns = f", column{'s' * (len(taken) > 1)} {', '.join(map(repr, taken))}" if taken else ""
    lines = [
        f"{counts.documents:,} {what}, {counts.characters:,} characters, from {counts.files:,}"
        f" file{'s' * (counts.files != 1)}{columns}: {counts.documents - counts.validation:,} to"
        f" train on, {counts.validation:,} for validation."
    ]
    lines += _not_used(counts.unused)
    dropped = {
        "empty": counts.empty,
        f"longer than {LONGEST:,} characters": counts.long,
        "2,000 characters without a space": counts.blobs,
    }
    if any(dropped.values()):
        lines.append(
            f"Dropped: {', '.join(f'{count:,} {why}' for why, count in dropped.items() if count)}."
        )
    if counts.bad:
        lines += [
            f"Skipped: {counts.bad:,} rows that could not be used.",
            *(f"  {example}" for example in counts.examples),
        ]
    if counts.unreadable:
        lines.append(
            f"Unreadable characters (U+FFFD or NUL) in {counts.unreadable:,} {what}; if they are"
            " many, name the --encoding."
        )
    if passed:
        lines.append(passed_over(passed))
    folder = Path(counts.folder)
    lines.append(
        "Written to"
        f" {folder}{', where it replaced the earlier import of the same source' * counts.replaced}."
    )
    lines.append(
        f'Learn from them with mixture = [{{task = "{folder / CONVERSATIONS}"}}] in [mid] or [sft].'
        if talk
        else f"Train on it: chatling run folder --data.source {folder} --run {folder.name}"
    )
    for line in lines:
        console.print(Text(valid_text(line)), soft_wrap=True)


def _not_used(columns: list[str]) -> list[str]:
    if not columns:
        return []
    return [
        f"Not used: column{'s' * (len(columns) > 1)} {', '.join(map(repr, columns))}, with text,"
        " too; --column, or --question and --answer, choose others."
    ]


def passed_over(passed: Counter[str]) -> str:
    """What of a folder was not read: folders, links and the like by name, then files, the most
    frequent first.
    """
    found = sorted(passed.most_common(), key=lambda entry: "(" not in entry[0])
    names = [f"{count:,} {name}" for name, count in found[:PASSED_NAMES]]
    more = sum(count for _, count in found[PASSED_NAMES:])
    return valid_text(f"Passed over: {', '.join([*names, f'{more:,} others'] if more else names)}.")


def show_inspection(seen: Inspection, console: Console) -> None:
    """Counts, histogram of lengths, samples, test sets looked for, warnings."""
    tokens = (
        f"{seen.tokens:,}"
        if seen.counted
        else f"about {seen.tokens:,} (at 4 bytes a token; --run RUN counts them)"
    )
    mean = seen.characters / max(1, seen.documents)
    facts = [
        (seen.what, f"{seen.documents:,}"),
        ("characters", f"{seen.characters:,} ({seen.bytes:,} bytes)"),
        ("tokens", tokens),
        ("characters each", f"{seen.shortest:,} to {seen.longest:,}, mean {mean:,.0f}"),
    ]
    if seen.counted:
        facts.append(("bytes per token", f"{seen.bytes / max(1, seen.tokens):.2f}"))
    if seen.columns:
        facts.append(("columns", ", ".join(map(repr, seen.columns))))
    if seen.conversations:
        facts.append(("answers", f"{seen.turns:,}"))
    print_table(console, ("", ""), facts, left=(0, 1))
    print_table(console, ("characters", "", ""), _histogram(seen), left=(2,))
    for text in seen.samples:
        shown = text if len(text) <= SAMPLE_CHARACTERS else f"{text[:SAMPLE_CHARACTERS]} …"
        console.print(Text.assemble(("\nSample: ", "bold"), shown), soft_wrap=True)
    console.print()
    for line in _not_used(seen.unused):
        console.print(Text(valid_text(line)), soft_wrap=True)
    if seen.overlap:
        console.print(
            Text(f"Looked for the questions of {', '.join(seen.overlap)}."), soft_wrap=True
        )
    for warning in seen.warnings:
        console.print(
            Text.assemble(("Warning: ", "bold yellow"), valid_text(warning)), soft_wrap=True
        )
    if not seen.warnings:
        console.print("Nothing looks wrong.")


def _histogram(seen: Inspection) -> Iterator[tuple[str, str, str]]:
    """A row for each doubling of the length."""
    most = max(seen.histogram.values(), default=1)
    for k in range(min(seen.histogram, default=0), max(seen.histogram, default=-1) + 1):
        count = seen.histogram.get(k, 0)
        bar = "█" * round(BAR * count / most) or "▏" * (count > 0)
        yield "0" if k < 0 else f"{1 << k:,}–{(2 << k) - 1:,}", f"{count:,}", bar
