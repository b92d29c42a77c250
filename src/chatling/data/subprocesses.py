"""Work beside a run, in a process of its own that never outlives it."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from chatling.errors import ChatlingError


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Run `work(*arguments)`, both of which must pickle, in a new process of low priority."""
    context, name = multiprocessing.get_context("spawn"), f"chatling{work.__name__}"
    process = context.Process(target=_work, args=(work, arguments), name=name, daemon=True)
    process.start()
    return process


def _work(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    # the run decides when it is over, and ends us then
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # whoever needs the result meets the same trouble, and tells of it
    with contextlib.suppress(ChatlingError):
        work(*arguments)


def _end_with_parent() -> None:
    """A daemon process is ended when its parent exits; this also holds when that is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
