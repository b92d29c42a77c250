"""The models that can be served: every finished stage of every run, loaded when asked for, a
bounded number at a time.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatling.errors import ChatlingError, nearest
from chatling.files import foreign_entry, read_plain
from chatling.inference.async_engine import AsyncEngine
from chatling.run_dir import MANIFEST, STAGES, RunFolder, latest_runs
from chatling.serve.errors import ApiError, overloaded, shutting_down
from chatling.tokenizer.bpe import Tokenizer, valid_text
from chatling.train.checkpoint import model_shape

LAST_REQUESTS = 3600.0  # seconds that the requests of a model that was trained again may still take

log = logging.getLogger(__name__)
Load = Callable[[RunFolder, str], AsyncEngine]


@dataclass(frozen=True)
class Entry:
    """A finished model on disk. `mark` changes when it is trained again; `context` in tokens."""

    run: RunFolder
    stage: str
    mark: int
    context: int

    @property
    def id(self) -> str:
        return f"{self.run.name}/{self.stage}"


@dataclass(eq=False)
class Loaded:
    """A model in memory. `users` requests hold it; while there are any it stays."""

    entry: Entry
    service: AsyncEngine
    users: int = 0
    fingerprint: str = ""

    @property
    def tokenizer(self) -> Tokenizer:
        return self.service.engines[0].tokenizer

    @property
    def context(self) -> int:
        return self.service.engines[0].context


@dataclass
class ModelManager:
    """Finds, loads and unloads. All but `folders`, `entries` and `find` belong to the event loop;
    loading happens on a thread.

    `runs` is the folder of all runs; `first`, the run and stage that is served by default, may lie
    elsewhere.
    """

    runs: Path
    load: Load
    max_models: int
    first: tuple[RunFolder, str] | None = None
    loaded: dict[str, Loaded] = field(default_factory=dict)  # by id, the one used longest ago first
    closing: bool = False
    # why each model that could not be loaded when it was last asked for was not, by id
    failures: dict[str, str] = field(default_factory=dict)
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _evicted: set[AsyncEngine] = field(
        default_factory=set
    )  # out of the models, their last requests still running

    def folders(self) -> list[RunFolder]:
        """Every run, the one worked on last first."""
        folders = latest_runs(self.runs)
        if self.first is not None and all(folder.name != self.first[0].name for folder in folders):
            folders.insert(0, self.first[0])
        return folders

    def folder(self, name: str) -> RunFolder:
        """A run by its name. Raises ApiError 404."""
        for folder in self.folders():
            if folder.name == name:
                return folder
        raise ApiError(404, f"There is no run {name!r}.", param="name", code="run_not_found")

    def entries(self) -> list[Entry]:
        """What could be served now: the default, then the runs in order, each by its last stage
        first.
        """
        found = [entry for folder in self.folders() for entry in _finished(folder)]
        return sorted(found, key=lambda entry: entry.id != self.default)

    @property
    def default(self) -> str | None:
        """The id of the model that is served by default."""
        return None if self.first is None else f"{self.first[0].name}/{self.first[1]}"

    def find(self, name: str) -> Entry:
        """A model by its id, or a run's last stage by the run's name. Raises ApiError 404 naming
        the nearest there is.
        """
        entries = self.entries()
        for entry in entries:
            if name in (entry.id, entry.run.name):
                return entry
        known = (
            nearest(name, [entry.id for entry in entries]) or "GET /v1/models lists what there is."
        )
        raise ApiError(
            404, f"There is no model {name!r}. {known}", param="model", code="model_not_found"
        )

    @contextlib.asynccontextmanager
    async def acquire(self, name: str) -> AsyncIterator[Loaded]:
        """A model, loaded and kept so meanwhile. Raises ApiError: 404, 429 when no other may be
        unloaded, 503 when it cannot be loaded.
        """
        known = self.loaded.get(name)
        if known is not None and _entry(known.entry.run, known.entry.stage) == known.entry:
            entry = known.entry
        else:
            entry = await asyncio.to_thread(self.find, name)  # it looks through every run
        model = self._ready(entry)
        if model is None:
            async with self._loading:
                model = self._ready(entry) or await self._load(entry)
        model.users += 1
        try:
            yield model
        finally:
            model.users -= 1

    async def close(self, finish_within: float = 0.0) -> None:
        """Take no more requests, give those that run so many seconds, and end the engines."""
        self.closing = True
        services = [*(model.service for model in self.loaded.values()), *self._evicted]
        await asyncio.gather(
            *(asyncio.to_thread(service.close, finish_within) for service in services)
        )

    def model_card(self, entry: Entry) -> dict[str, Any]:
        """How `/v1/models` describes it."""
        model = self.loaded.get(entry.id)
        return {
            "id": entry.id,
            "object": "model",
            "created": entry.mark // 10**9,
            "owned_by": "chatling",
            "run": entry.run.name,
            "stage": entry.stage,
            "context_length": entry.context,
            "loaded": model is not None and model.entry.mark == entry.mark,
            "error": self.failures.get(entry.id),
        }

    def _ready(self, entry: Entry) -> Loaded | None:
        if self.closing:
            raise shutting_down()
        model = self.loaded.get(entry.id)
        if model is None or model.entry.mark != entry.mark:
            return None
        self.loaded[entry.id] = self.loaded.pop(entry.id)  # used last
        return model

    async def _load(self, entry: Entry) -> Loaded:
        """Make room, then load."""
        stale = self.loaded.get(entry.id)
        idle = [model for model in self.loaded.values() if not model.users and model is not stale]
        if stale is not None:
            self._evict(stale)
        elif len(self.loaded) >= self.max_models:
            if not idle:
                raise overloaded(f"All {self.max_models} models that fit in memory are busy.", 5)
            self._evict(idle[0])
        try:
            service = await asyncio.to_thread(self.load, entry.run, entry.stage)
            manifest = read_plain(entry.run.model(entry.stage) / MANIFEST)
        except Exception as error:  # whatever its files hold: others can be served
            log.exception("Model %r cannot be loaded.", entry.id)
            why = valid_text(f"Model {entry.id!r} cannot be loaded: {error}")
            self.failures[entry.id] = why
            raise ApiError(503, why, param="model", code="model_unavailable") from error
        self.failures.pop(entry.id, None)
        fingerprint = hashlib.sha256(manifest).hexdigest()
        model = self.loaded[entry.id] = Loaded(entry, service, fingerprint=f"fp_{fingerprint[:12]}")
        if self.closing:
            await asyncio.to_thread(service.close)
            raise shutting_down()
        return model

    def _evict(self, model: Loaded) -> None:
        """Out of the models; its engine ends when its last request has."""
        del self.loaded[model.entry.id]
        self._evicted.add(model.service)
        closing = asyncio.ensure_future(
            asyncio.to_thread(model.service.close, LAST_REQUESTS if model.users else 0.0)
        )
        closing.add_done_callback(lambda _: self._evicted.discard(model.service))


def _finished(folder: RunFolder) -> list[Entry]:
    """A run's finished stages, the last one first. None of a folder that is not to be read, or has
    a name that no request can hold: the dashboard tells of it.
    """
    with contextlib.suppress(OSError, UnicodeEncodeError):
        folder.name.encode()
        if foreign_entry(folder.path) is None:
            entries = (_entry(folder, stage) for stage in reversed(STAGES))
            return [entry for entry in entries if entry is not None]
    return []


def _entry(run: RunFolder, stage: str) -> Entry | None:
    """A stage's finished model; None where there is none that can be read."""
    with contextlib.suppress(OSError, ChatlingError):
        context = model_shape(run.model(stage)).context
        # in ns, of when it was written
        mark = (run.model(stage) / MANIFEST).stat().st_mtime_ns
        return Entry(run, stage, mark, context)
    return None
