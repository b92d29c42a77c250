"""Whether a recipe is for this machine, in one sentence."""

import contextlib
from dataclasses import dataclass

from chatling.config.recipe import builtin_recipes, load_recipe
from chatling.errors import ChatlingError
from chatling.hardware.detect import Machine
from chatling.pipeline.plan import Plan, plan
from chatling.run_dir import size
from chatling.terminal.progress import duration
from chatling.train.runtime import micro_tokens

LONGEST = 30 * 86_400  # seconds that anybody waits for a model


@dataclass(frozen=True)
class Room:
    """What there is for a run: the machine, and bytes of its disk that are free and those of text
    that was fetched already.
    """

    machine: Machine
    free: int
    fetched: int = 0

    def verdict(self, outline: Plan) -> str:
        memory, disk = sum(outline.memory.values()), self._disk(outline)
        why = self._fault(outline)
        if why is not None:
            return f"Does not fit, because {why[0].lower()}{why[1:]}; try {self.largest()}."
        if self._seconds(outline) > LONGEST:
            took = duration(self._seconds(outline))
            return f"Not for this machine: it would take {took}; try {self.largest()}."
        return (
            f"Fits: {duration(self._seconds(outline))}, {size(memory)} of"
            f" {size(self.machine.memory)} of memory, {size(disk)} of {size(self.free)} of disk."
        )

    def largest(self) -> str:
        """The ready recipe with the most work of those that bring their data, fit and end in
        time.
        """
        found = {"pocket": 0.0}
        for name in builtin_recipes():
            with contextlib.suppress(ChatlingError):
                recipe = load_recipe(name)
                outline = plan(recipe)
                if (
                    (recipe.data.built_in or outline.text)
                    and self._fault(outline) is None
                    and self._seconds(outline) <= LONGEST
                ):
                    found[name] = sum(outline.work.values())
        return max(found, key=lambda name: found[name])

    def _fault(self, outline: Plan) -> str | None:
        """What there is too little of."""
        memory, disk = sum(outline.memory.values()), self._disk(outline)
        try:
            micro_tokens(self.machine, outline.model)
        except ChatlingError as error:
            return error.what.rstrip(".")
        if memory > self.machine.memory:
            return f"it needs {size(memory)} of memory, and {size(self.machine.memory)} are there"
        if disk > self.free:
            return f"it writes {size(disk)}, and {size(self.free)} of disk are free"
        return None

    def _disk(self, outline: Plan) -> float:
        download = outline.text.download if outline.text else 0.0
        return sum(outline.disk.values()) + max(0.0, download - self.fetched)

    def _seconds(self, outline: Plan) -> float:
        return sum(outline.work.values()) / (self.machine.training_tflops * 1e12)
