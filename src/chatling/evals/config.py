"""The `[eval]` table, what a run measures of itself besides its losses, and the form of results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chatling.fields import Count, CountOrZero, Text, absolute, config
from chatling.run_dir import RunFolder, write_json
from chatling.toy.dataset import BUILT_IN

FULL = "full"


@config
class EvalConfig:
    """The `[eval]` table. Samples are kept in any case; these are the evaluations with a score."""

    core: Text | None = None
    """The CORE bundle: "full" fetches it, "pocket" is the built-in world's, anything else is a
    folder.
    """
    core_every: CountOrZero = 2_000
    """Steps of base training from one CORE score to the next, at the evaluation that is due; 0:
    only when training is done.
    """
    core_examples: Count = 500
    """Examples of each task that are scored during training; all of them in the end."""
    chat: tuple[Text, ...] = ()
    """Tasks for every chat model in the end, by name; "pocket" is all skills of the built-in world
    ("pocket-zh" of the Chinese one), "free" hand-written questions about it, "all" the reference's
    six, the path of a jsonl file questions of your own with what their answers must hold.
    """
    questions: Count | None = None
    """Of each chat task; empty: all there are."""

    def anchored(self) -> EvalConfig:
        """With the path of a bundle of its own made absolute."""
        if self.core is None or self.core in (*BUILT_IN, FULL):
            return self
        return replace(self, core=absolute(self.core))


def write_results(folder: RunFolder, stage: str, name: str, results: Any, **facts: Any) -> None:
    """Write `evals/<stage>-<name>.json`: what an evaluation found of a stage's model."""
    path = folder.evals / f"{stage}-{name}.json"
    write_json(path, {"stage": stage, "eval": name, **facts, "results": results})
