"""Where the nodes of a run meet before its processes start, and again after a failure."""

import json
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch.distributed import DistError, HashStore, PrefixStore, Store, TCPStore
from torch.distributed.elastic.rendezvous.api import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousStoreInfo,
)

from chatling.errors import MachineError

PORT = 29400  # torchrun's
LOOK_SECONDS = 0.2
PATIENCE = 3600.0  # seconds in which all nodes must arrive; one may have to be booted
PARTING = 30.0  # seconds in which all nodes must have seen how it ended
ROUND, ARRIVALS, END, PARTED = "round", "arrivals", "end", "parted"


class NodeRendezvous(RendezvousHandler):
    """Nodes of fixed ranks, which meet at a store on node 0. Each arrival has a number; a round
    begins when every node has arrived since the last one, so that a node that was lost and came
    back is waited for, whichever side noticed first.
    """

    def __init__(
        self, run: str, nodes: int, rank: int, host: str, port: int, note: Callable[[str], None]
    ):
        self._run, self._nodes, self._rank, self._host, self._port = run, nodes, rank, host, port
        self._note = note
        self._store: Store | None = None
        self._round: dict[str, Any] = {"arrivals": 0}
        self.waiting = False

    @property
    def many(self) -> bool:
        return self._nodes > 1

    def get_backend(self) -> str:
        return "chatling"

    def get_run_id(self) -> str:
        return self._run

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait for all nodes. Raises MachineError when they do not come, or the run ended."""
        self.waiting = True
        try:
            store = self._open()
            self._round = self._wait(store)
        finally:
            self.waiting = False
        where = RendezvousStoreInfo(self._host, self._round["port"])
        own = PrefixStore(f"round/{self._round['arrivals']}", store)
        return RendezvousInfo(own, self._rank, self._nodes, where)

    def _wait(self, store: Store) -> dict[str, Any]:
        """Arrive, and wait for the round that all have arrived for."""
        deadline, told = time.monotonic() + PATIENCE, False
        own = store.add(ARRIVALS, 1)
        store.set(f"arrived/{self._rank}", str(own))
        while not (found := self._begun(store, own)):
            if (why := self.ended()) is not None:
                raise MachineError(f"The run {why} on another node.", "Start it again on all.")
            if self._rank == 0:
                self._begin(store)
            if time.monotonic() > deadline:
                raise MachineError(
                    f"Of {self._nodes} nodes, some did not arrive within {PATIENCE / 60:.0f}"
                    " minutes.",
                    "Start the same command on each, with its own --node-rank.",
                )
            if not told and self.many:
                self._note(f"Node {self._rank} waits for all {self._nodes} at {self._host}.")
                told = True
            time.sleep(LOOK_SECONDS)
        return found

    def _open(self) -> Store:
        if self._store is None and self._nodes == 1:
            self._store = HashStore()
        deadline = time.monotonic() + PATIENCE
        while self._store is None:
            try:
                self._store = TCPStore(
                    self._host,
                    self._port,
                    is_master=self._rank == 0,
                    wait_for_workers=False,
                    timeout=timedelta(seconds=10),
                )
            except (DistError, RuntimeError) as error:
                if self._rank == 0 or time.monotonic() > deadline:
                    raise MachineError(
                        f"There is no meeting at {self._host}:{self._port}"
                        f" ({str(error).splitlines()[0][:200]}).",
                        "--rendezvous is an address of node 0, with a free port, that every node"
                        " reaches.",
                    ) from error
        return self._store

    def _begun(self, store: Store, own: int) -> dict[str, Any] | None:
        """The round that this node's arrival is part of, once node 0 has begun it."""
        if not store.check([ROUND]):
            return None
        found: dict[str, Any] = json.loads(store.get(ROUND))
        return found if found["arrived"][self._rank] == own else None

    def _begin(self, store: Store) -> None:
        """Begin a round if every node has arrived since the last one."""
        keys = [f"arrived/{node}" for node in range(self._nodes)]
        if not store.check(keys):
            return
        arrived = [int(store.get(key)) for key in keys]
        if min(arrived) <= self._round["arrivals"]:
            return
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        facts = {"arrived": arrived, "arrivals": max(arrived), "port": port}
        store.set(ROUND, json.dumps(facts))

    def num_nodes_waiting(self) -> int:
        store = self._store
        return 0 if store is None else max(0, store.add(ARRIVALS, 0) - self._round["arrivals"])

    def end(self, why: str) -> None:
        """Tell all nodes that the run is over, and why; the first reason counts."""
        if self._store is not None:
            self._store.compare_set(END, "", why)

    def ended(self, patience: float = 0.0) -> str | None:
        """Why the run is over, if some node said so within so many seconds."""
        deadline = time.monotonic() + patience
        while self._store is not None:
            if self._store.check([END]):
                return self._store.get(END).decode()
            if time.monotonic() >= deadline:
                break
            time.sleep(LOOK_SECONDS)
        return None

    def shutdown(self) -> bool:
        """Node 0, which has the store, waits a while until the others have parted from it."""
        store, deadline = self._store, time.monotonic() + PARTING
        if store is not None:
            store.add(PARTED, 1)
            while self._rank == 0 and store.add(PARTED, 0) < self._nodes:
                if time.monotonic() > deadline:
                    return False
                time.sleep(LOOK_SECONDS)
        return True

    def is_closed(self) -> bool:
        return self.ended() is not None

    def set_closed(self) -> None:
        self.end("failed")
