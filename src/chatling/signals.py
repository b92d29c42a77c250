"""SIGINT and SIGTERM for as long as something runs that has to end in order."""

import contextlib
import signal
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
def stop_requests(numbers: tuple[int, ...] = STOP_SIGNALS) -> Iterator[Callable[[], bool]]:
    """Catch these signals; the yielded function tells whether one came. A second SIGINT interrupts
    at once.

    Python's own KeyboardInterrupt is lost where it meets a callback; what was noted is not.
    """
    received: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    with handle_signals(handler, numbers):
        yield lambda: bool(received)
