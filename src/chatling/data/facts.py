"""What a user's own files hold to be asked about: questions with their answers, conversations, and
tables of things.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from chatling.data.chat_formats import find_columns, parse_conversation, preference_columns
from chatling.data.columns import left_behind, plan_file, texts_in
from chatling.data.names import find_name, plain
from chatling.data.readers import file_format, iter_rows, placed_rows
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError
from chatling.messages import Conversation

Kind = Literal["questions", "conversations", "things", "notes"]
LONGEST_CELL = 80  # characters on average, of the longest column of a table of things
LONGEST_NAME = 60  # of a thing
NUMBERING = tuple(map(plain, ("id", "no", "nr", "number", "index", "编号", "序号", "#", "key")))
# heads of a column of things that do not say what they are
_NO_SORTS = "name names title who what item Bezeichnung wer was Titel 名字 姓名 名称"
UNTELLING = tuple(map(plain, _NO_SORTS.split()))


@dataclass(frozen=True)
class Fact:
    """A question as the user wrote it, after earlier turns if any, with its answer; what a table
    says of a thing: `subject`, `attribute` and, as the answer, the value; or what notes say about a
    subject, list under a heading, or say in a sentence, whose `subject` are the words by which it
    may be asked for.
    """

    question: str
    answer: str
    before: tuple[str, ...] = ()
    subject: str = ""
    attribute: str = ""
    kind: Literal["question", "thing", "about", "list", "sentence"] = "question"
    sort: str = field(default="", compare=False)
    """What the thing is one of, by the head of its column: a suit."""
    under: str = field(default="", compare=False)
    """The heading above its table."""


@dataclass(frozen=True)
class Source:
    """What was understood of a file."""

    file: Path
    kind: Kind
    facts: tuple[Fact, ...] = ()
    texts: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    skipped: int = 0
    examples: tuple[str, ...] = field(default=(), compare=False)


def read_source(file: Path, encoding: str | None = None) -> Source | None:
    """A file as facts or, of notes, as texts; None when it is empty. Raises DataError for files
    that cannot be used, or of which half would be left behind.
    """
    errors = RowErrors(0.01)
    if file_format(file) == "text":
        texts = tuple(str(row) for row in iter_rows(file, errors, encoding=encoding))
        return Source(file, "notes", texts=texts) if "".join(texts).strip() else None
    rows = [
        (place, row)
        for place, row in placed_rows(file, errors, encoding=encoding)
        if isinstance(row, Mapping)
    ]
    named = [row for _, row in rows]
    if (subject := subject_column(named)) is not None:
        facts = tuple(_cells(named, subject))
        columns = (subject, *dict.fromkeys(fact.attribute for fact in facts))
        return Source(file, "things", facts, columns=columns)
    planned = plan_file(file, encoding=encoding)
    if planned is None:
        return None
    if fault := left_behind([planned]):
        raise fault
    if planned.kind == "text":
        name = planned.column or ""
        texts = tuple(str(row.get(name) or "") for row in named) or tuple(
            str(row) for row in iter_rows(file, errors, encoding=encoding)
        )
        return Source(file, "notes", texts=texts, columns=planned.used)
    found: list[Fact] = []
    longest = 0
    for place, row in rows:
        try:
            turns = _turns(parse_conversation(row))
        except DataError as error:
            errors.add(f"{file} {place}", error.what)
            continue
        longest = max(longest, len(turns))
        found += [
            Fact(turns[i], turns[i + 1], tuple(turns[:i])) for i in range(0, len(turns) - 1, 2)
        ]
    kind: Kind = "conversations" if longest > 2 else "questions"
    facts = tuple(found)
    return Source(file, kind, facts, (), planned.used, errors.bad, tuple(errors.examples))


def _turns(conversation: Conversation) -> list[str]:
    """Without a system message, which says how to answer and not what."""
    return [message.text.strip() for message in conversation.messages if message.role != "system"]


def subject_column(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column that names the things of a table: the first whose values are short, no numbers and
    all different; None when the rows are no such table.
    """
    if len(rows) < 2 or len(rows[0]) < 2 or find_columns(rows[0]) or preference_columns(rows[0]):
        return None
    names = list(rows[0])
    if any(not isinstance(v, str | int | float | None) for row in rows for v in row.values()):
        return None
    lengths = {
        name: _mean([len(t) for row in rows for t in texts_in(row.get(name))]) for name in names
    }
    if max(lengths.values()) > LONGEST_CELL:
        return None
    for name in names:
        values = [text_of_cell(row.get(name)) for row in rows]
        told = [value for value in values if value]
        if (
            find_name([name], NUMBERING) is None
            and len(told) == len(rows)
            and len(set(map(str.lower, told))) == len(told)
            and all(len(value) <= LONGEST_NAME for value in told)
            and not all(_is_number(value) for value in told)
        ):
            return name
    return None


def _cells(rows: Sequence[Mapping[str, Any]], subject: str) -> Iterator[Fact]:
    """All cells but those of the subject itself, and the numbers of the rows."""
    told = [name for name in rows[0] if name != subject and str(name).strip()]
    told = [name for name in told if not _numbers_rows(name, [row.get(name) for row in rows])]
    for row in rows:
        for name in told:
            if text := text_of_cell(row.get(name)):
                yield thing(text_of_cell(row[subject]), str(name), text, subject)


def _numbers_rows(name: str, values: Sequence[Any]) -> bool:
    """Whether a column is called a numbering and counts."""
    texts = [text_of_cell(value) for value in values]
    if find_name([name], NUMBERING) is None or not all(map(str.isdecimal, texts)):
        return False
    return all(int(b) == int(a) + 1 for a, b in pairwise(texts))


def thing(subject: str, attribute: str, value: str, head: str = "", under: str = "") -> Fact:
    """A thing's attribute. Names of columns are read as words; `head` is that of the things,
    `under` the heading above the table.
    """
    sort = "" if find_name([head], UNTELLING) else _words(head)
    named = _words(attribute)
    return Fact("", value, subject=subject, attribute=named, kind="thing", sort=sort, under=under)


def _words(name: str) -> str:
    return name.strip().replace("_", " ")


def text_of_cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split())


def _is_number(text: str) -> bool:
    return text.replace(".", "").replace(",", "").replace("-", "").isdigit()


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / max(1, len(numbers))
