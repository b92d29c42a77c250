"""The `[eval]` table: what a run measures of itself besides its losses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from chatling.data.config import POCKET
from chatling.errors import RecipeError

FULL = "full"


@dataclass(frozen=True)
class EvalConfig:
    """Samples are kept in any case; these are the evaluations with a score."""

    core: str | None = None
    """The CORE bundle: "full" fetches it, "pocket" is the built-in world's, anything else is a folder."""
    core_every: int = 2_000
    """Steps of base training from one CORE score to the next, at the evaluation that is due; 0: only when training is done."""
    core_examples: int = 500
    """Examples of each task that are scored during training; all of them in the end."""
    chat: tuple[str, ...] = ()
    """Tasks for every chat model in the end, by name; "pocket" is all skills of the built-in world, "all" the reference's six."""
    questions: int | None = None
    """Of each chat task; none: all there are."""

    def __post_init__(self) -> None:
        """Raises RecipeError for numbers out of range."""
        if self.core_every < 0 or self.core_examples < 1 or (self.questions is not None and self.questions < 1):
            raise RecipeError("eval.core_every must be at least 0, eval.core_examples and eval.questions at least 1.")

    def anchored(self) -> EvalConfig:
        """With the path of a bundle of its own made absolute."""
        if self.core in (None, POCKET, FULL):
            return self
        return replace(self, core=str(Path(self.core or "").expanduser().absolute()))
