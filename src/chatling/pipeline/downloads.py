"""What a run takes from the network: fetched before its processes join, since one blip must not end
eight ranks; the rest beside it.
"""

from collections.abc import Callable, Collection, Sequence

from chatling.config.recipe import Recipe
from chatling.data.corpus import HubFiles
from chatling.data.subprocesses import start
from chatling.pipeline.stages import STAGES
from chatling.run_dir import RunFolder
from chatling.train.corpus import fetch_corpus
from chatling.train.datasets import open_sources
from chatling.train.stage_base import Stage


def fetch_first(
    recipe: Recipe,
    left: Collection[str],
    note: Callable[[str], None],
    run: RunFolder | None = None,
    *,
    stages: Sequence[Stage] = STAGES,
) -> HubFiles | None:
    """Have all that the stages that are `left` need of tasks, and the beginning of the text;
    returns the text's files that are left to fetch.

    Of text that `run` has tokenized already, nothing is fetched. May be called by several processes
    at once: each file comes once. Raises DataError naming what cannot be had.
    """
    sources = open_sources(recipe, note)
    todo = [stage for stage in stages if stage.name in left and stage.enabled(recipe)]
    for stage in todo:
        stage.fetch(recipe, sources, note)
    return fetch_corpus(recipe, note) if any(stage.reads_text(run) for stage in todo) else None


def fetch_beside(files: HubFiles) -> None:
    """Fetch files in a process of its own, which ends with this one. What it fails at is fetched,
    and reported, where it is wanted.
    """
    start(HubFiles.fetch, files)
