"""`chatling status`: where a run stands, whether it lives or died."""

from rich.console import Console

from chatling.terminal.progress import duration, figures
from chatling.terminal.tables import print_table
from chatling.train.status import RunStatus, StageStatus

WORDS = {"ahead": "ahead of", "inside": "within", "behind": "behind"}


def show_status(status: RunStatus, console: Console) -> None:
    """Print a run as a table."""
    console.print(
        f"{status.name} at {status.path}:"
        f" {f'running (process {status.process})' if status.alive else 'not running'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    header = ("stage", "status", "step", "time", "planned", "left", "resumes", "last")
    print_table(console, header, map(_row, status.stages), left=(0, 1, 7))
    for stage in status.stages:
        if (known := stage.standing) is not None:
            console.print(
                f"{stage.name}: its loss is {WORDS[known.word]} what {known.runs} earlier"
                f" {'run' if known.runs == 1 else 'runs'} of this recipe had here"
                f" ({known.low:.3f} to {known.high:.3f}).",
                highlight=False,
                soft_wrap=True,
            )
        if stage.error and stage.status != "done":
            console.print(
                f"{stage.name}: {stage.error}", markup=False, highlight=False, soft_wrap=True
            )


def _row(stage: StageStatus) -> tuple[str, ...]:
    known = [f"{number:,}" for number in (stage.step, stage.steps) if number]
    step = "" if stage.step is None else "/".join(known)
    left = "" if stage.left is None else duration(stage.left)
    resumes = str(stage.resumes or "")
    time = duration(stage.seconds)
    planned = "" if stage.planned is None else duration(stage.planned)
    return (
        stage.name,
        stage.status,
        step,
        time,
        planned,
        left,
        resumes,
        " · ".join(figures(stage.metrics)),
    )
