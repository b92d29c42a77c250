"""Fetch what a recipe needs, bring your own text or conversations, and look at what they hold."""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chatling.commands.common import Command, Parser, UsageError, command_parser, nearest
from chatling.data.config import HUB_NAME
from chatling.errors import DataError
from chatling.run_dir import RunFolder, home

if TYPE_CHECKING:
    from chatling.data.readers import Found


def run(command: Command, words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: chatling {command.usage}\n\n{command.about}\n")
        print(
            "\n".join(
                f"  chatling {action.usage}\n      {action.about}"
                for action, _ in _ACTIONS.values()
            )
        )
        print("\nEach has --help.")
        return
    if words[0] not in _ACTIONS:
        raise UsageError(
            f"`chatling data` does not know {words[0]!r}.",
            nearest(words[0], _ACTIONS) or f"It knows {', '.join(_ACTIONS)}.",
        )
    action, act = _ACTIONS[words[0]]
    act(command_parser(action), words[1:])


def _fetch(parser: Parser, words: Sequence[str]) -> None:
    parser.add_argument(
        "what",
        metavar="RECIPE|OWNER/NAME",
        help="a recipe, with any --table.field value, or a data set of the Hub",
    )
    parser.add_argument(
        "--files",
        metavar="PATTERN",
        help="of a Hub data set, such as 'data/train-*.parquet'; all of them",
    )
    given, overrides = parser.parse_known_args(words)

    from chatling.config.recipe import builtin_recipes, load_recipe

    if (
        given.what in builtin_recipes()
        or os.path.isfile(os.path.expanduser(given.what))
        or not HUB_NAME.fullmatch(given.what)
    ):
        from chatling.pipeline.downloads import fetch_first
        from chatling.pipeline.stages import STAGES

        files = [f"--files={given.files}"] if given.files else []
        recipe = load_recipe(given.what, files + overrides, prog="chatling data fetch RECIPE")
        later = fetch_first(recipe, [stage.name for stage in STAGES], print)
        if later is not None:
            later.fetch()
        print(
            f"All that {recipe.name} needs is here; `chatling run {given.what}` asks the network"
            " for nothing more."
        )
        return
    parser.parse(words)  # no overrides here

    from chatling.data.hub import Fetcher

    fetcher = Fetcher(note=print)
    names = fetcher.names(given.what)
    wanted = [name for name in names if fnmatch.fnmatch(name, given.files or "*")]
    if not wanted:
        has = f"it has {', '.join(names[:8])}"
        raise DataError(
            f"{given.what} has no files that match {given.files}; {has}.",
            "Choose others with --files.",
        )
    fetcher.paths(given.what, wanted)
    print(f"{len(wanted)} files of {given.what} are in {fetcher.cache / given.what}.")


def _import(parser: Parser, words: Sequence[str]) -> None:
    parser.add_argument(
        "source", metavar="PATH|OWNER/NAME", help="a file or folder, or a data set of the Hub"
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where to; data/<name> in the home folder"
    )
    parser.add_argument(
        "--files",
        metavar="PATTERN",
        help="of a Hub data set, such as 'data/train-*.parquet'; its training files",
    )
    parser.add_argument(
        "--allow-bad",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of rows that may be unusable and skipped (0.01)",
    )
    given = _parse_reading(parser, words)
    if not 0 <= given.allow_bad < 1:
        raise UsageError("--allow-bad must be at least 0 and below 1.")

    from rich.console import Console

    from chatling.data.prepare import import_data
    from chatling.terminal.data import reading, show_import

    found = _source(given.source, given.files)
    target = given.to or home() / "data" / _plain_name(given.source)
    with reading("Importing") as progress:
        counts = import_data(
            found,
            target.expanduser(),
            source=given.source,
            column=given.column,
            question=given.question,
            answer=given.answer,
            encoding=given.encoding,
            allow_bad=given.allow_bad,
            progress=progress,
        )
    show_import(counts, found.passed, Console())


def _parse_reading(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse with the options of reading a source."""
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="the column of the text, or of the turns; found by name and length",
    )
    parser.add_argument(
        "--question",
        metavar="NAME",
        action="append",
        default=[],
        help="the column of the question; again for what stands below it; found by name",
    )
    parser.add_argument("--answer", metavar="NAME", help="the column of the answer; found by name")
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        help="of text, jsonl and csv files without a byte order mark; UTF-8",
    )
    given = parser.parse(words)
    if bool(given.question) != (given.answer is not None):
        raise UsageError(
            "--question and --answer go together.", "Name the column of each, or neither."
        )
    if given.answer is not None and given.column is not None:
        raise UsageError(
            "--column is for text or turns in one column, --question and --answer for conversations"
            " in two.",
            "Take one.",
        )
    return given


def _inspect(parser: Parser, words: Sequence[str]) -> None:
    parser.add_argument(
        "source",
        metavar="PATH",
        help="a file, a folder, the name of an import, or a run's token shards",
    )
    parser.add_argument(
        "--run", metavar="RUN", help="count tokens by this run's tokenizer; an estimate"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="PATH",
        help="test sets to look for in the text; those in the cache",
    )
    given = _parse_reading(parser, words)

    from rich.console import Console

    from chatling.data.columns import (
        iter_planned,
        left_behind,
        plan_files,
        unused_prose,
        used_columns,
    )
    from chatling.data.contamination import TestGrams, find_test_sets
    from chatling.data.inspect import inspect_data
    from chatling.data.readers import RowErrors
    from chatling.data.shard_files import CORPUS
    from chatling.data.token_shards import TokenShards
    from chatling.terminal.data import passed_over, reading, show_inspection
    from chatling.tokenizer.bpe import Tokenizer

    named = home() / "data" / given.source
    path = (
        named
        if named.exists() and not Path(given.source).exists()
        else Path(given.source).expanduser()
    )
    shards = (path / CORPUS).exists()
    folder = (
        RunFolder.open(given.run).tokenizer
        if given.run is not None
        else path.parent.parent / "tokenizer"
        if shards
        else None
    )
    tokenizer = Tokenizer.load(folder) if folder else None
    tests = find_test_sets(given.against.expanduser() if given.against else home() / "cache")
    if given.against and not tests:
        raise DataError(
            f"There are no test sets in {given.against}.",
            "They are files with 'test' in the name, and a CORE bundle's.",
        )
    against = TestGrams(tests) if tests else None
    errors = RowErrors(allow_bad=float("inf"))
    if shards:
        assert tokenizer
        corpus = TokenShards.open(path)
        items = (tokenizer.decode(corpus.document(i)) for i in range(corpus.documents))
        seen = inspect_data(items, errors, tokenizer=tokenizer, against=against)
    else:
        found = _source(str(path), None)
        if found.passed:
            print(passed_over(found.passed))
        plans = plan_files(found.files, given.column, given.encoding, given.question, given.answer)
        with reading("Reading") as progress:
            seen = inspect_data(
                iter_planned(plans, errors, given.encoding, progress),
                errors,
                tokenizer=tokenizer,
                against=against,
            )
        seen.columns, seen.unused = used_columns(plans), unused_prose(plans)
        if fault := left_behind(plans):
            seen.warnings.append(f"An import stops: {fault}")
    show_inspection(seen, Console())


def _source(source: str, pattern: str | None) -> Found:
    """The files of a path, or of a data set on the Hub, fetched."""
    from chatling.data.readers import Found, find_files

    if not source:
        raise DataError("The source has no name.", "Name a file or a folder; . is this one.")
    path = Path(source).expanduser()
    if path.exists() or not HUB_NAME.fullmatch(source):
        return find_files(path)

    from collections import Counter

    from chatling.data.hub import Fetcher

    fetcher = Fetcher(note=print)
    return Found(
        tuple(fetcher.paths(source, hub_files(source, fetcher.names(source), pattern))), Counter()
    )


def hub_files(repo: str, names: Sequence[str], pattern: str | None) -> list[str]:
    """Which files of a data set to import: those that match the pattern, else the parquet ones, or
    the others if there are none; of these, the training files where names tell them. Raises
    DataError when there are none.
    """
    from chatling.data.readers import NOT_DATA, file_format

    data = [
        name for name in names if file_format(Path(name)) and not NOT_DATA.match(Path(name).name)
    ]
    if pattern is not None:
        data = [name for name in data if fnmatch.fnmatch(name, pattern)]
    else:
        data = [name for name in data if file_format(Path(name)) == "parquet"] or data
        data = [name for name in data if "train" in name] or data
    if not data:
        raise DataError(
            f"{repo} has no files to import{f' that match {pattern}' if pattern else ''}; it has"
            f" {', '.join(names[:8])}.",
            "Choose others with --files PATTERN.",
        )
    return data


def _plain_name(source: str) -> str:
    """`corpus` for `corpus.jsonl.gz` and `owner/corpus`; bytes that are no Unicode become `_`."""
    name = Path(source).expanduser().resolve().name.partition(".")[0]
    return re.sub("[\ud800-\udfff]", "_", name) or "imported"


_ACTIONS: dict[str, tuple[Command, Callable[[Parser, Sequence[str]], None]]] = {
    "fetch": (
        Command(
            "data fetch",
            "data fetch RECIPE|OWNER/NAME [--files PATTERN] [--table.field value …]",
            "what a run would fetch, beforehand; or files of a data set",
        ),
        _fetch,
    ),
    "import": (
        Command(
            "data import",
            "data import PATH|OWNER/NAME [--to FOLDER] …",
            "txt, md, jsonl, json, csv, parquet (also .gz, .zst) or a folder of them, as what runs"
            " train on",
        ),
        _import,
    ),
    "inspect": (
        Command(
            "data inspect",
            "data inspect PATH [--run RUN] [--against PATH] …",
            "documents, tokens, lengths, samples, and what is likely to be wrong",
        ),
        _inspect,
    ),
}
