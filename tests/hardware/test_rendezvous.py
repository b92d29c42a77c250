"""Nodes meet, meet again after a failure, and hear why a run is over."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatling.errors import MachineError
from chatling.hardware import rendezvous
from chatling.hardware.rendezvous import NodeRendezvous


def nodes(count: int) -> list[NodeRendezvous]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet: list[str] = []
    return [NodeRendezvous("r", count, i, "127.0.0.1", port, quiet.append) for i in range(count)]


def test_nodes_meet_by_their_ranks_and_again_after_one_was_lost() -> None:
    first, second = nodes(2)
    with ThreadPoolExecutor(3) as pool:
        ports = []
        for _ in range(2):
            waiting = [pool.submit(each.next_rendezvous) for each in (second, first)]
            met = [future.result(timeout=60) for future in reversed(waiting)]
            assert [(found.rank, found.world_size) for found in met] == [(0, 2), (1, 2)]
            assert met[0].bootstrap_store_info == met[1].bootstrap_store_info
            met[0].store.set("key", str(len(ports)))
            assert met[1].store.get("key") == str(len(ports)).encode()
            ports.append(met[0].bootstrap_store_info.master_port)
        # the second node's launcher is lost and comes back: the first one sees it wait
        assert first.num_nodes_waiting() == 0
        back = NodeRendezvous("r", 2, 1, "127.0.0.1", first._port, lambda line: None)
        returned = pool.submit(back.next_rendezvous)
        while not first.num_nodes_waiting():
            assert not returned.done()
        assert first.next_rendezvous().world_size == 2
        assert returned.result(timeout=60).rank == 1
        back.end("was stopped")
        assert first.ended(10) == "was stopped"
        first.end("failed")
        assert back.ended() == "was stopped"
        with pytest.raises(MachineError, match="was stopped on another node"):
            first.next_rendezvous()
        parted = [pool.submit(each.shutdown) for each in (first, back)]
        assert all(future.result(timeout=60) for future in parted)


def test_a_node_that_does_not_come_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.5)
    with pytest.raises(MachineError, match="Of 2 nodes, some did not arrive"):
        nodes(2)[0].next_rendezvous()


def test_one_node_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "TCPStore", None)
    (only,) = nodes(1)
    assert only.next_rendezvous().world_size == 1
    assert only.num_nodes_waiting() == 0
    assert only.ended() is None
    only.end("failed")
    assert only.ended() == "failed"
    assert only.shutdown()
