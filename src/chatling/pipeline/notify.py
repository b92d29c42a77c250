"""Tell a command of the user's what happens to a run."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from chatling.errors import Interrupted, MachineError
from chatling.terminal.progress import Progress
from chatling.train.trainer import ROLLED_BACK

PATIENCE = 10.0  # seconds that the command may take


class Notifying(Progress):
    """Progress that also runs a command when a stage is done, training was rolled back, or the run
    stopped. It learns what happened from its environment alone, so no text of the run is ever read
    by a shell.
    """

    def __init__(self, words: Sequence[str], run: str, *, silent: bool, work: Mapping[str, float]):
        super().__init__(silent=silent, work=work)
        self._words, self._run = words, run

    def message(self, text: str) -> None:
        super().message(text)
        if text.startswith(ROLLED_BACK):
            self._notify("rollback", text)

    def stage_done(self, name: str, seconds: float) -> None:
        super().stage_done(name, seconds)
        self._notify("stage", f"{name} is done.")

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        if (error := raised[1]) is not None:
            stopped = isinstance(error, Interrupted | KeyboardInterrupt)
            self._notify(
                "interrupted" if stopped else "failure", str(error) or type(error).__name__
            )

    def _notify(self, event: str, text: str) -> None:
        if self._silent:
            return
        told = {"CHATLING_RUN": self._run, "CHATLING_EVENT": event, "CHATLING_MESSAGE": text}
        try:
            done = subprocess.run(
                self._words,
                env=os.environ | told,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE,
            )
            fault = f"it ended with code {done.returncode}" if done.returncode else ""
        except (OSError, ValueError, subprocess.SubprocessError) as problem:
            fault = str(problem)
        if fault:
            super().message(f"The command of --notify failed: {fault}.")


def split_command(command: str) -> list[str]:
    """Its words, as a shell splits them. Raises MachineError for a command that there is not."""
    hint = "Give a program with its arguments, such as --notify 'notify-send chatling'."
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise MachineError(f"--notify cannot be split into words: {error}.", hint) from None
    if not words or shutil.which(words[0]) is None:
        raise MachineError(f"--notify names no program: {command[:80]!r}.", hint)
    return words
