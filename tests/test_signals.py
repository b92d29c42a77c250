"""Signals are noted while something runs, and go their old way afterwards."""

from __future__ import annotations

import signal

import pytest

from chatling.signals import handle_signals, stop_requests


def test_a_request_to_stop_is_noted_and_a_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_requests() as stopping:
        assert not stopping()
        signal.raise_signal(signal.SIGTERM)
        assert stopping()
        signal.raise_signal(signal.SIGTERM)  # again: it is stopping already
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_handlers_are_put_back_after_an_error() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(ValueError, match="gone"):  # noqa: SIM117, PT012
        with handle_signals(lambda number, frame: seen.append(number), (signal.SIGTERM,)):
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("gone")
    assert seen == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before
