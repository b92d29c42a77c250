"""The service: many threads, one queue; every ticket ends exactly once, whatever goes wrong."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chatling.errors import ChatlingError
from chatling.inference.async_engine import AsyncEngine, QueueFull, Ticket
from chatling.inference.engine import Engine, Event, Request, SamplingParams
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer

Make = Callable[..., GPT]
LONG = Request((1, 2, 3), SamplingParams(seed=1, max_tokens=100))


@contextmanager
def serving(*engines: Engine, queue_limit: int = 1000) -> Iterator[AsyncEngine]:
    service = AsyncEngine(engines, queue_limit=queue_limit)
    try:
        yield service
    finally:
        service.close()
        assert service.stats()["running"] == service.stats()["waiting"] == 0
        assert not any(engine.busy for engine in engines)


class Reader:
    """Collects a ticket's events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended = threading.Event()

    def __call__(self, event: Event) -> None:
        assert not self.ended.is_set()  # nothing comes after the end
        self.events.append(event)
        if event.finish_reason is not None:
            self.ended.set()

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events)

    def wait(self) -> str | None:
        assert self.ended.wait(30)
        return self.events[-1].finish_reason


def ask(service: AsyncEngine, request: Request) -> tuple[Ticket, Reader]:
    reader = Reader()
    return service.submit(request, reader), reader


def test_many_threads_get_what_one_caller_gets(make_model: Make, tokenizer: Tokenizer) -> None:
    model = make_model()
    requests = [
        Request((1, 2, *range(i % 7)), SamplingParams(seed=i, max_tokens=5 + i % 20))
        for i in range(40)
    ]
    expected = Engine(model, tokenizer, max_batch_size=4).generate(requests)
    with serving(
        Engine(model, tokenizer, max_batch_size=4), Engine(model, tokenizer, max_batch_size=4)
    ) as service:
        readers: dict[int, Reader] = {}

        def call(part: int) -> None:
            for i in range(part, len(requests), 8):
                _, readers[i] = ask(service, requests[i])

        threads = [threading.Thread(target=call, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [readers[i].wait() for i in range(40)] == [
            completion.finish_reason for completion in expected
        ]
        assert [readers[i].text for i in range(40)] == [completion.text for completion in expected]
        stats = service.stats()
        assert stats["tokens"] == sum(len(completion.ids) for completion in expected)
        assert stats["prompt_tokens"] == sum(len(request.prompt) for request in requests)
        assert stats["stop"] + stats["length"] == stats["requests"] == 40


def test_cancel_running_and_waiting(make_model: Make, tokenizer: Tokenizer) -> None:
    with serving(Engine(make_model(), tokenizer, max_batch_size=1)) as service:
        started = threading.Event()
        reader = Reader()

        def slow(event: Event) -> None:
            started.set()
            time.sleep(0.01)
            reader(event)

        running = service.submit(LONG, slow)
        waiting, queued = ask(service, LONG)
        last, other = ask(service, Request((4,), SamplingParams(max_tokens=3)))
        assert started.wait(30)
        waiting.cancel()
        running.cancel()
        running.cancel()
        assert reader.wait() == queued.wait() == "cancelled"
        assert 0 < len(running.state.completion.ids) < 100
        assert waiting.state.completion.ids == []
        assert other.wait() in ("length", "stop")
        last.cancel()  # too late to matter
        assert last.state.completion.finish_reason in ("length", "stop")
        assert service.stats()["cancelled"] == 2


def test_full_queue_is_refused(make_model: Make, tokenizer: Tokenizer) -> None:
    with serving(Engine(make_model(), tokenizer, max_batch_size=2), queue_limit=3) as service:
        gate = threading.Event()
        readers = [Reader() for _ in range(5)]

        def held(reader: Reader) -> Callable[[Event], None]:
            def tell(event: Event) -> None:
                gate.wait(30)
                reader(event)

            return tell

        for reader in readers:
            service.submit(LONG, held(reader))
        with pytest.raises(QueueFull, match="waiting"):
            service.submit(LONG, print)
        with pytest.raises(ChatlingError, match="empty"):
            service.submit(Request(()), print)
        gate.set()
        assert [reader.wait() for reader in readers]
        assert service.stats()["refused"] == 1
    with pytest.raises(QueueFull, match="shutting down"):
        service.submit(LONG, print)


def test_a_failing_reader_ends_alone(make_model: Make, tokenizer: Tokenizer) -> None:
    with serving(Engine(make_model(), tokenizer, max_batch_size=3)) as service:
        calls = []

        def broken(event: Event) -> None:
            calls.append(event.finish_reason)
            raise ValueError("gone")

        bad = service.submit(LONG, broken)
        _, good = ask(service, LONG)
        assert good.wait() in ("length", "stop")
        assert calls == [None, "error"]
        assert isinstance(bad.state.error, ValueError)


@pytest.mark.parametrize("part", ["prefill", "decode", "sampler", "copy"])
def test_a_step_that_fails_ends_the_culprit_alone(
    make_model: Make, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The others go on, and say what they say without it."""
    start = tuple(range(1, 40))
    requests = [Request((*start, i), SamplingParams(seed=i, max_tokens=30)) for i in range(5)]
    engine = Engine(make_model(), tokenizer, max_batch_size=6)
    expected = [completion.text for completion in engine.generate(requests)]
    engine.scheduler.prefixes.forget()
    bad = Request((*start, 99), SamplingParams(seed=99, max_tokens=30, top_k=7))

    def fail() -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    if part == "sampler":
        make = engine._sampler_for
        monkeypatch.setattr(
            engine,
            "_sampler_for",
            lambda rows: fail() if any(r and r.request is bad for r in rows) else make(rows),
        )
    else:
        owner = engine.runner.cache if part == "copy" else engine.runner
        real = getattr(owner, part)

        def flaky(work: Any, *more: Any) -> Any:
            slot = next(
                (i for i, r in enumerate(engine.scheduler.slots) if r and r.request is bad), -1
            )
            mine = {
                "prefill": lambda: any(block.slot == slot for block in work),
                "decode": lambda: len(work) > slot and work[slot][3] == 1,
                "copy": lambda: slot in more[0],
            }[part]
            return fail() if slot >= 0 and mine() else real(work, *more)

        monkeypatch.setattr(owner, part, flaky)
    with serving(engine) as service:
        readers = [ask(service, request)[1] for request in requests[:3]]
        ticket, reader = ask(service, bad)
        readers += [ask(service, request)[1] for request in requests[3:]]
        assert reader.wait() == "error"
        assert "Memory ran out" in str(ticket.state.error)
        assert all(other.wait() in ("length", "stop") for other in readers)
        assert [other.text for other in readers] == expected
        assert service.stats()["error"] == 1


def test_a_step_that_fails_once_is_made_good(
    make_model: Make, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a prompt that is scored: nothing is counted twice."""
    requests = [
        Request(
            tuple(range(i, i + 70)),
            SamplingParams(seed=i, max_tokens=9, repetition_penalty=2),
            echo=i == 1,
        )
        for i in range(3)
    ]
    engine = Engine(make_model(), tokenizer, max_batch_size=3)
    expected = engine.generate(requests)
    for part in ("_echo", "_sample"):
        engine.scheduler.prefixes.forget()
        real, failing = getattr(engine, part), [True]

        def flaky(*given: Any, real: Any = real, failing: list[bool] = failing) -> Any:
            done = real(*given)
            if failing and failing.pop():
                raise ValueError("once")
            return done

        monkeypatch.setattr(engine, part, flaky)
        assert engine.generate(requests) == expected
        assert not failing


def test_a_calculator_that_breaks_ends_its_request_alone(
    make_model: Make, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(make_model(), tokenizer, max_batch_size=2)
    bad = engine.submit(LONG)
    good = engine.submit(LONG)
    monkeypatch.setattr(bad, "_calculator", lambda token: 1 / 0)
    while engine.busy:
        engine.step()
    assert (bad.completion.finish_reason, good.completion.finish_reason) == (
        "error",
        engine.generate([LONG])[0].finish_reason,
    )


@pytest.mark.parametrize("patience", [0.0, 30.0])
def test_close(make_model: Make, tokenizer: Tokenizer, patience: float) -> None:
    service = AsyncEngine([Engine(make_model(), tokenizer, max_batch_size=2)])
    readers = [ask(service, LONG)[1] for _ in range(6)]
    service.close(finish_within=patience)
    ends = [reader.wait() for reader in readers]
    assert ("cancelled" in ends) == (patience == 0)
