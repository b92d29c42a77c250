"""Write a run's report, or compare several."""

from chatling.commands.common import Command, command_parser, open_run
from chatling.run_dir import RunFolder, home


def run(command: Command, words: list[str]) -> None:
    parser = command_parser(command)
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="runs by name or folder; the one last worked on"
    )
    given = parser.parse(words)
    folders = [RunFolder.open(name) for name in dict.fromkeys(given.runs)] or [open_run(None)]

    from chatling.pipeline.stages import STAGES
    from chatling.report.collect import collect
    from chatling.report.document import compose
    from chatling.report.render import write_report

    report = compose([collect(folder, STAGES) for folder in folders])
    # A comparison belongs to none of its runs.
    target = (
        folders[0].report
        if len(folders) == 1
        else home() / "reports" / "+".join(folder.name for folder in folders)
    )
    write_report(report, target)
    print(f"{target / 'report.html'}\n{target / 'report.md'}")
