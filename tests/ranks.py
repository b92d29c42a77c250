"""Functions of tests called by several processes at once, as the ranks of a run."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch

from chatling.hardware.distributed import process_group

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["rank_training", "ranks"])  # torch is imported once


def on_ranks(work: Callable[..., Any], size: int, *given: Any, node: int | None = None) -> list:
    """What `work(world, *given)` returns on each rank; `node` is the number of ranks of a node."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [SERVER.Pipe() for _ in range(size)]
    processes = [
        SERVER.Process(target=_rank, args=(work, rank, size, node or size, port, pipe, given))
        for rank, (_, pipe) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, pipe in pipes:
        pipe.close()  # so that a process that dies is an end of file
    try:
        found = [pipe.recv() for pipe, _ in pipes]
    finally:
        for process in processes:
            process.join(timeout=60)
            process.kill()
    for fault, _ in found:
        assert fault is None, fault
    return [value for _, value in found]


def _rank(
    work: Callable[..., Any], rank: int, size: int, node: int, port: int, pipe: Any, given: tuple
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank % node),
        "LOCAL_WORLD_SIZE": str(node),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    try:
        with process_group(torch.device("cpu")) as world:
            value = work(world, *given)
            world.gather(None)  # none leaves while another works
        pipe.send((None, value))
    except BaseException:
        pipe.send((traceback.format_exc(), None))
