"""`chatling status`: where a run stands, whether it lives or died."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from chatling.terminal.progress import duration, figures
from chatling.train.status import RunStatus


def show_status(status: RunStatus, console: Console) -> None:
    """Print a run as a table."""
    console.print(
        f"{status.name} at {status.path}:"
        f" {f'running (process {status.process})' if status.alive else 'not running'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("stage", "status", "step", "time", "left", "resumes", "last"):
        table.add_column(
            column,
            justify="right" if column in ("step", "time", "left", "resumes") else "left",
            no_wrap=column != "last",
        )
    for stage in status.stages:
        step = (
            ""
            if stage.step is None
            else f"{stage.step:,}/{stage.steps:,}"
            if stage.steps
            else f"{stage.step:,}"
        )
        left = "" if stage.left is None else duration(stage.left)
        table.add_row(
            stage.name,
            stage.status,
            step,
            duration(stage.seconds),
            left,
            str(stage.resumes or ""),
            figures(stage.metrics),
        )
    console.print(table)
    for stage in status.stages:
        if stage.error and stage.status != "done":
            console.print(
                f"{stage.name}: {stage.error}", markup=False, highlight=False, soft_wrap=True
            )
