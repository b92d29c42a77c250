"""Measure this machine."""

import argparse
import re
from pathlib import Path

from chatling.commands.common import Command, UsageError, command_parser
from chatling.errors import nearest

ALONE = ("gpu", "pocket", "series", "compare")  # measured by themselves


def run(command: Command, words: list[str]) -> None:
    from chatling.bench.suite import BENCHES, run_benches, show_figures
    from chatling.pipeline import compare, series
    from chatling.pipeline.record import measure_record

    parser = command_parser(command)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure, of {', '.join(BENCHES)}; all of them. gpu, alone: try each part of"
        " chatling on this device and hold it against what is expected. pocket, alone: train it"
        " with three seeds, how long it takes and what it knows then. series, alone: train models"
        " of four depths with four budgets, and tell which depth is best for which. compare, alone:"
        " train base of two recipes with the same seeds, and tell which is better",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="parquet files for encode, bpe, series and compare; else the built-in world, or what"
        " the recipes name",
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
        help="pocket, series or compare: keep what was measured there",
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="gpu: where; the best there is")
    parser.add_argument(
        "--recipe",
        metavar="RECIPE",
        help="gpu: whose step and model; spark, pocket on a processor. compare: the first recipe",
    )
    parser.add_argument("--against", metavar="RECIPE", help="compare: the second recipe")
    parser.add_argument(
        "--equal",
        choices=("tokens", "seconds"),
        help="compare: what both get as much of (tokens)",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="compare: how many (6)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse(words)
    alone = given.names[0] if len(given.names) == 1 else ""
    _check(given, alone)

    import json

    from chatling.hardware.gpu import open_device

    # a GPU that cannot be used is told, instead of measuring the processor
    device = open_device(device=given.device)
    if alone == "gpu":
        from chatling.pipeline.bench_gpu import bench_gpu, show_rows

        show_rows(bench_gpu(device, given.recipe), json=given.json)
        return
    if alone == "pocket":
        figures = measure_record(given.record).rows()
    elif alone == "series":
        figures = series.measure_series(given.data, given.record).rows()
    elif alone == "compare":
        figures = compare.measure_comparison(
            (given.recipe, given.against),
            6 if given.seeds is None else given.seeds,
            given.record,
            equal=given.equal or "tokens",
            data=given.data,
        ).rows()
    else:
        names = given.names or list(BENCHES)
        figures = run_benches(names, given.data, given.run, given.bundle, given.url)
    if given.json:
        print(json.dumps(figures, indent=1))
    else:
        show_figures(figures)


def _check(given: argparse.Namespace, alone: str) -> None:
    """Raises UsageError for options that do not go with what is measured."""
    from chatling.bench.suite import BENCHES

    if given.device and alone != "gpu":
        raise UsageError("--device is of gpu, alone.", "chatling bench gpu --device cpu")
    if given.recipe and alone not in ("gpu", "compare"):
        raise UsageError(
            "--recipe is of gpu or compare, alone.", "chatling bench gpu --recipe pocket"
        )
    if given.record and alone not in ALONE[1:]:
        raise UsageError(
            "--record is of the first run, the series or a comparison.",
            "chatling bench pocket --record FOLDER",
        )
    if given.data and alone in ("gpu", "pocket"):
        raise UsageError(f"{alone} takes no --data.", f"chatling bench {alone}")
    if alone == "series" and not given.data:
        raise UsageError(
            "The series needs more text than the built-in world has: parquet files in a folder.",
            "chatling bench series --data FOLDER",
        )
    of_two = (given.against, given.equal, given.seeds)
    if alone == "compare" and not (given.recipe and given.against):
        raise UsageError(
            "Two recipes are compared.", "chatling bench compare --recipe RECIPE --against RECIPE"
        )
    if alone != "compare" and of_two != (None, None, None):
        raise UsageError(
            "--against, --equal and --seeds are of compare, alone.",
            "chatling bench compare --recipe RECIPE --against RECIPE",
        )
    if given.seeds is not None and given.seeds < 1:
        raise UsageError("--seeds must be at least 1.")
    for name in given.names if alone not in ALONE else ():
        if name in ALONE:
            raise UsageError(f"{name} is measured alone.", f"chatling bench {name}")
        if name not in BENCHES:
            raise UsageError(
                f"There is no benchmark {name!r}.",
                nearest(name, [*BENCHES, *ALONE]) or f"There are {', '.join(BENCHES)}.",
            )

    if given.url and (given.names != ["serve"] or not re.match("https?://[^/]", given.url)):
        raise UsageError(
            f"--url {given.url} does not go with this.",
            "Write `chatling bench serve --url http://localhost:8000`.",
        )
