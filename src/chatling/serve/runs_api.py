"""`/api/runs`: what run folders say of a training that is under way, or over. Folders are read,
never written.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic_core import to_json

from chatling.config.recipe import Recipe, from_toml, read_text
from chatling.errors import ChatlingError
from chatling.report.words import Language, Words, load_words
from chatling.run_dir import RunFolder, read_json
from chatling.serve.errors import ApiError
from chatling.serve.model_manager import ModelManager
from chatling.serve.openai import ERRORS
from chatling.train.charts import MACHINE, Chart
from chatling.train.metrics import read_metrics, read_samples, tokens_per_second
from chatling.train.needs import stage_plans
from chatling.train.stage_base import Stage, TrainingStage
from chatling.train.status import RunStatus, read_status, time_left

POINTS = 400  # of a curve, at most
MOST_EVAL = 16 << 20  # bytes of an evaluation's file
MOST_STEPS = 1 << 53
REPORT = "report.html"
Step = Annotated[int, Query(ge=0, le=MOST_STEPS)]
log = logging.getLogger(__name__)
router = APIRouter(prefix="/api/runs", responses=ERRORS)


@router.get("")
async def runs(request: Request) -> Response:
    """Every run with its stages, the one worked on last first."""
    return await asyncio.to_thread(_all, request.app.state.service.models)


@router.get("/{name}")
async def run(
    name: str,
    request: Request,
    points: Annotated[int, Query(ge=10, le=4000)] = POINTS,
    language: Language = "en",
) -> Response:
    """One run: its stages, the seconds left of all of them, the charts and curves of each, its
    latest samples and its evaluations; titles, labels and skills are named in a language.
    """
    state = request.app.state
    models, registry = state.service.models, state.stages
    return await asyncio.to_thread(_one, models, name, registry, points, language)


@router.get("/{name}/curves")
async def curves(
    name: str,
    stage: str,
    request: Request,
    first: Step = 0,
    last: Step = MOST_STEPS,
    points: Annotated[int, Query(ge=10, le=4000)] = POINTS,
) -> Response:
    """The curves of one stage between two steps."""
    state = request.app.state

    def part(folder: RunFolder) -> dict[str, Any]:
        if stage not in [each.name for each in _status(folder).stages]:
            raise ApiError(404, f"Run {name!r} has no stage {stage!r}.", param="stage")
        return {"curves": _curves(folder, stage, state.stages, points, (first, last))}

    def read() -> bytes:
        return _encoded(state.service.models.folder(name), part, {"curves": {}})

    return Response(await asyncio.to_thread(read), media_type="application/json")


def _all(models: ModelManager) -> Response:
    cards = b",".join(_encoded(folder, _card) for folder in models.folders())
    return Response(b'{"runs":[%b]}' % cards, media_type="application/json")


def _one(
    models: ModelManager, name: str, registry: Sequence[Stage], points: int, language: str
) -> Response:
    words = load_words(language)

    def said(chart: Chart) -> Chart:
        metrics = {name: words(label) for name, label in chart.metrics.items()}
        return replace(chart, title=words(chart.title), metrics=metrics)

    def whole(folder: RunFolder) -> dict[str, Any]:
        status = _status(folder)
        stages = [stage.name for stage in status.stages]
        curves = {stage: _curves(folder, stage, registry, points) for stage in stages}
        return asdict(status) | {
            "left": time_left(status, _work(folder, registry)) if status.alive else None,
            "charts": {
                stage: [asdict(said(chart)) for chart in _charts(stage, registry)]
                for stage in stages
            },
            "curves": {stage: found for stage, found in curves.items() if found},
            "samples": _samples(folder, registry, words),
            "evals": _evals(folder, registry, words),
            "report": (folder.report / REPORT).is_file(),
        }

    nothing: dict[str, Any] = {
        "left": None,
        "charts": {},
        "curves": {},
        "samples": {},
        "evals": [],
        "report": False,
    }
    return Response(_encoded(models.folder(name), whole, nothing), media_type="application/json")


def _encoded(
    folder: RunFolder,
    read: Callable[[RunFolder], dict[str, Any]],
    nothing: dict[str, Any] | None = None,
) -> bytes:
    """JSON of what `read` finds in a run, or of why it cannot be read: a run folder is untrusted
    input, and whatever it holds, the others are shown.
    """
    try:
        return _json(read(folder))
    except ApiError:
        raise
    except Exception as error:
        if not isinstance(error, ChatlingError | OSError):
            log.exception("The run in %r cannot be read.", str(folder.path))
        card = {
            "name": _shown(folder.name),
            "path": _shown(str(folder.path)),
            "alive": False,
            "process": None,
            "stages": [],
            "error": _shown(str(error) or type(error).__name__),
        }
        return _json(card | (nothing or {}))


def _json(value: Any) -> bytes:
    """JSON has no NaN: null stands for it. Raises ValueError for what is too deep, or no text."""
    return to_json(value, inf_nan_mode="null")


def _shown(text: str) -> str:
    """A text that need be none, such as a file's name, for a reader."""
    return text.encode("utf-8", "backslashreplace").decode()


def _status(folder: RunFolder) -> RunStatus:
    folder.check_entries()
    return read_status(folder)


def _card(folder: RunFolder) -> dict[str, Any]:
    return asdict(_status(folder))


def _work(folder: RunFolder, registry: Sequence[Stage]) -> dict[str, float]:
    """FLOPs of each training stage of a run's recipe, in order; nothing where that cannot be
    read.
    """
    path = folder.path / "recipe.toml"
    with contextlib.suppress(ChatlingError, ArithmeticError):
        recipe = from_toml(Recipe, read_text(path), path.name)
        model = recipe.model.resolve(recipe.tokenizer.vocab_size)
        return {plan.name: plan.flops for plan in stage_plans(registry, recipe, model)}
    return {}


def _charts(stage: str, registry: Sequence[Stage]) -> tuple[Chart, ...]:
    """What is drawn of a stage; one that nobody knows is taken for one of ours that trains."""
    known = {each.name: each.charts for each in registry}
    charts = known.get(stage, TrainingStage.charts)
    return (*charts, *MACHINE) if charts else ()


def _curves(
    folder: RunFolder,
    stage: str,
    registry: Sequence[Stage],
    points: int,
    span: tuple[int, int] = (0, MOST_STEPS),
) -> dict[str, list[list[float]]]:
    path = folder.stage(stage) / "metrics.jsonl"
    names = frozenset(name for chart in _charts(stage, registry) for name in chart.metrics)
    try:
        facts = path.stat()
    except OSError:
        return {}
    return _read_curves(path, names, points, span, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_curves(
    path: Path, names: frozenset[str], points: int, span: tuple[int, int], size: int, changed: int
) -> dict[str, list[list[float]]]:
    """[step, value] pairs by metric, of those `names` and the steps in `span`; `size` and
    `changed` tell one state of the file from another.
    """
    found: dict[str, list[list[float]]] = {}
    for line in read_metrics(path):
        if not span[0] <= line["step"] <= span[1]:
            continue
        if line.get("tokens") and (speed := tokens_per_second([line])):
            line["tokens_per_second"] = speed
        for name in names & line.keys():
            value = line[name]
            if isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(name, []).append([line["step"], value])
    return {name: thinned(series, points) for name, series in found.items()}


def thinned(series: list[list[float]], points: int) -> list[list[float]]:
    """At most `points` of them: the means of equal parts, the last point as it is."""
    if len(series) <= points:
        return series
    bounds = [round(i * (len(series) - 1) / (points - 1)) for i in range(points)]
    parts = (series[a:b] for a, b in pairwise(bounds))
    return [
        *([part[-1][0], sum(value for _, value in part) / len(part)] for part in parts),
        series[-1],
    ]


def _samples(folder: RunFolder, registry: Sequence[Stage], words: Words) -> dict[str, Any]:
    """The latest samples of each stage, in their order: {"step", "samples": [{"topic", "prompt",
    "text"}]}.
    """
    found = {}
    for path in _files(folder.evals, "*-samples.jsonl", registry):
        with contextlib.suppress(ChatlingError):
            if lines := read_samples(path):
                stage, last = path.name.removesuffix("-samples.jsonl"), lines[-1]
                found[stage] = last | {"samples": _named(last["samples"], "topic", words)}
    return found


def _named(entries: Any, key: str, words: Words) -> Any:
    """What a file lists, with the skill that each entry names in a language; what has another
    shape as it is.
    """
    if not isinstance(entries, list):
        return entries
    return [
        each | {key: words.name(each[key])}
        if isinstance(each, dict) and isinstance(each.get(key), str)
        else each
        for each in entries
    ]


def _evals(folder: RunFolder, registry: Sequence[Stage], words: Words) -> list[dict[str, Any]]:
    """evals/*.json with their file's name, in the order of the stages."""
    found = []
    for path in _files(folder.evals, "*.json", registry):
        try:
            values = read_json(path, MOST_EVAL)
            if isinstance(values, dict) and "results" in values:
                values["results"] = _named(values["results"], "name", words)
            evaluation = {"file": path.stem, "values": values}
            _json(evaluation)
        except (ChatlingError, ValueError):
            continue  # damaged, or gone meanwhile
        found.append(evaluation)
    return found


def _files(folder: Path, pattern: str, registry: Sequence[Stage]) -> Iterable[Path]:
    """Named after their stage, in the order of the stages; others come last."""
    place = {stage.name: at for at, stage in enumerate(registry)}
    paths = folder.glob(pattern) if folder.is_dir() else ()
    return sorted(paths, key=lambda path: (place.get(path.name.split("-")[0], len(place)), path))
