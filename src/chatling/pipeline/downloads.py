"""What a run takes from the network: fetched before its processes join, since one blip must not end
eight ranks; the rest beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from chatling.config.recipe import Recipe
from chatling.data.config import POCKET
from chatling.data.corpus import Corpus, HubFiles, folder_corpus, hub_corpus
from chatling.data.shard_files import CORPUS
from chatling.data.subprocesses import start
from chatling.errors import ChatlingError
from chatling.evals.chat import open_chat_tasks
from chatling.evals.config import FULL
from chatling.evals.core_bundle import fetch_bundle
from chatling.pipeline.plan import text_characters
from chatling.pipeline.survey import survey_pairs
from chatling.run_dir import RunFolder
from chatling.train.datasets import Sources
from chatling.train.dpo import on_hub, preference_pairs
from chatling.train.rl import open_task

if TYPE_CHECKING:
    from chatling.data.hub import Fetcher

AHEAD = (
    8  # files of text that are there before training starts; what the reference's tokenizer reads
)
Note = Callable[[str], None]


def open_fetcher(recipe: Recipe, note: Note) -> Fetcher:
    from chatling.data.hub import (
        Fetcher,
    )  # here: a run without downloads needs none of what it imports

    return Fetcher(local=recipe.data.local_folder, note=note)


def open_sources(recipe: Recipe, note: Note) -> Sources:
    """What tasks are made and fetched with."""
    return Sources(functools.partial(open_fetcher, recipe, note), recipe.identity, recipe.seed)


def open_corpus(recipe: Recipe, note: Note) -> Corpus:
    """The text of a recipe that is not the built-in world's. Raises DataError when it cannot be
    had.
    """
    if recipe.data.on_hub:
        return hub_corpus(recipe.data, open_fetcher(recipe, note), text_characters(recipe))
    return folder_corpus(Path(recipe.data.source))


def fetch_first(
    recipe: Recipe, stages: Collection[str], note: Note, run: RunFolder | None = None
) -> HubFiles | None:
    """Have all that `stages` need of tasks, and the beginning of the text; returns the text's files
    that are left to fetch.

    Of text that `run` has tokenised already, nothing is fetched. May be called by several processes
    at once: each file comes once. Raises DataError naming what cannot be had.
    """
    sources = open_sources(recipe, note)
    for name, config in (("mid", recipe.mid), ("sft", recipe.sft)):
        if name in stages and config is not None:
            sources.files(config.mixture, "train")
            sources.files(config.held_out, "validation")
    if "dpo" in stages and recipe.dpo is not None and recipe.dpo.data != POCKET:
        pairs = preference_pairs(recipe.dpo.data, sources)
        if on_hub(recipe.dpo.data):
            survey_pairs(pairs)  # files of one's own were looked into before
    if "rl" in stages and recipe.rl is not None:
        for split in ("train", "test"):
            open_task(recipe.rl, split, sources)
    if "eval" in stages and recipe.eval is not None:
        _fetch_evaluations(recipe, note)
    tokenised = run is not None and all(
        (run.data / f"base-{split}" / CORPUS).exists() for split in ("train", "validation")
    )
    if recipe.data.on_hub and ("tokenizer" in stages or ("base" in stages and not tokenised)):
        corpus = open_corpus(recipe, note)
        train, validation = corpus.train, corpus.validation
        assert isinstance(train, HubFiles)
        assert isinstance(validation, HubFiles)
        validation.fetch()
        train[:AHEAD].fetch()
        return train[AHEAD:] if len(train) > AHEAD else None
    return None


def _fetch_evaluations(recipe: Recipe, note: Note) -> None:
    """What the evaluations take. A run continues without what cannot be had: the eval stage leaves
    it out, and says so.
    """
    fetcher = functools.partial(open_fetcher, recipe, note)
    assert recipe.eval is not None
    try:
        if recipe.eval.core == FULL:
            fetch_bundle(fetcher())
        open_chat_tasks(recipe.eval.chat, recipe.seed, recipe.eval.questions, fetcher)
    except ChatlingError as error:
        note(f"An evaluation cannot be fetched now: {error}")


def fetch_beside(files: HubFiles) -> None:
    """Fetch files in a process of its own, which ends with this one. What it fails at is fetched,
    and reported, where it is wanted.
    """
    start(HubFiles.fetch, files)
