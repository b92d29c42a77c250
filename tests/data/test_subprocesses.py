"""Work beside a run ends with it, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
from beside import work
from chatling.data.subprocesses import start
if __name__ == "__main__":
    start(work, Path({told!r}))
    while not Path({told!r}).exists():
        time.sleep(0.01)
    {ending}
"""
WORK = """
import os, time
def work(told):
    told.with_suffix(".new").write_text(f"{os.getpid()} {os.nice(0)}")
    told.with_suffix(".new").rename(told)
    time.sleep(60)
"""


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize(
    "ending",
    ["pass", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)", "raise SystemExit(75)"],
)
def test_it_does_not_outlive_the_run(tmp_path: Path, ending: str) -> None:
    told = tmp_path / "told"
    (tmp_path / "beside.py").write_text(WORK)
    program = tmp_path / "run.py"
    program.write_text(PROGRAM.format(folder=str(tmp_path), told=str(told), ending=ending))
    subprocess.run([sys.executable, program], timeout=60)
    process, priority = map(int, told.read_text().split())
    assert priority >= os.nice(0) + 10 or priority == 19  # it does not compete with the training
    deadline = time.monotonic() + 10
    while lives(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not lives(process)
