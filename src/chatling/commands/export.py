"""Write a run's model in another tool's format."""

from pathlib import Path

from chatling.commands.common import Command, UsageError, command_parser, open_run
from chatling.run_dir import STAGES


def run(command: Command, words: list[str]) -> None:
    from chatling.export.formats import FORMATS, export
    from chatling.export.source import Source

    parser = command_parser(command)
    parser.add_argument("run", metavar="RUN", help="a run's name or folder")
    formats = "; ".join(f"{name}: {format.about}" for name, format in FORMATS.items())
    parser.add_argument("format", choices=FORMATS, help=formats)
    parser.add_argument("--stage", choices=STAGES, help="the most advanced one")
    types = sorted({name for format in FORMATS.values() for name in format.types})
    parser.add_argument(
        "--type", choices=types, help="of the weights; hf f32, gguf f16, mlx f32, html int8"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="the folder to write; RUN/exports/STAGE-FORMAT"
    )
    given = parser.parse(words)
    folder = open_run(given.run)
    stage = folder.finished_stage(given.stage)
    target = Path(given.out) if given.out else folder.path / "exports" / f"{stage}-{given.format}"
    if given.out and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already.", "Name a folder that is not, with --out.")
    for line in export(Source.of(folder, stage), given.format, target, given.type):
        print(line)
    print(target)
