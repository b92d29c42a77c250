"""A series of trainings: a few depths, each with a few budgets of FLOPs, the law that their losses
follow, and the depth that it advises for a budget.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chatling.bench.scaling_law import FEWEST_POINTS, Law, Point, Shape, fit_law, usable_range
from chatling.config.recipe import Recipe, load_recipe
from chatling.errors import RecipeError
from chatling.model.config import flops_per_token, parameter_counts
from chatling.pipeline.record import RECORD, held_out_loss, kept_home, spent, train_run
from chatling.report.figures import FONT, GRID, INK, SERIES, Figure, canvas, drawn
from chatling.run_dir import RunFolder, write_atomic, write_json
from chatling.train.scaling import base_batch, own_tokens
from chatling.train.status import duration
from chatling.train.survey import survey_text
from chatling.version import __version__

NAME, RECIPE = "series", "folder"
DEPTHS, WIDTH, HEAD_WIDTH = (1, 2, 3, 4), 64, 32  # the width is that of a layer times the depth
BATCH = 4096  # tokens of a step
BUDGETS = (3e12, 1e13, 3e13, 1e14)  # FLOPs
FEWEST_STEPS = 50  # of fewer, most are warmup
MOST_EPOCHS = 4  # up to there text that is read again is nearly as good as new: arXiv 2305.16264
DEEPEST = 12  # of what may be advised
BEYOND = 10  # times the largest budget, how far a law may be used
PAGE, PICTURE = "README.md", "series.svg"


@dataclass(frozen=True)
class Training:
    """What is to be trained: a shape, a budget in FLOPs, and the steps that it pays."""

    shape: Shape
    flops: float
    steps: int
    tokens: int

    @property
    def name(self) -> str:
        return f"depth-{self.shape.depth}-{self.flops:.0e}".replace("+", "")


@dataclass(frozen=True)
class Series:
    """Finished trainings and their law. `held_out` is the law's error at the largest budget when it
    is fitted to the others alone, None where these are too few.
    """

    points: Sequence[Point]
    law: Law
    shapes: dict[int, Shape]
    held_out: float | None
    usable: tuple[float, float]

    def rows(self) -> list[dict[str, Any]]:
        """The losses, the law and what it advises."""
        rows: list[dict[str, Any]] = [
            {"measure": f"depth {p.depth}, {p.flops:.0e} FLOPs", "value": p.loss, "unit": "bpb"}
            for p in self.points
        ]
        rows += [
            {"measure": f"law: {name}", "value": value, "unit": ""}
            for name, value in asdict(self.law).items()
        ]
        errors: dict[str, float | None] = {"law: mean error": self.law.error(self.points)}
        errors |= {"law: error at the largest budget, held out": self.held_out}
        rows += [
            {"measure": name, "value": 100 * value, "unit": "%"}
            for name, value in errors.items()
            if value is not None
        ]
        return rows + [
            {"measure": f"depth for {budget:.1e} FLOPs", "value": shape.depth, "unit": "layers"}
            for budget, shape, _, _ in self.advice()
        ]

    def advice(self) -> Iterator[tuple[float, Shape, float, float]]:
        """(budget, shape, tokens, loss) at the budgets measured and where the law's range ends."""
        low, high = self.usable
        for budget in [*(each for each in BUDGETS if low <= each < high), high]:
            shape = self.law.advise(budget, list(self.shapes.values()))
            tokens = budget / shape.flops_per_token
            yield budget, shape, tokens, self.law.loss(shape.parameters, tokens)


def of_all_depths(recipe: Recipe) -> dict[int, Recipe]:
    """The recipe with each depth that may be advised."""
    return {
        depth: replace(recipe, model=replace(recipe.model, depth=depth, width=WIDTH * depth))
        for depth in range(1, DEEPEST + 1)
    }


def shape_of(recipe: Recipe, depth: int) -> Shape:
    """A depth of the series, with the recipe's vocabulary and context."""
    model = recipe.model.resolve(recipe.tokenizer.vocab_size)
    counts = parameter_counts(model)
    return Shape(depth, counts["matrices"] + counts["head"], flops_per_token(model))


def trainings(recipes: dict[int, Recipe], there: float) -> tuple[list[Training], list[str]]:
    """What to train of so many tokens of text, and a sentence for each that is left out."""
    found, left_out = [], []
    for budget in BUDGETS:
        for depth in DEPTHS:
            recipe = recipes[depth]
            shape = shape_of(recipe, depth)
            model = recipe.model.resolve(recipe.tokenizer.vocab_size)
            batch = base_batch(recipe.base, model, recipe.model.preset)
            steps = round(budget / shape.flops_per_token / batch)
            each = Training(shape, budget, steps, steps * batch)
            if steps < FEWEST_STEPS:
                left_out.append(f"{each.name}: {steps} steps are too few.")
            elif each.tokens > MOST_EPOCHS * there:
                epochs = each.tokens / there
                left_out.append(f"{each.name}: it would read the text {epochs:.1f} times.")
            else:
                found.append(each)
    return found, left_out


def measure_series(data: Path, folder: Path | None, options: Sequence[str] = ()) -> Series:
    """Train the series on a folder of parquet files of text, each in a process of its own. With
    `folder`, the record is written there. `options` are overrides of the recipe. An interrupted
    measurement is resumed.

    Raises RecipeError where too few trainings are left, RunError when one fails.
    """
    fixed = [*_overrides(data), *options]
    recipes = of_all_depths(load_recipe(RECIPE, fixed))
    text = survey_text(data, recipes[1].data.column)
    there = own_tokens(text.bytes, recipes[1].tokenizer.vocab_size)
    todo, left_out = trainings(recipes, there)
    for line in left_out:
        print(f"Left out is {line}", flush=True)
    if len(todo) < FEWEST_POINTS:
        raise RecipeError(
            f"{len(todo)} trainings of the series are left, and a law of five numbers needs more.",
            "Give it more text, or smaller batches.",
        )
    points, state = [], {}
    total, paid, took = sum(each.flops for each in todo), 0.0, 0.0
    with kept_home(NAME, fixed) as home:
        for number, each in enumerate(todo, 1):
            run = RunFolder(home / "runs" / each.name)
            words = [*_depth(each.shape.depth), *fixed, "--base.steps", str(each.steps)]
            train_run(RECIPE, run, words)
            points.append(
                Point(
                    each.flops,
                    each.shape.depth,
                    each.shape.parameters,
                    each.tokens,
                    held_out_loss(run),
                )
            )
            state = run.read_state()["stages"]["base"]
            paid += each.flops
            took += spent(run)
            left = took * (total / paid - 1)
            print(
                f"{number}/{len(todo)} · depth {each.shape.depth}, {each.flops:.0e} FLOPs,"
                f" {each.tokens:,} tokens: {points[-1].loss:.4f} bpb · {duration(left)} left",
                flush=True,
            )
    series = fitted(points, {depth: shape_of(recipe, depth) for depth, recipe in recipes.items()})
    if folder is not None:
        about = {
            "machine": state["attempts"][-1].get("machine", {}),
            "chatling": __version__,
            "date": time.strftime("%Y-%m-%d"),
            "seconds": round(took, 1),
            "options": [*options],
            "left_out": left_out,
        }
        write_series(folder, series, about)
    return series


def fitted(points: Sequence[Point], shapes: dict[int, Shape]) -> Series:
    """The law of the points, and how far it may be used."""
    law, largest = fit_law(points), max(each.flops for each in points)
    smaller = [each for each in points if each.flops < largest]
    held_out = None
    if len(smaller) >= FEWEST_POINTS:
        held_out = fit_law(smaller).error([p for p in points if p.flops == largest])
    return Series(points, law, shapes, held_out, usable_range(law, points, shapes, BEYOND))


def write_series(folder: Path, series: Series, about: Mapping[str, Any]) -> None:
    """Write the record: numbers, a page and the picture on it."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "points": [asdict(each) for each in series.points],
        "law": asdict(series.law),
        "usable": series.usable,
        "held_out": series.held_out,
    }
    write_json(folder / RECORD, {**about, **found})
    write_atomic(folder / PICTURE, picture(series).file)
    write_atomic(folder / PAGE, "\n".join(page(series, about)))


def picture(series: Series) -> Figure:
    """The losses over the budget, a color a depth, and the law's curve through them."""
    low, high = min(BUDGETS), series.usable[1]
    with canvas(260) as (figure, axes):
        for depth, color in zip(DEPTHS, SERIES, strict=False):
            own, shape = [p for p in series.points if p.depth == depth], series.shapes[depth]
            curve = np.geomspace(min((p.flops for p in own), default=low), high, 60)
            losses = [
                series.law.loss(shape.parameters, each / shape.flops_per_token) for each in curve
            ]
            axes.plot(curve, losses, color=color, linewidth=1.2, label=f"depth {depth}")
            axes.plot([p.flops for p in own], [p.loss for p in own], "o", color=color, markersize=4)
        axes.set_xscale("log")
        axes.set_xlabel("FLOPs of the training")
        axes.set_ylabel("bits per byte, held out")
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK)
        title = "Loss by budget and depth"
        best = ", ".join(
            f"depth {shape.depth} at {budget:.1e} FLOPs" for budget, shape, _, _ in series.advice()
        )
        return Figure(NAME, title, f"{title}; best are {best}.", drawn(figure, NAME))


def page(series: Series, about: Mapping[str, Any]) -> Iterator[str]:
    """The record in words."""
    law, machine = series.law, about["machine"]
    yield "# A series of trainings\n"
    where = f"{machine.get('name', '?')}, {machine.get('cores', '?')} cores"
    yield f"`chatling bench {NAME} --data FOLDER --record FOLDER`, {about['date']}, {where},"
    yield f"{duration(about['seconds'])}. The dots are trainings, the curves the law.\n"
    yield f"![{picture(series).alt}]({PICTURE})\n"
    yield (
        f"loss = {law.floor:.3f} + {law.a:.4g} / parameters^{law.alpha:.2f}"
        f" + {law.b:.4g} / tokens^{law.beta:.2f}"
    )
    yield "in bits per byte of held-out text, with the parameters of matrices and head. Its mean"
    error = f"error at these points is {law.error(series.points):.2%}"
    if series.held_out is not None:
        error += f"; fitted without the largest budget, it\nmisses that by {series.held_out:.2%}"
    yield f"{error}. It may be used from {series.usable[0]:.1e} to {series.usable[1]:.1e} FLOPs.\n"
    yield "| FLOPs | depth advised | tokens | tokens a parameter | loss by the law |"
    yield "| --- | --- | --- | --- | --- |"
    for budget, shape, tokens, loss in series.advice():
        ratio = tokens / shape.parameters
        yield f"| {budget:.1e} | {shape.depth} | {tokens:,.0f} | {ratio:.1f} | {loss:.4f} |"
    yield "\n| FLOPs | depth | tokens | tokens a parameter | loss | by the law |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for p in series.points:
        known = law.loss(p.parameters, p.tokens)
        yield (
            f"| {p.flops:.0e} | {p.depth} | {p.tokens:,} | {p.tokens / p.parameters:.1f} |"
            f" {p.loss:.4f} | {known:.4f} |"
        )
    if about["left_out"]:
        yield "\nLeft out:\n"
        yield from (f"- {line}" for line in about["left_out"])
    yield ""


def _depth(depth: int) -> list[str]:
    return ["--model.depth", str(depth), "--model.width", str(WIDTH * depth)]


def _overrides(data: Path) -> list[str]:
    """Evaluated in the end alone, and saved then."""
    words = f"--model.head-width {HEAD_WIDTH} --base.batch-tokens {BATCH} --loop.save-every 0"
    return ["--data.source", str(data), *words.split(), "--loop.evaluate-every", "0"]
