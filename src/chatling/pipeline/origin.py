"""The origin stage: a model from elsewhere becomes what the later stages continue from."""

from chatling.config.recipe import Recipe
from chatling.importing.origin import keep, read_origin
from chatling.model.config import ModelConfig, model_memory
from chatling.train.stage_base import ORIGIN, Job, Stage
from chatling.train.survey import Survey


class Origin(Stage):
    """Bring the tokenizer and the model that `[origin]` names."""

    outputs = ("tokenizer", f"{ORIGIN}/model")
    scratch = (ORIGIN,)

    def fingerprint_inputs(self, recipe: Recipe) -> object:
        """What was read, wherever it lies today."""
        return self.config(recipe).sha256

    def work(self, job: Job) -> None:
        source = read_origin(self.config(job.recipe), job.progress.message)
        keep(source, job.folder, ORIGIN)

    def disk(self, recipe: Recipe, model: ModelConfig, survey: Survey) -> int:
        return model_memory(model, training=False) + 200 * model.vocab_size


ORIGINAL = Origin(ORIGIN, ORIGIN)
