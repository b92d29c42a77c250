"""Processes of one run: what one finds is shared, and the death of one is a sentence on the
others.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chatling.hardware.distributed import DistContext, PeerDied, peer_errors

SCRIPT = """
import os, signal, sys
import torch
from chatling.errors import ChatlingError
from chatling.hardware.distributed import process_group
try:
    with process_group(torch.device("cpu")) as world:
        looked = []
        fault = world.first_fault(lambda: looked.append(1) or "broken")
        print("fault:", fault, len(looked), flush=True)
        if world.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        world.all_reduce(torch.ones(8))
except ChatlingError as error:
    print("chatling:", error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def test_the_death_of_a_peer_is_one_sentence(tmp_path: Path) -> None:
    script = tmp_path / "peer.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env={**launched, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in (0, 1)
    ]
    (said, error), (other, _) = (process.communicate(timeout=120) for process in processes)
    assert (said, other) == ("fault: broken 1\n", "fault: broken 0\n")
    assert processes[0].returncode == 76
    ours = [line for line in error.splitlines() if line.startswith("chatling:")]
    assert len(ours) == 1
    assert "Another process of this run died" in ours[0]
    assert "the same command; it resumes" in ours[0]
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "text",
    [
        "[pair.cc:534] Connection closed by peer [127.0.0.1]:1",
        "NCCL communicator was aborted on rank 1",
    ],
)
def test_what_the_libraries_say_of_a_dead_peer_is_understood(text: str) -> None:
    with pytest.raises(PeerDied, match="Start the run again"), peer_errors():
        raise RuntimeError(text)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), peer_errors():
        raise RuntimeError("The shape is wrong.")
    assert DistContext().first_fault(lambda: "odd") == "odd"
    assert DistContext().first_fault(lambda: None) is None
