"""Measure this machine."""

import re
from pathlib import Path

from chatling.commands.common import Command, UsageError, command_parser
from chatling.errors import nearest


def run(command: Command, words: list[str]) -> None:
    from chatling.bench.suite import BENCHES, run_benches, show_figures
    from chatling.pipeline import series
    from chatling.pipeline.record import RECIPE, measure_record

    parser = command_parser(command)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure, of {', '.join(BENCHES)}; all of them. gpu, alone: try each part of"
        " chatling on this device and hold it against what is expected. pocket, alone: train it"
        " with three seeds, how long it takes and what it knows then. series, alone: train models"
        " of four depths with four budgets, and tell which depth is best for which",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="parquet files for encode, bpe and series; but for series, the built-in world",
    )
    parser.add_argument(
        "--run",
        metavar="RUN",
        help="evals: whose model; one with random weights. serve --url: whose answers to compare",
    )
    parser.add_argument(
        "--url", metavar="URL", help="serve: a server of any kind that runs; one is started"
    )
    parser.add_argument(
        "--bundle", type=Path, metavar="FOLDER", help="evals: a CORE bundle; the built-in world's"
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FOLDER",
        help="pocket or series, alone: keep times, scores, recipe and logs, or the series, there",
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="gpu: where; the best there is")
    parser.add_argument(
        "--recipe", metavar="RECIPE", help="gpu: whose step and model; spark, pocket on a processor"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse(words)
    if (given.device or given.recipe or "gpu" in given.names) and given.names != ["gpu"]:
        raise UsageError(
            "gpu is tried alone, and --device and --recipe are its options.",
            "chatling bench gpu --device cpu --recipe pocket",
        )
    alone = given.names in ([RECIPE], [series.NAME])
    if given.record and not alone:
        raise UsageError(
            "--record is of the first run, or of the series.",
            f"chatling bench {RECIPE} --record FOLDER",
        )
    if given.names == [series.NAME] and not given.data:
        raise UsageError(
            "The series needs more text than the built-in world has.",
            f"chatling bench {series.NAME} --data FOLDER, with parquet files of text",
        )
    for name in given.names if given.names != ["gpu"] and not alone else ():
        if name not in BENCHES:
            raise UsageError(
                f"There is no benchmark {name!r}.",
                nearest(name, list(BENCHES)) or f"There are {', '.join(BENCHES)}.",
            )

    if given.url and (given.names != ["serve"] or not re.match("https?://[^/]", given.url)):
        raise UsageError(
            f"--url {given.url} does not go with this.",
            "Write `chatling bench serve --url http://localhost:8000`.",
        )

    import json

    from chatling.hardware.gpu import open_device

    # a GPU that cannot be used is told, instead of measuring the processor
    device = open_device(device=given.device)
    if given.names == ["gpu"]:
        from chatling.pipeline.bench_gpu import bench_gpu, show_rows

        show_rows(bench_gpu(device, given.recipe), json=given.json)
        return
    if given.names == [RECIPE]:
        figures = measure_record(given.record).rows()
    elif given.names == [series.NAME]:
        figures = series.measure_series(given.data, given.record).rows()
    else:
        names = given.names or list(BENCHES)
        figures = run_benches(names, given.data, given.run, given.bundle, given.url)
    if given.json:
        print(json.dumps(figures, indent=1))
    else:
        show_figures(figures)
