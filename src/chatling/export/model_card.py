"""The model card of a repository on the Hub: how the model is run, what it was trained on, how good
it is. It names no file or folder of this machine.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from chatling.config.recipe import Recipe
from chatling.data.config import HUB_NAME, KNOWN_CORPORA
from chatling.export.card import LITERAL, about, how_to_run, listed
from chatling.export.hf import is_classic
from chatling.export.source import Source
from chatling.files import write_atomic
from chatling.report.collect import RunReport
from chatling.report.markdown import table
from chatling.report.results import core_name
from chatling.report.words import ENGLISH
from chatling.run_dir import STAGES, TEXT_STAGES
from chatling.tasks.registry import TASKS
from chatling.toy.dataset import BUILT_IN
from chatling.train.pairs import on_hub

TITLES = {"hf": "transformers", "gguf": "llama.cpp and Ollama", "mlx": "MLX on a Mac"}
Score = tuple[str, str, EvalResult]  # what, for a reader, for the Hub
Data = tuple[str, str, str]  # what, its license, the stages that it trained


def write(
    source: Source,
    folder: Path,
    repo: str,
    found: Mapping[str, Sequence[str]],
    recipe: Recipe | None,
    report: RunReport,
) -> None:
    """`README.md` with the Hub's metadata. `found` is what the checks of the formats in the folder
    found; without a recipe, the data are not known.
    """
    name, data = repo.partition("/")[2], list(training_data(recipe, source.stage))
    scores, origin = list(_scores(report, source.stage)), recipe and recipe.origin
    meta = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["chatling"],
        base_model=origin.source if origin and HUB_NAME.fullmatch(origin.source) else None,
        datasets=[what for what, *_ in data if HUB_NAME.fullmatch(what)] or None,
        model_name=name if scores else None,
        eval_results=[result for *_, result in scores] or None,
    )
    lines = [
        f"---\n{meta.to_yaml()}\n---",
        f"# {name}",
        about(source),
        "A model of this size makes mistakes: check what it says.",
        "## Run it",
        f"### chatling\n\n```\nchatling pull {repo}\nchatling chat {name}\n```",
        f"### {TITLES['hf']}\n\n{how_to_run(source, 'hf', repo)}",
        *(_elsewhere(source, way, repo, found) for way in ("gguf", "mlx")),
        "## Scores",
        table(("what", "score"), [(what, shown) for what, shown, _ in scores])
        if scores
        else "It has not been evaluated.",
        "## Trained on",
        "It continues from a model of elsewhere, whose data are not recorded." if origin else "",
        table(("data", "license", "stages"), data)
        + "\n\nWhat a data set's own page says of its license decides."
        + "".join(
            f" <https://huggingface.co/datasets/{w}>" for w, *_ in data if HUB_NAME.fullmatch(w)
        )
        if data
        else "",
        "" if origin or data else "That is not recorded.",
        "The weights' own license is for whoever shares them to choose.",
        "## Checked",
        *(
            f"{TITLES[way]}, read back after writing:\n\n{listed(own)}"
            for way, own in found.items()
        ),
        LITERAL,
    ]
    write_atomic(folder / "README.md", "\n\n".join(filter(None, lines)) + "\n")


def _elsewhere(source: Source, way: str, repo: str, found: Mapping[str, Sequence[str]]) -> str:
    """How it is run in what wants a folder of its own; nothing where it cannot be."""
    if not is_classic(source.model.config):
        return ""
    name = repo.partition("/")[2]
    folder = f"{name}-{way}"
    get = f"hf download {repo} --local-dir {folder}"
    make = f"chatling pull {repo}\nchatling export {name} {way} --out {folder}"
    return (
        f"### {TITLES[way]}\n\n```\n{get if way in found else make}\n```\n\n"
        f"{how_to_run(source, way, folder)}"
    )


def training_data(recipe: Recipe | None, stage: str) -> Iterator[Data]:
    """What a stage's model was trained on, in that stage and in those before it."""
    used: dict[tuple[str, str], list[str]] = {}
    for name in STAGES[: STAGES.index(stage) + 1]:
        table = getattr(recipe, name, None)
        if recipe is None or table is None or (recipe.origin and name in (*TEXT_STAGES, "mid")):
            continue
        if name in ("mid", "sft"):
            found = [_task(entry.task) for entry in table.mixture]
        elif name == "distill":
            asked = recipe.sft.mixture if recipe.sft else ()
            found = [_task(entry.task) for entry in asked]
        elif name == "rl":
            found = [_task(table.task)]
        else:
            found = [_data_set(recipe.data.source if name in TEXT_STAGES else table.data)]
        for each in dict.fromkeys(found):
            used.setdefault(each, []).append(name)
    return ((what, license, ", ".join(stages)) for (what, license), stages in used.items())


def _task(name: str) -> tuple[str, str]:
    """What is behind a name in a mixture, and its license."""
    if name in BUILT_IN:
        return "the built-in world of chatling", "MIT"
    if name not in TASKS:
        return "files of one's own", "not stated"
    entry = TASKS[name]
    return entry.repo or f"{name}, made by chatling", entry.license


def _data_set(name: str) -> tuple[str, str]:
    if name in BUILT_IN or not (HUB_NAME.fullmatch(name) and on_hub(name)):
        return _task(name)
    known = KNOWN_CORPORA.get(name)
    return name, known.license if known else "see its page"


def _scores(report: RunReport, stage: str) -> Iterator[Score]:
    """What the files of `evals/` hold of a stage's model."""

    def score(what: str, shown: str, value: float, metric: str, data: str = "") -> Score:
        kind = TASKS[what].repo if what in TASKS else ""
        name = data or what
        return what, shown, EvalResult("text-generation", kind or "chatling", name, metric, value)

    for row in report.chat(stage):
        yield score(row["name"], ENGLISH.interval(row), round(row["accuracy"], 4), "accuracy")
    if core := report.core(stage):
        name = core_name(core)
        yield score(name, f"{core['core']:.4f}", round(core["core"], 4), "core")
    results: Any = report.evals.get(f"{stage}-bpb", {}).get("results")
    for split in ("train", "validation"):
        value: Any = results.get(split) if isinstance(results, dict) else None
        if _finite(value):
            what = f"bits per byte, {split} text"
            yield score(what, f"{value:.4f}", round(value, 4), "bits_per_byte")
    tasks: Any = report.evals.get(f"{stage}-harness", {}).get("results")
    for task, metrics in tasks.items() if isinstance(tasks, dict) else ():
        for name, value in metrics.items() if isinstance(metrics, dict) else ():
            metric = name.partition(",")[0]
            if _finite(value) and "stderr" not in name:
                yield score(f"{task}, {metric}", f"{value:.4f}", round(value, 4), metric, task)


def _finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
