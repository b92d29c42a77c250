"""A user's own files for `grow`: what was asked for, and what can be asked about them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chatling.data.facts import Fact, Source, read_source
from chatling.data.notes import note_facts
from chatling.data.readers import find_files
from chatling.errors import DataError
from chatling.run_dir import home, nearest_name
from chatling.toy.packs import Pack, guess_language, load_pack


@dataclass(frozen=True)
class Wish:
    """What was asked for."""

    paths: tuple[str, ...]
    name: str
    language: str | None = None
    origin: str | None = None
    minutes: float = 10.0
    run: str | None = None

    @property
    def run_name(self) -> str:
        return self.run or nearest_name(self.name.lower())

    @property
    def folder(self) -> Path:
        return home() / "data" / self.run_name


@dataclass(frozen=True)
class Understood:
    """All files, the language that they are in, and the facts that can be asked about."""

    sources: tuple[Source, ...]
    code: str | None
    pack: Pack
    facts: tuple[Fact, ...]
    texts: tuple[str, ...]
    contradictions: int = 0


def understand(wish: Wish) -> Understood:
    """Read the files. Raises DataError when they hold nothing that can be asked about."""
    files = [file for path in wish.paths for file in find_files(Path(path).expanduser()).files]
    sources = [source for file in dict.fromkeys(files) if (source := read_source(file))]
    samples = [text[:5_000] for source in sources for text in _sample(source)]
    code = wish.language or guess_language(samples)
    pack = load_pack(code)
    sources = [_with_notes(source, pack) for source in sources]
    facts = [fact for source in sources for fact in source.facts]
    once: dict[tuple[Any, ...], Fact] = {}
    for fact in facts:
        key = (*fact.before, fact.question.lower(), fact.subject.lower(), fact.attribute, fact.kind)
        once.setdefault(key, fact)
    if not once:
        raise DataError(
            f"Nothing in {', '.join(wish.paths)} can be asked about.",
            "Bring notes, a table of questions and answers, conversations, or a table whose first"
            " column names things.",
        )
    texts = tuple(text for source in sources for text in source.texts)
    kept = tuple(once.values())
    return Understood(tuple(sources), code, pack, kept, texts, len(facts) - len(kept))


def _with_notes(source: Source, pack: Pack) -> Source:
    """With the facts that its texts hold, whose rules go by the language."""
    title = source.file.name.partition(".")[0]
    found = [fact for text in source.texts for fact in note_facts(text, title, pack.grammar)]
    return replace(source, facts=(*source.facts, *found))


def _sample(source: Source) -> Iterator[str]:
    yield from source.texts[:20]
    for fact in source.facts[:200]:
        yield f"{fact.question} {fact.answer}"
