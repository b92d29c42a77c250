"""Documents of a user's own as passages that can be searched: a full-text index on disk, SQLite's
FTS5, which ranks by BM25 (Robertson and Zaragoza, 2009).
"""

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from chatling.data.readers import find_files, iter_rows
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError

LONGEST = 600  # characters of a passage; shorter paragraphs are joined up to it
WEAKEST = 0.4  # of the best passage's score, below which another is left out
MOST_WORDS = 64  # of a question that are searched for
ROOM = 512  # tokens of a context that holds a passage or two, a question and its answer
VERSION = 1  # of what the index holds
WIDE = r"[\u3040-\u30ff\u3400-\u9fff]"  # signs that are written without blanks
WORDS = re.compile(rf"{WIDE}+|(?:(?!{WIDE})[^\W_])+")
HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*$")
ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n")


@dataclass(frozen=True)
class Passage:
    """A part of a file. `file` is its path below the documents' folder."""

    file: str
    text: str


class PassageIndex:
    """The passages of a folder, or a file, kept in the file `place`."""

    def __init__(self, documents: Path, place: Path):
        self.documents, self.place = documents, place

    def refresh(self) -> tuple[int, int]:
        """Read what is new or has changed, forget what is gone; the number of files and of
        passages. Raises DataError when the folder or a file of it cannot be read.
        """
        found = {str(path): _mark(path) for path in find_files(self.documents).files}
        with self._open() as db:
            known = dict(db.execute("SELECT path, mark FROM files"))
            for path in known.keys() - found.keys():
                _forget(db, path)
            for path, mark in found.items():
                if known.get(path) == mark:
                    continue
                if path in known:  # it looks through all passages
                    _forget(db, path)
                name = _name(Path(path), self.documents)
                for text in file_passages(Path(path)):
                    row = (spaced(f"{name} {text}"), text, name, path)
                    db.execute("INSERT INTO passages VALUES (?, ?, ?, ?)", row)
                db.execute("INSERT INTO files VALUES (?, ?)", (path, mark))
            return len(found), db.execute("SELECT count(*) FROM passages").fetchone()[0]

    def search(self, question: str, most: int = 5) -> list[Passage]:
        """The passages that have most of a question's words, rare words first; none where no word
        is in them.
        """
        words = list(dict.fromkeys(query_words(question)))[:MOST_WORDS]
        if not words:
            return []
        query = " OR ".join(f'"{word}"' for word in words)
        with self._open() as db:
            rows = db.execute(
                "SELECT file, text, -rank FROM passages WHERE passages MATCH ? ORDER BY rank"
                " LIMIT ?",
                (query, most),
            ).fetchall()
        return [Passage(file, text) for file, text, score in rows if score >= WEAKEST * rows[0][2]]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, so that any thread may ask; what it wrote is kept at the end."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with contextlib.closing(sqlite3.connect(self.place, timeout=30)) as db, db:
                if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    db.executescript(
                        "DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS passages;"
                        "CREATE TABLE files (path TEXT PRIMARY KEY, mark TEXT);"
                        "CREATE VIRTUAL TABLE passages USING fts5(words, text UNINDEXED,"
                        " file UNINDEXED, path UNINDEXED,"
                        " tokenize = 'porter unicode61 remove_diacritics 2');"
                        f"PRAGMA user_version = {VERSION};"
                    )
                yield db
        except sqlite3.Error as error:
            raise DataError(
                f"The index {self.place} cannot be used ({error}).",
                "Delete it: it is made anew from the documents.",
            ) from error


def index_place(documents: Path, folder: Path) -> Path:
    """The index of these documents among those of a folder."""
    whole = str(documents.expanduser().resolve())
    return folder / f"{hashlib.sha256(whole.encode('utf-8', 'replace')).hexdigest()[:16]}.sqlite"


def file_passages(file: Path) -> Iterator[str]:
    """A file's texts in passages; a row of a table as its values, each after its column's name."""
    for row in iter_rows(file, RowErrors(1.0)):
        if isinstance(row, Mapping):
            yield from passages("\n".join(f"{name}: {value}" for name, value in row.items()))
        else:
            yield from passages(str(row))


def passages(text: str) -> Iterator[str]:
    """Neighboring paragraphs under one heading, which each of them begins with; long ones are cut
    between sentences.
    """
    heading, held = "", ""
    for paragraph in re.split(r"\n\s*\n|(?=^#{1,6}\s)", text, flags=re.MULTILINE):
        title, _, rest = paragraph.strip().partition("\n")
        if match := HEADING.fullmatch(title):
            yield from _kept(heading, held)
            heading, held, paragraph = match[1], "", rest
        for piece in _pieces(paragraph.strip()):
            if held and len(held) + len(piece) > LONGEST:
                yield from _kept(heading, held)
                held = ""
            held = f"{held}\n{piece}".strip()
    yield from _kept(heading, held)


def _kept(heading: str, text: str) -> Iterator[str]:
    if text:
        yield f"{heading}\n{text}" if heading else text


def _pieces(paragraph: str) -> Iterator[str]:
    """A paragraph, or as many sentences at a time as a passage holds; a longer one is cut."""
    if len(paragraph) <= LONGEST:
        yield from (paragraph,) if paragraph else ()
        return
    held = ""
    for sentence in ENDS.split(paragraph):
        if held and len(held) + len(sentence) >= LONGEST:
            yield held
            held = ""
        held = f"{held} {sentence}".strip()
        while len(held) > LONGEST:
            yield held[:LONGEST]
            held = held[LONGEST:].strip()
    if held:
        yield held


def spaced(text: str) -> str:
    """The words of a text as the index takes them: signs without blanks each by itself."""
    return " ".join(word for run in WORDS.findall(text) for word in _signs(run))


def query_words(question: str) -> Iterator[str]:
    """What is searched for: words, and of runs without blanks each two signs side by side."""
    for run in WORDS.findall(question):
        signs = _signs(run)
        if len(signs) < 2:
            yield run
        for pair in pairwise(signs):
            yield " ".join(pair)


def _signs(run: str) -> Sequence[str]:
    return list(run) if re.match(WIDE, run) else [run]


def _forget(db: sqlite3.Connection, path: str) -> None:
    db.execute("DELETE FROM passages WHERE path = ?", (path,))
    db.execute("DELETE FROM files WHERE path = ?", (path,))


def _mark(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _name(path: Path, documents: Path) -> str:
    return str(path.relative_to(documents)) if documents.is_dir() else path.name
