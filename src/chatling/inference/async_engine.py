"""Engines on threads of their own, behind one queue: what many callers at once talk to."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import get_args

from chatling.errors import ChatlingError
from chatling.inference.engine import Engine
from chatling.inference.request import Completion, Event, FinishReason, Request, RequestState

log = logging.getLogger(__name__)


class QueueFull(ChatlingError):
    """More requests wait than the service takes on; worth another try later."""


class Ticket:
    """A request handed to the service. `completion` grows until its `finish` is set."""

    def __init__(
        self, service: EngineService, sequence: RequestState, on_event: Callable[[Event], None]
    ):
        self.sequence, self.on_event, self.cancelled, self._service = (
            sequence,
            on_event,
            False,
            service,
        )

    @property
    def completion(self) -> Completion:
        return self.sequence.completion

    @property
    def error(self) -> Exception | None:
        """Why `completion.finish_reason` is "error"."""
        return self.sequence.error

    def cancel(self) -> None:
        """End it soon, running or waiting; its last event says "cancelled" unless it ended by
        itself first. From any thread.
        """
        self.cancelled = True
        self._service.wake()


class EngineService:
    """One thread an engine, one queue before them all: an engine with a free row takes the request
    that has waited longest.

    Every ticket gets its events on an engine's thread, the last one (and only that one) with
    `finish` set, whatever happens: it ended, was cancelled, failed ("error", with `ticket.error`),
    or the service closed. `on_event` must return quickly; if it raises, its request ends with that
    error and the others go on.
    """

    def __init__(self, engines: Sequence[Engine], *, queue_limit: int = 256):
        """Engines of one model and tokenizer, no longer to be used by others. At most `queue_limit`
        requests wait beyond the free rows.
        """
        self.engines, self.queue_limit = list(engines), queue_limit
        self.rows = sum(engine.max_batch_size for engine in self.engines)
        self._changed = threading.Condition()  # guards what follows
        self._waiting: deque[Ticket] = deque()
        self._running: set[Ticket] = set()
        self._accepting, self._stopping = True, False
        self._counts: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._work, args=(engine,), name="engine", daemon=True)
            for engine in self.engines
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request, on_event: Callable[[Event], None]) -> Ticket:
        """Queue a request. Raises ChatlingError when it cannot be read, QueueFull when too many
        wait or the service has closed.
        """
        ticket = Ticket(self, self.engines[0].prepare(request), on_event)
        with self._changed:
            if not self._accepting:
                raise QueueFull("The engine is shutting down.")
            if len(self._waiting) + len(self._running) >= self.queue_limit + self.rows:
                self._counts["refused"] += 1
                raise QueueFull(
                    f"{len(self._waiting):,} requests are waiting already.",
                    "Try again in a moment.",
                )
            self._waiting.append(ticket)
            self._counts["requests"] += 1
            self._changed.notify_all()
        return ticket

    def stats(self) -> dict[str, int]:
        """Now: `running`, `waiting`, `rows`, `queue_limit`. Since the start: `requests`, `refused`,
        `prompt_tokens`, `tokens` of answers, and the ends by their kind: `stop`, `length`,
        `cancelled`, `error`.
        """
        with self._changed:
            ever = {
                name: self._counts[name]
                for name in (
                    "requests",
                    "refused",
                    "prompt_tokens",
                    "tokens",
                    *get_args(FinishReason),
                )
            }
            now = {"running": len(self._running), "waiting": len(self._waiting)}
            return {**now, "rows": self.rows, "queue_limit": self.queue_limit, **ever}

    def close(self, finish_within: float = 0.0) -> None:
        """Take nothing more, give what runs and waits so many seconds to end, cancel the rest, and
        stop the threads.
        """
        with self._changed:
            self._accepting = False
            self._changed.wait_for(lambda: not (self._waiting or self._running), finish_within)
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def wake(self) -> None:
        """Have the threads look at what was cancelled."""
        with self._changed:
            self._changed.notify_all()

    def _work(self, engine: Engine) -> None:
        """An engine's thread, for as long as the service lives."""
        mine: dict[RequestState, Ticket] = {}
        while True:
            with self._changed:
                self._changed.wait_for(lambda: mine or self._waiting or self._stopping)
                if self._stopping and not (mine or self._waiting):
                    return
                gone = [
                    ticket
                    for ticket in (*self._waiting, *mine.values())
                    if ticket.cancelled or self._stopping
                ]
                taken = [ticket for ticket in self._waiting if ticket not in gone][
                    : engine.max_batch_size - len(mine)
                ]
                for ticket in (*gone, *taken):
                    if ticket in self._waiting:
                        self._waiting.remove(ticket)
                        self._running.add(ticket)
                mine.update((ticket.sequence, ticket) for ticket in (*gone, *taken))
            for ticket in taken:
                engine.submit(ticket.sequence)
            for ticket in gone:
                self._end(engine, mine, ticket)
            self._step(engine, mine)

    def _step(self, engine: Engine, mine: dict[RequestState, Ticket]) -> None:
        """One step for all, each told what came of it. What breaks the step breaks all that ran in
        it, and nothing else.
        """
        try:
            events = engine.step()
        except Exception as error:
            log.exception("A step of the engine failed; the requests in it end.")
            for ticket in list(mine.values()):
                ticket.sequence.error = error
                self._end(engine, mine, ticket)
            return
        for sequence, event in events:
            if sequence in mine:
                self._tell(engine, mine, mine[sequence], event)

    def _tell(
        self, engine: Engine, mine: dict[RequestState, Ticket], ticket: Ticket, event: Event
    ) -> None:
        if event.finish_reason is not None:
            self._leave(mine, ticket, event.finish_reason)
        try:
            ticket.on_event(event)
        except Exception as error:
            log.exception("A request's reader failed; its request ends.")
            ticket.sequence.error = ticket.sequence.error or error
            if event.finish_reason is None:
                self._end(engine, mine, ticket)

    def _end(self, engine: Engine, mine: dict[RequestState, Ticket], ticket: Ticket) -> None:
        """Before its time: because it was cancelled, or for its error."""
        event = engine.cancel(ticket.sequence)
        if event is not None:
            self._tell(engine, mine, ticket, event)

    def _leave(
        self, mine: dict[RequestState, Ticket], ticket: Ticket, finish_reason: FinishReason
    ) -> None:
        del mine[ticket.sequence]
        with self._changed:
            self._running.remove(ticket)
            self._counts[finish_reason] += 1
            self._counts["tokens"] += len(ticket.completion.ids)
            self._counts["prompt_tokens"] += len(ticket.sequence.request.prompt)
            self._changed.notify_all()
