"""What a person's own data hold, as far as a bounded look can tell: everything where they are
small, else a sample, which is said.

What cannot be read raises here, before anything is trained.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path

import pyarrow.parquet as pq

from chatling.data.json_rows import value_of
from chatling.data.mixtures import Mapped
from chatling.data.parquet import iter_texts, list_parquet, parquet_characters
from chatling.data.preferences import HELD_OUT_ONE_IN, Preference, split_preferences
from chatling.data.readers import iter_rows
from chatling.data.row_errors import RowErrors
from chatling.data.splits import held_out_conversations
from chatling.errors import DataError
from chatling.messages import Conversation
from chatling.model.config import ModelConfig
from chatling.tasks.custom import Conversations, JsonlConversations
from chatling.tasks.registry import own_file
from chatling.train.scaling import own_tokens

WHOLE = 32_000_000  # bytes of data that are read whole; of more, this is read:
SAMPLED_FILES = 8
SAMPLED_ROWS = 1_000  # of each of these files
HEAD = 4_000_000  # bytes of a file of conversations
# bytes: tokens of text are shorter on average, whatever the text
LONGEST_TOKEN = 16


@dataclass(frozen=True)
class Held:
    """What some data hold to learn from: documents, conversations or preference pairs. `exact` is
    false for an estimate.
    """

    items: int
    characters: float
    bytes: float  # in UTF-8, which tokens go by in any language
    exact: bool
    held_out: int = 0  # items for validation
    # bytes that a context must hold before there is anything to learn, of the item that needs the
    # fewest
    shortest: int = 0


@dataclass(frozen=True)
class Survey:
    """All data of one's own that a recipe's stages read."""

    text: Held | None = None  # in the folder that [data] source names
    talks: Mapping[str, Held] = field(default_factory=dict)  # by the `task` of a mixture's entry
    pairs: Held | None = None  # in the file or folder that [dpo] data names


def fit_notes(size: int, model: ModelConfig, what: str) -> Iterator[str]:
    """Raises DataError when `size` bytes surely are more tokens than the context; yields a warning
    when they seem to be.
    """
    hint = "Choose a longer model.context, or shorter texts."
    if size / LONGEST_TOKEN > model.context:
        raise DataError(what, hint)
    if own_tokens(size, model.vocab_size) > model.context:
        yield f"It seems that: {what} {hint}"


def survey_text(folder: Path, column: str) -> Held:
    """The training text of a folder of parquet files. Raises DataError when a file cannot be read,
    or there is no text.
    """
    train, validation = list_parquet(folder)
    size = sum(parquet_characters(file, column) for file in (*train, *validation))
    whole = size <= WHOLE
    sampled = train if whole else train[:: -(-len(train) // SAMPLED_FILES)]
    for files, purpose in ((validation, "validation"), (sampled, "training")):
        if next(iter_texts(files, column), None) is None:
            raise DataError(
                f"Column {column!r} of {files[0]} holds no text for {purpose}.",
                "Check the files and [data] column.",
            )
    texts = [
        text
        for file in sampled
        for text in islice(iter_texts([file], column), None if whole else SAMPLED_ROWS)
    ]
    documents = len(texts) if whole else sum(pq.read_metadata(file).num_rows for file in train)
    return _held(documents, texts, whole)


def import_hint(path: Path | str) -> str:
    return f"`chatling data import {path}` turns other shapes into a file that can be named here."


def survey_conversations(name: str) -> Held:
    """The conversations of a file. Raises DataError when there are none, which says how to make
    such a file of another.
    """
    path = own_file(name)
    head = _head(path) if path.stat().st_size > WHOLE else None
    if head is not None:
        talks, share = head
        total = round(len(talks) / share)
        kept = held_out_conversations(total)
        items = total - kept
    else:
        try:
            held_out, talks = (JsonlConversations(path, split) for split in ("validation", "train"))
        except DataError as error:
            raise DataError(error.what, import_hint(path)) from None
        items, kept = len(talks), len(held_out)
        talks = talks if items else held_out
    sample = [talks[i] for i in range(0, len(talks), -(-len(talks) // SAMPLED_ROWS))]
    before = min(sum(map(_bytes, _before_the_answer(talk))) for talk in sample)
    return _held(
        items,
        ["".join(message.text for message in talk.messages) for talk in sample],
        head is None,
        kept,
        before,
    )


def survey_pairs(files: Sequence[Path]) -> Held:
    """The preference pairs of some files. Raises DataError when there are none, or too few to hold
    some out.
    """
    size = sum(file.stat().st_size for file in files)
    if size <= WHOLE:
        train, validation = split_preferences(files, lambda note: None)
        return _held(
            len(train), map(_pair_text, train), True, len(validation), min(map(_pair_bytes, train))
        )
    pairs = [
        pair for file in files[:: -(-len(files) // SAMPLED_FILES)] for pair in _first_pairs(file)
    ]
    if not pairs:
        raise DataError(f"The first rows of {', '.join(map(str, files))} are no preference pairs.")
    items = int(size / max(1.0, sum(_bytes(_pair_text(pair)) for pair in pairs) / len(pairs)))
    held_out, shortest = items // HELD_OUT_ONE_IN, min(map(_pair_bytes, pairs))
    return _held(items, map(_pair_text, pairs), False, held_out, shortest)


def _held(
    items: int, texts: Iterable[str], exact: bool, held_out: int = 0, shortest: int = 0
) -> Held:
    """`items` that are on average like `texts`."""
    sizes = [(len(text), _bytes(text)) for text in texts]
    characters, size = (sum(column) * items / len(sizes) for column in zip(*sizes, strict=True))
    return Held(items, characters, size, exact, held_out, shortest)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _before_the_answer(talk: Conversation) -> list[str]:
    return [
        message.text
        for message in takewhile(lambda message: message.role != "assistant", talk.messages)
    ]


def _pair_text(pair: Preference) -> str:
    return "".join(
        message.text
        for message in (*pair.prompt.messages, pair.chosen, *pair.prompt.messages, pair.rejected)
    )


def _pair_bytes(pair: Preference) -> int:
    """Of the longer answer with its prompt, which must fit the context whole."""
    return sum(_bytes(message.text) for message in pair.prompt.messages) + max(
        _bytes(pair.chosen.text), _bytes(pair.rejected.text)
    )


def _first_pairs(file: Path) -> list[Preference]:
    found, errors = [], RowErrors()
    for row in islice(iter_rows(file, errors), SAMPLED_ROWS):
        try:
            if not isinstance(row, str):
                found.append(Preference.from_row(row))
        except DataError as error:
            if type(error) is DataError:  # a kind of its own is no fault
                errors.add(str(file), error.what)
    return found


def _head(path: Path) -> tuple[Conversations, float] | None:
    """The conversations at a file's beginning, one a line, and which share of the file that is;
    None when they are not like that.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    whole = head[: head.rfind(b"\n") + 1] or head
    lines = [line for line in whole.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    try:
        talks = Conversations(str(path), Mapped(lines, value_of), str(path))
        return talks, len(whole) / path.stat().st_size
    except DataError:
        return None
