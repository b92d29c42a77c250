"""Engines on threads of their own, behind one queue: what many callers at once talk to, and the
way of their answers to an event loop.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from chatling.errors import ChatlingError
from chatling.inference.engine import Engine
from chatling.inference.request import Event, FinishReason, Request, RequestState

log = logging.getLogger(__name__)
COUNTERS = ("requests", "refused", "prompt_tokens", "tokens", *get_args(FinishReason))
Batch = list[tuple[int, Event]]  # (which of the requests, event)


class QueueFull(ChatlingError):
    """More requests wait than the service takes on; worth another try later."""


@dataclass(eq=False)
class Ticket:
    """A request handed to the service. Its `state.completion` grows until its `finish_reason` is
    set; `state.error` says why that is "error".
    """

    service: AsyncEngine
    state: RequestState
    on_event: Callable[[Event], None]
    cancelled: bool = False

    def cancel(self) -> None:
        """End it soon, running or waiting; its last event says "cancelled" unless it ended by
        itself first. From any thread.
        """
        self.cancelled = True
        self.service.wake()


class AsyncEngine:
    """One thread an engine, one queue before them all: an engine with a free row takes the request
    that has waited longest.

    Every ticket gets its events on an engine's thread, the last one (and only that one) with
    `finish_reason` set, whatever happens: it ended, was cancelled, failed ("error", with
    `state.error`), or the service closed. `on_event` must return quickly; if it raises, its request
    ends with that error and the others continue.
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

    def prepare(self, request: Request) -> RequestState:
        """As `Engine.prepare`."""
        return self.engines[0].prepare(request)

    def submit(self, request: Request | RequestState, on_event: Callable[[Event], None]) -> Ticket:
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
            now = {"running": len(self._running), "waiting": len(self._waiting)}
            ever = {name: self._counts[name] for name in COUNTERS}
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
                mine.update((ticket.state, ticket) for ticket in (*gone, *taken))
            for ticket in taken:
                engine.submit(ticket.state)
            for ticket in gone:
                self._end(engine, mine, ticket)
            self._step(engine, mine)

    def _step(self, engine: Engine, mine: dict[RequestState, Ticket]) -> None:
        """One step for all, each told what came of it. The engine ends a request that cannot be
        computed by itself; what breaks it in spite of that breaks all that ran, and nothing else.
        """
        try:
            events = engine.step()
        except Exception as error:
            log.exception("A step of the engine failed; the requests in it end.")
            for ticket in list(mine.values()):
                ticket.state.error = error
                self._end(engine, mine, ticket)
            return
        for state, event in events:
            if state in mine:
                self._tell(engine, mine, mine[state], event)

    def _tell(
        self, engine: Engine, mine: dict[RequestState, Ticket], ticket: Ticket, event: Event
    ) -> None:
        if event.finish_reason is not None:
            del mine[ticket.state]
            with self._changed:
                self._running.remove(ticket)
                self._counts[event.finish_reason] += 1
                self._counts["tokens"] += len(ticket.state.completion.ids)
                self._counts["prompt_tokens"] += len(ticket.state.request.prompt)
                self._changed.notify_all()
        try:
            ticket.on_event(event)
        except Exception as error:
            log.exception("A request's reader failed; its request ends.")
            ticket.state.error = ticket.state.error or error
            if event.finish_reason is None:
                self._end(engine, mine, ticket)

    def _end(self, engine: Engine, mine: dict[RequestState, Ticket], ticket: Ticket) -> None:
        """Before its time: because it was cancelled, or for its error."""
        event = engine.cancel(ticket.state)
        if event is not None:
            self._tell(engine, mine, ticket, event)


class EventBridge:
    """Carries events to the event loop, waking it once for all that arrived meanwhile: a wake-up
    costs more than an event. Made inside the running loop.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.arrived: deque[tuple[ResponseStream, int, Event]] = deque()
        self.coming = False

    def put(self, responses: ResponseStream, index: int, event: Event) -> None:
        """From any thread."""
        self.arrived.append((responses, index, event))
        if not self.coming:
            self.coming = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop has closed: nobody waits
                self.arrived.clear()

    def _deliver(self) -> None:
        # before the queue is read, so that what comes from here on wakes the loop again
        self.coming = False
        while self.arrived:
            responses, index, event = self.arrived.popleft()
            responses.events.append((index, event))
            responses.arrived.set()


class ResponseStream:
    """The requests of one client under way, for its coroutine. `close` cancels what still runs, and
    has to be called.
    """

    def __init__(
        self,
        bridge: EventBridge,
        service: AsyncEngine,
        requests: Sequence[Request | RequestState],
    ):
        """Hands all requests to the service, or none. Raises as `AsyncEngine.submit`."""
        self.events: Batch = []
        self.arrived = asyncio.Event()
        self.tickets: list[Ticket] = []
        try:
            for index, request in enumerate(requests):
                put = functools.partial(bridge.put, self, index)
                self.tickets.append(service.submit(request, put))
        except BaseException:
            self.close()
            raise

    async def batch(self) -> Batch:
        """What arrived since the last call, at least one event: the slower the client, the more."""
        await self.arrived.wait()
        self.arrived.clear()
        batch, self.events = self.events, []
        return batch

    def close(self) -> None:
        for ticket in self.tickets:
            if ticket.state.completion.finish_reason is None:
                ticket.cancel()
