"""SIGINT and SIGTERM for as long as something runs that has to end in order."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def handle_signals(
    handler: Callable[[int, FrameType | None], None], numbers: tuple[int, ...] = STOP_SIGNALS
) -> Iterator[None]:
    """Call `handler` at these signals; afterwards the handlers from before are back."""
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


@contextlib.contextmanager
def stop_requests(
    numbers: tuple[int, ...] = STOP_SIGNALS, note: Callable[[], None] | None = None
) -> Iterator[Callable[[], bool]]:
    """Catch these signals; the yielded function tells whether one came. A second SIGINT interrupts
    at once. `note` is called by another thread as soon as the first one comes.

    Python's own KeyboardInterrupt is lost where it meets a callback; what was noted is not.
    """
    received: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    with (
        handle_signals(handler, numbers),
        _noted(note, numbers) if note else contextlib.nullcontext(),
    ):
        yield lambda: bool(received)


@contextlib.contextmanager
def _noted(note: Callable[[], None], numbers: tuple[int, ...]) -> Iterator[None]:
    """Call `note` at the first of these signals. A handler would run only once the main thread is
    back in Python, which a long operation keeps it from.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        while (number := os.read(reading, 1)[0]) != 0:
            if number in numbers:
                note()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.write(writing, b"\0")
        thread.join()
        os.close(reading)
        os.close(writing)
