"""`chatling doctor`: what was found, the worst first."""

from collections.abc import Sequence

from rich.console import Console

from chatling.hardware.check import Finding

STYLES = {"fault": "bold red", "warning": "yellow", "note": "dim"}


def show_findings(
    findings: Sequence[Finding], fingerprint: str, console: Console | None = None
) -> None:
    """Print what is wrong with its hint, then the names of what is fine."""
    console = console or Console()

    def show(text: str, style: str = "") -> None:
        console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    for level, style in STYLES.items():
        for finding in findings:
            if finding.level == level:
                show(f"{level}: {finding.symptom}", style)
                show(f"    seen by {finding.test}", "dim")
                show(f"    {finding.hint}")
    fine = [finding.check for finding in findings if finding.level is None]
    show(f"{len(findings)} checks, {len(fine)} fine: {', '.join(fine)}.")
    show(f"The same on every node of a run: {fingerprint}")
