"""The processes of a run on this node: started, watched, started again when one is lost, stopped in
order. Built on torchrun's elastic agent.
"""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from torch.distributed import DistError
from torch.distributed.elastic.agent.server.api import (
    RunResult,
    WorkerGroup,
    WorkerSpec,
    WorkerState,
)
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs

from chatling.errors import Interrupted, RunError
from chatling.hardware.distributed import FLIGHT, LAUNCHED, LOST, STEP_TIMEOUT
from chatling.hardware.rendezvous import NodeRendezvous
from chatling.signals import STOP_SIGNALS, handle_signals

LOOK_SECONDS = 0.2
NEWS = 5.0  # seconds that another node has to say why its processes left
HANGUP = (signal.SIGHUP,)
STOPPED, FAILED = "was stopped", "failed"
RESUME = "Run the same command again to resume."
# codes of errors that the same command would meet again
FAULTS = (1, 2)


@dataclass(frozen=True)
class Launch:
    """Which processes: so many on each of so many nodes, of which this one has a rank. They meet at
    an address of node 0. A step may wait `timeout` seconds for another process.
    """

    nodes: int
    node_rank: int
    host: str
    port: int
    processes: int
    restarts: int
    timeout: float


class RunAgent(LocalElasticAgent):
    """torchrun's agent, for which a stop is a stop: it passes on what asks it to stop, and starts
    nothing again that was stopped, or that an error ended which a person must mend.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        meeting: NodeRendezvous,
        marker: Path,
        note: Callable[[str], None],
    ):
        super().__init__(spec, DefaultLogsSpecs())
        self._meeting, self._marker, self._note = meeting, marker, note
        # what asked it to stop, and whether its processes were told
        self._asked: int | None = None
        self._passed_on = False
        self.ended: str | None = None

    def stop(self, number: int, frame: FrameType | None) -> None:
        """A signal's handler. The processes are told by the next look at them."""
        self._marker.parent.mkdir(parents=True, exist_ok=True)
        self._marker.touch()
        self._asked, self._passed_on = number, False
        if self._meeting.waiting:
            raise Interrupted("The run was stopped.", RESUME)

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        if self._asked is not None:
            raise Interrupted("The run was stopped.", RESUME)
        return super()._start_workers(worker_group)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        # looked at before the agent tells those that are left to end, who then say so, too
        stopped = self._asked is not None or self._marker.exists()
        if stopped:
            self._meeting.end(STOPPED)
        result = super()._monitor_workers(worker_group)
        if result.state == WorkerState.HEALTHY:
            stopped = stopped or self._meeting.ended() == STOPPED
            if stopped and not self._passed_on:
                self._pass_on()
        elif result.state != WorkerState.SUCCEEDED:
            self.ended = self._why(stopped, result)
            if self.ended is None:
                self._marker.unlink(missing_ok=True)
                most = self._worker_group.spec.max_restarts
                count = f"{most - self._remaining_restarts + 1} of {most}"
                self._note(f"{_story(result)}; all start again from what is saved ({count}).")
            else:
                self._remaining_restarts = 0
                self._meeting.end(self.ended)
        return result

    def _pass_on(self) -> None:
        """Ask the processes to stop; a second Ctrl-C stops them at once."""
        self._passed_on = True
        assert self._pcontext is not None
        number = signal.SIGINT if self._asked == signal.SIGINT else signal.SIGTERM
        for process in self._pcontext.pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def _why(self, stopped: bool, result: RunResult) -> str | None:
        """Why the run is over; None where new processes continue it."""
        if stopped:
            return STOPPED
        if (told := self._meeting.ended(NEWS if self._meeting.many else 0.0)) is not None:
            return told
        codes = [failure.exitcode for failure in result.failures.values()]
        if any(code in FAULTS for code in codes) or not self._remaining_restarts:
            return FAILED
        return None


def _story(result: RunResult) -> str:
    """Which process was lost, and how."""
    if not result.failures:
        return "A process was lost"
    rank, first = min(result.failures.items(), key=lambda item: item[1].timestamp)
    if first.exitcode < 0:
        return f"Process {rank} was ended by {signal.Signals(-first.exitcode).name}"
    lost = " when it lost another one" * (first.exitcode == LOST)
    return f"Process {rank} ended with code {first.exitcode}{lost}"


def launch(
    given: Launch, words: Sequence[str], run: Path, marker: Path, note: Callable[[str], None]
) -> None:
    """Run Python with these words in this node's processes to its end. Raises Interrupted when it
    was stopped, on whichever node, and RunError with the code of the process that failed.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    marker.unlink(missing_ok=True)
    os.environ.update(_environment(given, run))
    meeting = NodeRendezvous(run.name, given.nodes, given.node_rank, given.host, given.port, note)
    spec = WorkerSpec(
        role="chatling",
        local_world_size=given.processes,
        rdzv_handler=meeting,
        entrypoint=sys.executable,
        args=tuple(words),
        max_restarts=given.restarts,
        monitor_interval=LOOK_SECONDS,
    )
    agent = RunAgent(spec, meeting, marker, note)
    try:
        with handle_signals(agent.stop, (*STOP_SIGNALS, *HANGUP)):
            result = agent.run()
    except Interrupted:
        meeting.end(STOPPED)
        raise
    except (DistError, RuntimeError) as error:
        if not meeting.many:
            raise
        raise RunError(
            f"The meeting on node 0 is lost ({str(error).splitlines()[0][:200]}).",
            "Start the same command again on all nodes; the run resumes.",
        ) from error
    finally:
        with contextlib.suppress(DistError, RuntimeError):
            meeting.shutdown()
    if agent.ended == STOPPED:
        raise Interrupted("The run was stopped.", RESUME)
    if agent.ended is not None:
        fault = RunError(f"{_story(result)}.", "What it said stands above.")
        codes = [failure.exitcode for failure in result.failures.values()]
        fault.exit_code = next((code for code in codes if code in FAULTS), 1)
        raise fault


def _environment(given: Launch, run: Path) -> dict[str, str]:
    """What the processes read. Settings of the user's own stay."""
    flight = str(run / FLIGHT / "rank_")
    chosen = {
        # the agent's own signals are handled here; it would end its processes at once
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGQUIT",
        LAUNCHED: "1",
        STEP_TIMEOUT: str(given.timeout),
    }
    recorder = {
        "TORCH_FR_BUFFER_SIZE": "2000",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_DUMP_TEMP_FILE": flight,
        "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": flight,
    }
    return {**recorder, **{key: os.environ[key] for key in recorder if key in os.environ}, **chosen}
