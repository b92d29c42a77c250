"""The errors that people see: what was wrong and where, and the step that mends it."""

import difflib
from collections.abc import Iterable


class ChatlingError(Exception):
    """A problem the user can mend. Printed as one sentence without a traceback; the process exits
    with `exit_code`.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str | None = None):
        """`what` says what was wrong and where; `hint` says what to do about it."""
        self.what, self.hint = what, hint
        super().__init__(f"{what} {hint}" if hint else what)


class RecipeError(ChatlingError):
    """A recipe or an override that does not make sense."""

    exit_code = 2


class DataError(ChatlingError):
    """A corpus, shard, conversation or tokenizer that is missing, damaged or malformed."""


class RunError(ChatlingError):
    """A run folder that is locked, unwritable, damaged or out of step with its recipe."""


class MachineError(ChatlingError):
    """The machine lacks what was asked of it: memory, disk, a device, a library."""


class Interrupted(ChatlingError):
    """Stopped by SIGTERM or SIGINT after saving; exit code 75 (EX_TEMPFAIL) asks a scheduler to
    start it again.
    """

    exit_code = 75


def nearest(word: str, known: Iterable[str]) -> str | None:
    """ "Did you mean …?" with the known word that is most like `word`, or None when none is."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"Did you mean {found[0]!r}?" if found else None
