"""The text of a run: made here, in a folder, or on the Hub."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from chatling.config.recipe import Recipe
from chatling.data.corpus import Corpus, HubFiles, corpus_mark, hub_corpus
from chatling.data.parquet import list_parquet
from chatling.data.shard_files import CORPUS as SHARDS
from chatling.data.streaming import grow_token_shards
from chatling.errors import RecipeError
from chatling.run_dir import RunFolder, manifest_fault, read_manifest
from chatling.toy.dataset import BUILT_IN
from chatling.train.datasets import open_fetcher
from chatling.train.scaling import text_characters
from chatling.train.survey import Survey, survey_text

# files of text that are there before training starts; what the reference's tokenizer reads
AHEAD = 8


@dataclass(frozen=True)
class CorpusPlan:
    """What is taken of a corpus on the Hub."""

    shards: int  # to train on; one more is for validation
    characters: float
    download: float


def plan_corpus(recipe: Recipe) -> CorpusPlan | None:
    """None for a corpus about which nothing is known."""
    facts = recipe.data.facts()
    if facts is None:
        return None
    wanted = (
        math.ceil(text_characters(recipe) / facts.characters)
        if recipe.data.shards == "auto"
        else recipe.data.shards
    )
    shards = min(wanted, facts.shards - 1)
    return CorpusPlan(shards, shards * facts.characters, (shards + 1) * facts.bytes)


def corpus_fingerprint(recipe: Recipe) -> object:
    """What tells the text of a recipe from other text."""
    data = recipe.data
    return data.source if data.source in BUILT_IN else corpus_mark(data)


def open_corpus(recipe: Recipe, folder: RunFolder, note: Callable[[str], None]) -> Corpus:
    """The files of a run's text; what is made here is written into the run's folder the first time.
    Raises DataError when the text cannot be had.
    """
    data = recipe.data
    if data.source not in BUILT_IN:
        if data.on_hub:
            return hub_corpus(data, open_fetcher(recipe, note), text_characters(recipe))
        return Corpus(*list_parquet(Path(data.source)))
    made = folder.path / "corpus"
    if fault := manifest_fault(made):
        if made.exists():
            note(f"The text is written again: {fault}.")
        BUILT_IN[data.source].write_corpus(made, recipe.seed)
    files = sorted(made / name for name in read_manifest(made))  # what else lies there is not ours
    return Corpus(files[:-1], files[-1:])


def text_shards(run: RunFolder, split: str) -> Path:
    """The token shards of a run's text, for training or validation."""
    return run.data / f"base-{split}"


def has_text_shards(run: RunFolder) -> bool:
    """Whether nothing of a run's text is left to tokenize."""
    return all((text_shards(run, split) / SHARDS).exists() for split in ("train", "validation"))


def write_text_shards(recipe: Recipe, folder: RunFolder, note: Callable[[str], None]) -> None:
    """Tokenize a run's text, or its beginning; quick when that was done before."""
    corpus, column = open_corpus(recipe, folder, note), recipe.data.column
    for split, files in (("validation", corpus.validation), ("train", corpus.train)):
        shards = text_shards(folder, split)
        grow_token_shards(shards, files, folder.tokenizer, column, AHEAD, note)


def survey_corpus(recipe: Recipe, seen: Survey) -> Survey:
    """With what a folder of one's own holds. Raises DataError and RecipeError for what cannot be
    read.
    """
    data = recipe.data
    if data.source in BUILT_IN and data.column != "text":
        raise RecipeError(
            f"data.column is {data.column!r}, and the built-in world's column is 'text'.",
            "Leave data.column out.",
        )
    if data.source in BUILT_IN or data.on_hub or seen.text is not None:
        return seen
    return replace(seen, text=survey_text(Path(data.source), data.column))


def fetch_corpus(recipe: Recipe, note: Callable[[str], None]) -> HubFiles | None:
    """Have the beginning of the text; returns the files that are left to fetch."""
    data = recipe.data
    if not data.on_hub:
        return None
    corpus = hub_corpus(data, open_fetcher(recipe, note), text_characters(recipe))
    train, validation = corpus.train, corpus.validation
    assert isinstance(train, HubFiles)
    assert isinstance(validation, HubFiles)
    validation.fetch()
    train[:AHEAD].fetch()
    return train[AHEAD:] if len(train) > AHEAD else None
