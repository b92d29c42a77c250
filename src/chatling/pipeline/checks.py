"""What can be known before the first step: `plan` and `run` both call `check`, so what a later
stage would refuse is refused at once.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chatling.config.recipe import Recipe
from chatling.errors import MachineError, RecipeError
from chatling.hardware.detect import detect
from chatling.model.config import ModelConfig
from chatling.optim.param_groups import resolve_optim
from chatling.pipeline.plan import Plan, plan
from chatling.pipeline.stages import STAGES
from chatling.train.datasets import open_fetcher
from chatling.train.runtime import check_machine, check_memory
from chatling.train.scaling import base_batch
from chatling.train.stage_base import Stage, TrainingStage, shapes
from chatling.train.survey import Survey

MANY_EPOCHS = 10  # above, a model learns its text by heart rather than from it


@dataclass(frozen=True)
class Checked:
    """A recipe that `run` can carry out."""

    plan: Plan
    # of the data that were looked into
    survey: Survey
    warnings: tuple[str, ...]
    # what keeps it from this machine, but not from a larger one
    too_large: MachineError | None


def check(
    recipe: Recipe,
    left: Collection[str] | None = None,
    *,
    processes: int = 1,
    here: bool = True,
    stages: Sequence[Stage] = STAGES,
) -> Checked:
    """Call all that the later stages will call and that needs neither training nor the network;
    open the data that the stages read that are `left` (None: all). Without `here`, the machine is
    another one.

    Raises RecipeError, DataError or MachineError for what would stop the run later on.
    """
    outline = plan(recipe, stages=stages)
    model, preset = outline.model, recipe.model.preset
    known = dict(shapes(stages, recipe, model))
    todo = [stage for stage in known if left is None or stage.name in left]
    for stage, shape in known.items():
        stage.check(recipe, shape)
    # the rates of the stages after base
    resolve_optim(recipe.optim, preset, model.width, base_batch(recipe.base, model, preset))
    if recipe.machine.shard and recipe.optim.matrix != "muon":
        raise RecipeError(
            f"machine.shard spreads matrices for Muon; optim.matrix is {recipe.optim.matrix!r}.",
            "Leave out one of the two.",
        )
    for stage in todo:
        share = stage.step_share(recipe, known[stage])
        if share and share.count % processes:
            what = (
                f"A step of {share.count} {share.unit} does not divide over {processes} processes."
            )
            raise RecipeError(what, f"Change {stage.name}.{share.key} or their number.")
    trains = any(isinstance(stage, TrainingStage) for stage in todo)
    too_large = _check_machine(recipe, outline, known, processes) if trains and here else None
    if recipe.data.local is not None:
        open_fetcher(recipe, print)  # only looks whether the folder is there
    survey = Survey()
    for stage in todo:
        survey = stage.survey(recipe, survey)
    warnings = [note for stage in todo for note in stage.notes(recipe, known[stage], survey)]
    outline = plan(recipe, survey=survey, stages=stages)
    warnings += _length_notes(recipe, outline, stages)
    return Checked(outline, survey, tuple(warnings), too_large)


def _check_machine(
    recipe: Recipe, outline: Plan, known: Mapping[Stage, ModelConfig], processes: int
) -> MachineError | None:
    """Raises MachineError for a device, compiler or kernel that is not here; returns the one that
    speaks of too little memory.
    """
    # nothing is timed: bf16 counts as fast, which asks for the least memory
    machine = detect(
        lambda device, dtype: float(dtype.itemsize == 2) + 1,
        device="cpu" if recipe.machine.device == "cpu" else None,
    )
    check_machine(recipe.machine, machine, outline.steps)
    try:
        for stage, shape in known.items():
            if isinstance(stage, TrainingStage):
                shards = processes if stage.is_sharded(recipe) else 1
                check_memory(machine, shape, stage.rank(recipe), shards)
    except MachineError as error:
        return error
    return None


def _length_notes(recipe: Recipe, outline: Plan, stages: Sequence[Stage]) -> Iterator[str]:
    """What to know of warmups that are cut, and of data that are gone through too often."""
    training = {stage.name: stage for stage in stages if isinstance(stage, TrainingStage)}
    planned = {stage.name: stage for stage in outline.stages}
    for name, stage in planned.items():
        asked = getattr(training[name].config(recipe), "warmup", None)
        kept = stage.steps // 4  # as in every stage's schedule
        if asked is not None and asked > kept:
            about = "" if stage.exact else "about "
            yield (
                f"{name}.warmup asks for {asked} steps; of {about}{stage.steps:,} steps a"
                f" quarter at most is warmup: {about}{kept}."
            )
    for use in outline.uses:
        if use.epochs > MANY_EPOCHS:
            steps = max(1, int(planned[use.stage].steps * MANY_EPOCHS / use.epochs))
            yield (
                f"{use.stage} goes about {use.epochs:,.0f} times through {use.name}: above"
                f" {MANY_EPOCHS} times a model learns it by heart rather than from it. Take"
                f" {training[use.stage].fewer.format(steps)}, bring more data, or choose a smaller"
                " model."
            )
