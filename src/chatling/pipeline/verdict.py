"""Whether a recipe is for this machine, in one sentence."""

import contextlib
from dataclasses import dataclass

from chatling.config.recipe import builtin_recipes, load_recipe
from chatling.data.config import POCKET
from chatling.errors import ChatlingError
from chatling.hardware.detect import Machine
from chatling.pipeline.plan import Plan, plan
from chatling.pipeline.timetable import Throughput, seconds
from chatling.run_dir import size
from chatling.terminal.progress import duration
from chatling.train.runtime import check_memory

LONGEST = 30 * 86_400  # seconds that anybody waits for a model


@dataclass(frozen=True)
class Room:
    """What there is for a run: the machine (of several alike, one rank's), bytes of its disk that
    are free (None: not known) and those of text that was fetched already, and its speed.
    """

    machine: Machine
    free: int | None
    fetched: int = 0
    rates: Throughput | None = None  # None: as measured

    def verdict(self, outline: Plan) -> str:
        memory, disk = sum(outline.memory.values()), self._disk(outline)
        took = duration(self._seconds(outline))
        why = self._fault(outline)
        if why is not None:
            return f"Does not fit, because {why[0].lower()}{why[1:]}; try {self.largest()}."
        if self._seconds(outline) > LONGEST:
            return f"Not for this machine: it would take {took}; try {self.largest()}."
        of = (
            f"{size(disk)} of disk"
            if self.free is None
            else f"{size(disk)} of {size(self.free)} of disk"
        )
        rank = " a rank" if self.rates and self.rates.ranks > 1 else ""
        return f"Fits: {took}, {size(memory)} of {size(self.machine.memory)} of memory{rank}, {of}."

    def largest(self) -> str:
        """The ready recipe with the most work of those that bring their data, fit and end in time;
        of the built-in worlds only the first, since they differ in language alone.
        """
        found = {POCKET: 0.0}
        for name in builtin_recipes():
            with contextlib.suppress(ChatlingError):
                recipe = load_recipe(name)
                outline = plan(recipe)
                if (
                    (recipe.data.source == POCKET or outline.text)
                    and self._fault(outline) is None
                    and self._seconds(outline) <= LONGEST
                ):
                    found[name] = sum(outline.work.values())
        return max(found, key=lambda name: found[name])

    def _fault(self, outline: Plan) -> str | None:
        """What there is too little of."""
        disk = self._disk(outline)
        try:
            shards = self.rates.ranks if self.rates and outline.shard else 1
            check_memory(self.machine, outline.longest, outline.rank, shards)
        except ChatlingError as error:
            return error.what.rstrip(".")
        if self.free is not None and disk > self.free:
            return f"it writes {size(disk)}, and {size(self.free)} of disk are free"
        return None

    def _disk(self, outline: Plan) -> float:
        download = outline.text.download if outline.text else 0.0
        return sum(outline.disk.values()) + max(0.0, download - self.fetched)

    def _seconds(self, outline: Plan) -> float:
        return seconds(outline, self.rates or Throughput.measured(self.machine))
