"""The errors that people see: what was wrong and where, and the step that mends it."""


class ChatlingError(Exception):
    """A problem the user can mend. Printed as one sentence without a traceback; the process exits with `exit_code`."""

    exit_code = 1

    def __init__(self, what: str, mend: str | None = None):
        """`what` says what was wrong and where; `mend` says what to do about it."""
        self.what, self.mend = what, mend
        super().__init__(f"{what} {mend}" if mend else what)


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
    """Stopped by SIGTERM or SIGINT after saving; exit code 75 (EX_TEMPFAIL) asks a scheduler to start it again."""

    exit_code = 75
