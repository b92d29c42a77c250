"""The launcher's processes, which here are small scripts: lost ones start again, stopped ones do
not.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from chatling.errors import Interrupted, RunError
from chatling.hardware.launcher import Launch, launch

SCRIPT = """
import os, pathlib, signal, sys, time
marker, rank = pathlib.Path(sys.argv[1]), int(os.environ["RANK"])
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
(marker.parent / f"started-{rank}-{attempt}").touch()
def stop(number, frame):
    marker.touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
def others():
    for _ in range(3000):
        time.sleep(0.02)
    sys.exit(3)
"""


def run(
    tmp_path: Path, body: str, *, processes: int = 2, restarts: int = 2, words: tuple[str, ...] = ()
) -> list[str]:
    """What the launcher said."""
    script, marker = tmp_path / "script.py", tmp_path / "run" / ".stopped"
    marker.parent.mkdir()
    script.write_text(SCRIPT + body)
    said: list[str] = []
    given = Launch(1, 0, "127.0.0.1", 29400, processes, restarts, timeout=5)
    try:
        launch(given, [str(script), str(marker)], marker.parent, marker, said.append)
    finally:
        (tmp_path / "said").write_text("\n".join(said))
    return said


def started(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "run").glob("started-*"))


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_a_killed_process_starts_again_with_the_others(tmp_path: Path) -> None:
    body = "if attempt == 0: os.kill(os.getpid(), signal.SIGKILL) if rank else others()"
    (said,) = run(tmp_path, body)
    assert "SIGKILL" in said
    assert "1 of 2" in said
    assert started(tmp_path) == ["started-0-0", "started-0-1", "started-1-0", "started-1-1"]
    # those that the launcher ended itself were no stop
    assert not (tmp_path / "run/.stopped").exists()


def test_restarts_have_a_limit(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="SIGKILL") as caught:
        run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)", processes=1, restarts=1)
    assert caught.value.exit_code == 1
    assert started(tmp_path) == ["started-0-0", "started-0-1"]


@pytest.mark.parametrize("code", [1, 2])
def test_an_error_that_says_what_to_mend_ends_the_run_with_its_code(
    tmp_path: Path, code: int
) -> None:
    with pytest.raises(RunError, match=f"code {code}") as caught:
        run(tmp_path, f"sys.exit({code}) if rank else others()")
    assert caught.value.exit_code == code
    assert (tmp_path / "said").read_text() == ""


def test_a_peer_that_was_lost_is_no_fault(tmp_path: Path) -> None:
    (said,) = run(tmp_path, "if attempt == 0: sys.exit(76) if rank else others()")
    assert "lost another one" in said


def test_a_process_that_was_asked_to_stop_stops_the_run(tmp_path: Path) -> None:
    body = "os.kill(os.getpid(), signal.SIGTERM) if rank else others()"
    with pytest.raises(Interrupted) as caught:
        run(tmp_path, body)
    assert caught.value.exit_code == 75
    assert started(tmp_path) == ["started-0-0", "started-1-0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_launcher_that_is_asked_to_stop_asks_its_processes(
    tmp_path: Path, number: signal.Signals
) -> None:
    main, done = os.getpid(), threading.Event()

    def ask() -> None:
        while len(started(tmp_path)) < 2 and not done.wait(0.05):
            pass
        done.wait(0.3)
        os.kill(main, number)

    threading.Thread(target=ask, daemon=True).start()
    with pytest.raises(Interrupted):
        run(tmp_path, "signal.signal(signal.SIGINT, stop); others()")
    done.set()
    assert (tmp_path / "run/.stopped").exists()
    assert started(tmp_path) == ["started-0-0", "started-1-0"]
