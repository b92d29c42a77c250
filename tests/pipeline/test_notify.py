"""The user's command hears of stages, rollbacks and failures, and nothing is read by a shell."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from chatling.cli import main
from chatling.errors import Interrupted, MachineError, RunError
from chatling.pipeline.notify import Notifying, split_command
from chatling.train.trainer import ROLLED_BACK

CODE = (
    "import json, os, sys; told = {k: os.environ[f'CHATLING_{k}'] for k in"
    " ('RUN', 'EVENT', 'MESSAGE')}; open(sys.argv[1], 'a').write(json.dumps(told) + chr(10))"
)


def heard(path: Path) -> list[tuple[str, str]]:
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [(line["EVENT"], line["MESSAGE"]) for line in lines]


def test_what_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "heard"
    words = [sys.executable, "-c", CODE, str(path)]
    evil = f"$(touch {tmp_path}/evil); `touch {tmp_path}/evil` '\"\n"

    def train() -> None:
        with Notifying(words, "x", silent=False, work={}) as progress:
            progress.message("nothing to tell")
            progress.message(f"{ROLLED_BACK} to step 5: {evil}.")
            progress.stage_done("base", 3.0)
            raise RunError(evil)

    with pytest.raises(RunError):
        train()
    assert heard(path) == [
        ("rollback", f"{ROLLED_BACK} to step 5: {evil}."),
        ("stage", "base is done."),
        ("failure", evil),
    ]
    assert not (tmp_path / "evil").exists()
    with pytest.raises(Interrupted), Notifying(words, "x", silent=False, work={}):
        raise Interrupted("Stopped by SIGTERM.")
    assert heard(path)[-1] == ("interrupted", "Stopped by SIGTERM.")
    with Notifying(words, "x", silent=True, work={}) as progress:  # another rank
        progress.stage_done("mid", 3.0)
    assert len(heard(path)) == 4


def test_a_command_that_fails_is_said_and_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Notifying(["false"], "x", silent=False, work={}) as progress:
        progress.stage_done("base", 3.0)
    assert "--notify failed: it ended with code 1" in capfd.readouterr().out


@pytest.mark.parametrize("command", ["", "no-such-program x", "'unclosed"])
def test_a_command_that_cannot_be_run_is_refused_at_once(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MachineError, match="--notify"):
        split_command(command)
    assert main(["run", "pocket", "--notify", command]) == 1
    assert "--notify" in capfd.readouterr().err
