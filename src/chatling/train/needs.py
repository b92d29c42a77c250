"""What the training stages of a recipe need."""

from collections.abc import Iterable

from chatling.config.recipe import Recipe
from chatling.model.config import ModelConfig
from chatling.train.stage_base import Stage, StagePlan, shapes
from chatling.train.survey import Survey

NOTHING_SEEN = Survey()


def stage_plans(
    stages: Iterable[Stage], recipe: Recipe, model: ModelConfig, survey: Survey = NOTHING_SEEN
) -> list[StagePlan]:
    """What the training stages need."""
    enabled = shapes(stages, recipe, model)
    plans = (stage.plan(recipe, shape, survey) for stage, shape in enabled)
    return [plan for plan in plans if plan]


def planned_steps(stages: Iterable[Stage], recipe: Recipe, model: ModelConfig) -> int:
    """Steps of all training stages, without looking at data."""
    return sum(plan.steps for plan in stage_plans(stages, recipe, model))
