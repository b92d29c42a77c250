"""Signals are noted while something runs, and go their old way afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

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


def test_the_first_request_is_noted_at_once_and_only_once() -> None:
    noted: list[str] = []
    told = threading.Event()

    def note() -> None:
        noted.append(threading.current_thread().name)
        told.set()

    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    with stop_requests(note=note) as stopping:
        signal.raise_signal(signal.SIGTERM)
        assert told.wait(10)
        signal.raise_signal(signal.SIGTERM)
        assert stopping()
    assert noted == [noted[0]] != ["MainThread"]
    assert signal.set_wakeup_fd(wakeup) == wakeup
    with stop_requests(note=note):
        pass
    assert len(noted) == 1


def test_a_request_is_noted_while_the_main_thread_is_busy_outside_python() -> None:
    code = """
import os, signal, sys, threading, time, zlib
from chatling.signals import stop_requests
data = bytes(300_000_000)
with stop_requests(note=lambda: print(time.monotonic(), flush=True)):
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    zlib.compress(data, 9)
    print(time.monotonic(), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    noted, ended = map(float, done.stdout.split())
    assert ended - noted > 0.1


def test_handlers_are_put_back_after_an_error() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(ValueError, match="gone"):  # noqa: SIM117, PT012
        with handle_signals(lambda number, frame: seen.append(number), (signal.SIGTERM,)):
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("gone")
    assert seen == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before
