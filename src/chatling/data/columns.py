"""Which columns of a file hold its text or conversations, and which text stays unread."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from chatling.data.chat_formats import (
    Columns,
    find_columns,
    may_be_turns,
    parse_conversation,
    preference_columns,
    text_of,
)
from chatling.data.names import (
    CHOICES,
    HISTORY,
    ROLE_KEYS,
    SYSTEM,
    TEXT,
    TEXT_KEYS,
    find_name,
    plain,
    role_of,
)
from chatling.data.readers import Row, RowErrors, file_format, iter_rows, placed_rows
from chatling.errors import DataError
from chatling.messages import Conversation, kind_of, shown

PEEKED_ROWS = 200  # of a file, to tell what it holds
# of the text that is used: a column that holds so much may not be left behind unasked
AS_MUCH = 0.5
DEEPEST = 8  # levels of lists and objects that are searched for text
WORD = re.compile(r"[^\W\d_]+")
# Chinese and Japanese, which are written without spaces
WIDE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]")
WORDS_OF_PROSE = 3  # below, a value is a name, a kind or a number
MENDS = {
    "jsonl": 'Write one JSON object a line, such as {"text": "…"}.',
    "json": 'Write a list of objects with named values, such as [{"text": "…"}].',
    "csv": "Put values that hold the delimiter or a line break in double quotes.",
}

Kind = Literal["text", "conversations"]


@dataclass(frozen=True)
class Plan:
    """How a file is read: as text, from `column` unless it is a text file, or as conversations,
    from `columns`.

    `columns` are read of every row when `asked` for; else they are those of the first row, and each
    row tells its own.
    """

    file: Path
    kind: Kind
    columns: Columns = field(default_factory=Columns)
    used: tuple[str, ...] = ()  # names of columns
    # columns that hold prose -> how much, as a share of what is used
    unused: Mapping[str, float] = field(default_factory=dict)
    asked: bool = False  # somebody named the columns

    @property
    def column(self) -> str | None:
        """Of text."""
        return self.columns.answer if self.kind == "text" else None


def plan_file(
    file: Path,
    column: str | None = None,
    encoding: str | None = None,
    question: Sequence[str] = (),
    answer: str | None = None,
) -> Plan | None:
    """Tell by its first rows what a file holds; None when it has no rows.

    A `column` named decides, or the columns of the `question` and the `answer`; else conversations
    are told by names and values, and text is the column of a usual name, or that of the longest
    texts. Raises DataError when there is no such column, none of text, or no row that can be used,
    and for preference pairs.
    """
    errors = RowErrors(allow_bad=math.inf)
    rows = list(islice(iter_rows(file, errors, encoding=encoding), PEEKED_ROWS))
    if not rows and errors.bad:
        reasons = "; ".join(
            example.removeprefix(f"{file} ").rstrip(".") for example in errors.examples[:2]
        )
        raise DataError(
            f"None of the {errors.bad:,} rows of {file} can be used: {reasons}.",
            MENDS.get(file_format(file) or ""),
        )
    named = [row for row in rows if not isinstance(row, str)]
    if not named:
        return Plan(file, "text") if rows else None
    names = list(dict.fromkeys(str(name) for row in named for name in row))
    if answer is not None:
        asked = tuple(_column(file, names, name, "--question") for name in question)
        rest = [name for name in names if name not in asked]
        columns = Columns(
            None,
            asked,
            _column(file, names, answer, "--answer"),
            find_name(rest, SYSTEM),
            find_name(rest, HISTORY),
        )
        return _plan(file, "conversations", named, lambda row: columns, asked=True)
    if column is not None:
        return _named_plan(file, named, names, _column(file, names, column, "--column"))
    if _most(named, lambda row: preference_columns(row) is not None):
        raise DataError(
            f"{file} holds preference pairs (a better and a worse answer), which are no text and no"
            " conversations.",
            f'They are for [dpo]: data = "{file}". --column takes one column alone.',
        )
    if _most(named, lambda row: find_columns(row) is not None):
        _refuse_marked_answers(file, named)
        return _plan(file, "conversations", named, find_columns)
    _refuse_single_messages(file, named)
    found = _text_column(file, named, names)
    return _plan(file, "text", named, lambda row: Columns(answer=found))


def plan_files(
    files: Sequence[Path],
    column: str | None = None,
    encoding: str | None = None,
    question: Sequence[str] = (),
    answer: str | None = None,
) -> list[Plan]:
    """Plans of the files that hold anything. Raises DataError when they are of both kinds, or all
    empty.
    """
    plans = [
        plan for file in files if (plan := plan_file(file, column, encoding, question, answer))
    ]
    kinds = {plan.kind: plan.file for plan in plans}
    if not plans:
        raise DataError(
            f"{files[0]}{' and the others hold' if len(files) > 1 else ' holds'} nothing.",
            "Bring a file with text in it.",
        )
    if len(kinds) > 1:
        raise DataError(
            f"{kinds['text']} holds text and {kinds['conversations']} conversations.",
            "Take them one by one, or name the --column of the text.",
        )
    return plans


def left_behind(plans: Sequence[Plan]) -> DataError | None:
    """What to say where a column that nobody chose against holds about as much text as what would
    be used.
    """
    for plan in plans:
        name = next(
            (
                name
                for name, share in plan.unused.items()
                if share >= AS_MUCH or plain(name) in CHOICES
            ),
            None,
        )
        if name is None or plan.asked:
            continue
        used, share = " and ".join(map(repr, plan.used)), plan.unused[name]
        return DataError(
            f"{plan.file} would be read as {plan.kind} from {used}, and {name!r}, which holds"
            f" {share:.0%} as much text, be left behind.",
            f"Say what you want: {_options(plan)} (without it), --column {shown_option(name)}"
            " (that one alone), or --question COL --answer COL.",
        )
    return None


def shown_option(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else f"'{name}'"


def used_columns(plans: Sequence[Plan]) -> list[str]:
    """The columns of some files that are used, by name."""
    return list(dict.fromkeys(name for plan in plans for name in plan.used))


def unused_prose(plans: Sequence[Plan]) -> list[str]:
    """The columns of some files that hold prose and are not used, by name."""
    return list(dict.fromkeys(name for plan in plans for name in plan.unused))


def iter_planned(
    plans: Sequence[Plan],
    errors: RowErrors,
    encoding: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[str | Conversation]:
    """The texts or conversations of planned files; rows without one go to the errors.
    `progress(done, total)` counts bytes of the files.
    """
    done, total = 0, sum(plan.file.stat().st_size for plan in plans)

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    for plan in plans:
        only = list(plan.columns.used) if plan.asked or plan.kind == "text" else []
        for place, row in placed_rows(
            plan.file, errors, columns=only or None, encoding=encoding, tick=tick
        ):
            try:
                yield _item(row, plan)
            except DataError as error:
                errors.add(f"{plan.file} {place}", error.what)


def _item(row: Row, plan: Plan) -> str | Conversation:
    if plan.kind == "conversations":
        return parse_conversation(row, plan.columns if plan.asked else None)
    if isinstance(row, str):
        return row
    name = plan.column or ""
    if name not in row:
        raise DataError(f"it has no {name!r}; it has {', '.join(map(str, row)) or 'no values'}")
    if isinstance(row[name], int):  # numbers between texts are a fault, numbers as answers are none
        raise DataError(f"its {name!r} holds {kind_of(row[name])}, not a text")
    return text_of(row[name], name)


def _plan(
    file: Path,
    kind: Kind,
    rows: Sequence[Mapping[str, Any]],
    find: Callable[[Mapping[str, Any]], Columns | None],
    asked: bool = False,
) -> Plan:
    """A plan, with what it leaves behind of some rows."""
    first, used, unused, characters = Columns(), dict[str, None](), dict[str, int](), 0
    for row in rows:
        found = find(row)
        if found is None:
            continue
        first = first if used else found
        used |= dict.fromkeys(found.used)
        taken = [text for name in found.used for text in texts_in(row.get(name))]
        characters += sum(map(len, taken))
        for name, count in _prose_beside(row, found.used, taken).items():
            unused[name] = unused.get(name, 0) + count
    shares = {
        name: count / max(1, characters) for name, count in unused.items() if name not in used
    }
    return Plan(file, kind, first, tuple(used), shares, asked)


def _prose_beside(
    row: Mapping[str, Any], used: Sequence[str], taken: Sequence[str]
) -> dict[str, int]:
    """Columns of a row that hold prose and are not used -> characters; 0 where they only repeat
    what is used, in whole or in part.
    """
    everything, found = "\n".join(taken), {}
    for name, value in row.items():
        all_of = () if name in used else texts_in(value)
        texts = [text for text in all_of if is_prose(text) or plain(name) in CHOICES]
        if texts:
            repeats = all(text.strip() in everything for text in texts) or all(
                text.strip() in "\n".join(texts) for text in taken
            )
            found[name] = 0 if repeats else sum(map(len, texts))
    return found


def texts_in(value: Any, depth: int = DEEPEST) -> list[str]:
    """All strings within a value."""
    if isinstance(value, str):
        return [value]
    inner: Iterable[Any] = value if isinstance(value, list | tuple) else ()
    if isinstance(value, Mapping):
        inner = value.values()
    return [text for each in inner for text in texts_in(each, depth - 1)] if depth else []


def is_prose(text: str) -> bool:
    """Whether a value is words, not a name, a number, an address or the name of a kind."""
    head = text[:2000]
    if " " not in head.strip() and head.isascii():
        return False
    wide = len(WIDE.findall(head))
    return wide / 2 + len(WORD.findall(WIDE.sub(" ", head))) >= WORDS_OF_PROSE


def _named_plan(
    file: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str], column: str
) -> Plan:
    """With the column that somebody named."""
    values = [row[column] for row in rows if row.get(column) is not None]
    if values and _most(values, lambda value: may_be_turns(value, column)):
        turns = Columns(column, system=find_name(set(names) - {column}, SYSTEM))
        return _plan(file, "conversations", rows, lambda row: turns, asked=True)
    if values and not isinstance(values[0], str):
        raise DataError(
            f"Column {column!r} of {file} holds {kind_of(values[0])}, not a text.",
            "Name another with --column.",
        )
    return _plan(file, "text", rows, lambda row: Columns(answer=column), asked=True)


def _column(file: Path, names: Sequence[str], asked: str, option: str) -> str:
    """The column that is meant. Raises DataError when there is none."""
    found = asked if asked in names else find_name(names, [plain(asked)])
    if found is None:
        raise DataError(
            f"{file} has no column {asked!r}; it has {', '.join(names)}.",
            f"Name one of them with {option}.",
        )
    return found


def _most(values: Sequence[Any], holds: Callable[[Any], bool]) -> bool:
    return 2 * sum(map(holds, values)) > len(values)


def _refuse_single_messages(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises DataError when each row is one message of a conversation that lies over several
    rows.
    """

    def is_message(row: Mapping[str, Any]) -> bool:
        role, text = find_name(row, ROLE_KEYS), find_name(row, TEXT_KEYS)
        return role is not None and text is not None and role_of(row[role]) is not None

    if _most(rows, is_message):
        raise DataError(
            f"Each row of {file} is a single message, not a conversation; the first is"
            f" {shown(rows[0], 120)}.",
            'Write the messages of a conversation as one row: {"messages": […]}. --column takes'
            " their texts alone.",
        )


def _refuse_marked_answers(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises DataError where a label says which of the answers are bad ones (KTO)."""
    label = find_name(rows[0], ["label"])
    if label is not None and _most(rows, lambda row: isinstance(row.get(label), bool)):
        raise DataError(
            f"{file} has answers that its column {label!r} calls good or bad; bad ones are not to"
            " be trained on.",
            "Keep the good ones in a file of their own, or take all of them with --question COL"
            " --answer COL.",
        )


def _text_column(file: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    lengths = {
        name: [len(row[name]) for row in rows if isinstance(row.get(name), str)] for name in names
    }
    texts = {
        name: sum(found) / len(rows)
        for name, found in lengths.items()
        if 2 * len(found) > len(rows)
    }
    if not texts:
        held = {
            name: next((row[name] for row in rows if row.get(name) is not None), None)
            for name in names
        }
        there = ", ".join(f"{name} ({kind_of(value)})" for name, value in held.items())
        raise DataError(
            f"{file} has no column that holds text in most of its rows; it has {there}.",
            "Name one with --column, or the sides of conversations with --question and --answer, or"
            " bring another file.",
        )
    return find_name([name for name, length in texts.items() if length], TEXT) or max(
        texts, key=lambda name: texts[name]
    )


def _options(plan: Plan) -> str:
    """The options that ask for what a plan does unasked."""
    alone = plan.column or plan.columns.turns
    if alone is not None:
        return f"--column {shown_option(alone)}"
    sides = [
        *(("--question", name) for name in plan.columns.questions),
        ("--answer", plan.columns.answer or ""),
    ]
    return " ".join(f"{option} {shown_option(name)}" for option, name in sides)
