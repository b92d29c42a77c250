"""What is exported: a finished model with its tokenizer."""

from dataclasses import dataclass

from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import Tokenizer
from chatling.train.checkpoint import load_model


@dataclass(frozen=True)
class Source:
    """A model in fp32, its tokenizer, and the run and stage that it comes from."""

    model: GPT
    tokenizer: Tokenizer
    run: str
    stage: str

    @staticmethod
    def of(run: RunFolder, stage: str) -> "Source":
        """A stage's finished model. Raises DataError when a file is damaged."""
        model, tokenizer = load_model(run.model(stage)), Tokenizer.load(run.tokenizer)
        return Source(model, tokenizer, run.name, stage)
