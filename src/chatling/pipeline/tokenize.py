"""The tokenizer stage."""

import warnings
from collections.abc import Iterator

from chatling.config.recipe import Recipe
from chatling.data.parquet import iter_texts
from chatling.errors import RunError
from chatling.model.config import ModelConfig
from chatling.run_dir import RunFolder
from chatling.tokenizer.train import train_tokenizer
from chatling.toy.dataset import BUILT_IN
from chatling.train.corpus import corpus_fingerprint, open_corpus, survey_corpus
from chatling.train.stage_base import Job, Stage
from chatling.train.survey import Survey


class Tokenization(Stage):
    """Train the tokenizer on the beginning of the text."""

    outputs = ("tokenizer",)
    # the text, where it is made here
    scratch = ("corpus",)
    imported = True

    def fingerprint_inputs(self, recipe: Recipe) -> object:
        return recipe.seed, corpus_fingerprint(recipe), recipe.tokenizer

    def work(self, job: Job) -> None:
        note = job.progress.message
        texts = iter_texts(open_corpus(job.recipe, job.folder, note).train, job.recipe.data.column)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tokenizer = train_tokenizer(texts, job.recipe.tokenizer)
        for warning in caught:
            note(f"tokenizer: {warning.message}")
        entry = job.folder.read_state()["stages"].get(self.name, {})
        if entry.get("tokenizer", tokenizer.fingerprint) != tokenizer.fingerprint:
            raise RunError(
                "The tokenizer that was damaged cannot be made again as it was, and the run's"
                " models are of no use without it.",
                f"Put {job.folder.tokenizer} back from a copy, or choose another run with --run.",
            )
        tokenizer.save(job.folder.tokenizer)
        job.record({"tokenizer": tokenizer.fingerprint})

    def survey(self, recipe: Recipe, seen: Survey) -> Survey:
        return survey_corpus(recipe, seen)

    def notes(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> Iterator[str]:
        # each merge needs a place of its own
        if survey.text is not None and survey.text.bytes < recipe.tokenizer.vocab_size:
            yield (
                f"The text in {recipe.data.source} is too little for a vocabulary of"
                f" {recipe.tokenizer.vocab_size:,}: it will be smaller."
            )

    def reads_text(self, run: RunFolder | None) -> bool:
        return True

    def disk(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> int:
        made = BUILT_IN.get(recipe.data.source)
        return 200 * recipe.tokenizer.vocab_size + (made.corpus_bytes if made else 0)


TOKENIZER = Tokenization("tokenizer", "tokenizer")
