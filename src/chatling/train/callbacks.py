"""Looking at a model while it trains: samples at every evaluation, and CORE now and then in base
training.

Nothing in here may change training or end it: the weights are read from a copy that is not compiled
(shapes of its own would use up the compiler's), the random state is put back, and what fails is
told of and left out.
"""

import gc
from collections.abc import Sequence

import torch

from chatling.data.examples import example_prompts
from chatling.evals.core import evaluate_core, write_core
from chatling.evals.samples import (
    CONTEXT,
    OPENINGS,
    PROBES,
    QUESTIONS,
    Question,
    first_questions,
    sample_answers,
    sample_texts,
)
from chatling.hardware.distributed import main_process_first
from chatling.inference.engine import Engine
from chatling.inference.model_runner import in_dtype
from chatling.model.gpt import GPT
from chatling.train.context import Context
from chatling.train.datasets import own_questions
from chatling.train.metrics import MetricsLog

OWN_QUESTIONS = 8  # of a run's own data, and at least one of each task


class LiveEvals:
    """The loop's callback over one stage. Writes `evals/<stage>-samples.jsonl`, one line an
    evaluation: {"step", "samples"}.
    """

    def __init__(self, context: Context, stage: str, model: GPT, *, chats: bool):
        """A model that chats is asked questions; another continues texts, and is scored on CORE."""
        self._context, self._stage, self._model, self._chats = context, stage, model, chats
        self._asked: tuple[Question, ...] = ()
        self._samples = MetricsLog(context.run.evals / f"{stage}-samples.jsonl")

    def on_eval(self, step: int) -> dict[str, float]:
        """Samples on the first rank; CORE, where it is due, on all of them."""
        device = self._context.device
        found: dict[str, float] = {}
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                eval_model = in_dtype(self._model, self._context.execution.torch_dtype)
                eval_model.set_kernel("sdpa")
                with main_process_first(self._context.world):  # the others wait as long as it takes
                    if self._context.world.is_main:
                        self._sample(eval_model, step)
                if self._core_is_due(step):
                    found = self._core(eval_model, step)
        except Exception as error:
            self._tell("evaluation", error)
        gc.collect()  # the loop has turned the collector off, and an engine holds a cache
        return found

    def on_rewind(self, step: int) -> None:
        """Samples of the very step are kept: they were taken before it was saved."""
        self._samples.cut(step + 1)

    def _sample(self, eval_model: GPT, step: int) -> None:
        try:
            engine = Engine(
                eval_model, self._context.tokenizer, max_batch_size=len(PROBES), context=CONTEXT
            )
            found = (
                sample_answers(engine, self._questions())
                if self._chats
                else sample_texts(engine, self._openings())
            )
            self._samples.append({"step": step, "samples": [each.to_dict() for each in found]})
            self._context.progress.samples(found)
        except Exception as error:  # CORE comes next, and the other ranks wait for it
            self._tell("samples", error)

    def _questions(self) -> Sequence[Question]:
        """Of the run's own data, where those have some; the same at every evaluation."""
        if not self._asked:
            tasks = own_questions(self._context.recipe)
            each = max(1, OWN_QUESTIONS // max(1, len(tasks)))
            context = min(CONTEXT, self._model.config.context)
            found = first_questions(tasks, self._context.tokenizer, each, context)
            self._asked = tuple(found) or QUESTIONS
        return self._asked

    def _openings(self) -> Sequence[tuple[str, str]]:
        """Beginnings of texts that the user's own data hold out, where a run has such data."""
        data = self._context.recipe.data
        if data.built_in or data.on_hub:
            return OPENINGS
        own = example_prompts(self._context.run, self._stage)
        return [("held-out text", text) for text in own] or OPENINGS

    def _core_is_due(self, step: int) -> bool:
        """At the first evaluation after each `core_every` steps; what is due when training ends,
        the eval stage does in full.
        """
        config, every = self._context.recipe.eval, self._context.recipe.loop.evaluate_every
        if self._chats or config is None or self._context.core is None:
            return False
        if not (config.core_every and every):
            return False
        return step // config.core_every > (step - every) // config.core_every

    def _core(self, eval_model: GPT, step: int) -> dict[str, float]:
        context, config = self._context, self._context.recipe.eval
        assert context.core is not None
        assert config is not None
        result = evaluate_core(
            eval_model,
            context.tokenizer,
            context.core,
            limit=config.core_examples,
            world=context.world,
        )
        if context.world.is_main:
            write_core(context.run, self._stage, result, step=step)
        return {"core": result.core}

    def _tell(self, what: str, error: Exception) -> None:
        self._context.progress.message(
            f"{self._stage}: {what} failed ({type(error).__name__}: {error}); training continues."
        )
