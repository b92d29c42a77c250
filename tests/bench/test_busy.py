"""Training beside busy processes is measured, and they are gone afterwards."""

import subprocess
import sys

import pytest

from chatling.bench import busy
from chatling.config.stages import MachineConfig


def test_the_share_of_the_quiet_speed_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = busy.subprocess.Popen

    def note(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(busy.subprocess, "Popen", note)
    rows = busy.measure_busy(
        (0, 1),
        rounds=1,
        seconds=0.1,
        machine=MachineConfig(compile="off", kernel="sdpa", dtype="float32", threads=1),
    )
    assert [row["unit"] for row in rows] == ["tokens/s", "%"] * 2
    assert all(row["value"] > 0 for row in rows)
    assert rows[1]["value"] == 100
    assert [process.poll() is not None for process in started] == [True]


def test_a_busy_process_ends_with_the_one_that_started_it() -> None:
    code = (
        "import os; from chatling.bench.busy import busy_processes;"
        " busy_processes(1).__enter__(); print('started', flush=True); os._exit(0)"
    )
    # reads until nobody holds the output any more, the busy process included
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.stdout == b"started\n"
