"""Models from Python: open a finished run, then chat, generate, stream or score texts with it."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from chatling.errors import DataError
from chatling.hardware.detect import LEFT_SHARE
from chatling.hardware.gpu import memory_left, open_device
from chatling.inference.engine import Engine
from chatling.inference.kv_cache import bytes_per_slot
from chatling.inference.request import Completion, Event, Request
from chatling.inference.sampling import SamplingParams
from chatling.inference.structured_outputs import StructuredOutputsParams
from chatling.messages import Conversation
from chatling.model.config import ModelConfig, model_memory
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder, size
from chatling.tokenizer.bpe import Tokenizer
from chatling.tokenizer.chat_template import parse_completion, render_prompt
from chatling.train import checkpoint

__all__ = [
    "LLM",
    "SamplingParams",
    "StructuredOutputsParams",
    "TokenLogprob",
    "load_model",
    "load_tokenizer",
    "open_engine",
    "train_recipe",
]

GPU_OVERHEAD = 1 << 30  # bytes of CUDA itself, and of what passes on the way, about
GREEDY = SamplingParams(temperature=0.0)


class TokenLogprob(NamedTuple):
    """A token of a text with its log-probability in nats, given the tokens before it."""

    token_id: int
    text: str
    logprob: float


class LLM:
    """A run's model with its tokenizer and engine.

    Sampling parameters have vLLM's names; without any, the most likely token is taken. Requests of
    one call share a batch, and each one's tokens do not depend on the others (batch invariance).
    Not for several threads at once: `chatling serve` and `AsyncEngine` are.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        *,
        stage: str | None = None,
        max_batch_size: int = 8,
        compile: bool | None = None,
    ):
        """`run` is a run's name or folder; `stage` defaults to the most advanced one it has.

        `compile` builds a faster decoding step with the C++ compiler, half a minute on a CPU; on
        CUDA there is one anyway.
        Raises RunError when there is no such run or stage, DataError when a file is damaged.
        """
        self.run = RunFolder.open(run)
        self.stage = self.run.finished_stage(stage)
        self.engine = open_engine(
            self.run, self.stage, max_batch_size=max_batch_size, compile=compile
        )
        self.tokenizer = self.engine.tokenizer

    def chat(
        self, messages: Sequence[Mapping[str, Any]], sampling_params: SamplingParams = GREEDY
    ) -> Completion:
        """The assistant's answer to messages like `{"role": "user", "content": "Hello!"}`.

        Raises ChatlingError when the messages are not in order or do not fit the context.
        """
        return self.engine.generate([self._request(messages, sampling_params)])[0]

    def message(self, completion: Completion) -> dict[str, Any]:
        """An answer as a message of the history, calculator calls included."""
        parts = parse_completion(self.tokenizer, completion.ids)
        content = [{"type": part.kind, "text": part.text} for part in parts]
        return {"role": "assistant", "content": content}

    def generate(
        self, prompts: Sequence[str], sampling_params: SamplingParams = GREEDY
    ) -> list[Completion]:
        """How the model continues each text, in their order; no chat template is applied."""
        return self.engine.generate([self._request(text, sampling_params) for text in prompts])

    def stream(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        sampling_params: SamplingParams = GREEDY,
    ) -> Iterator[Event]:
        """The answer to messages, or the continuation of a text, event by event.

        An event's `text` may be empty. Closing the iterator ends the request.
        """
        return self.engine.stream(self._request(prompt, sampling_params))

    def logprobs(self, text: str) -> list[TokenLogprob]:
        """Each token of a text with its log-probability, the first one given `<|bos|>`."""
        request = Request(
            (self.tokenizer.bos, *self.tokenizer.encode(text)),
            SamplingParams(max_tokens=1),
            echo=True,
        )
        scores = self.engine.generate([request])[0].prompt_logprobs
        return [
            TokenLogprob(token, self.tokenizer.decode([token]), score)
            for token, score in zip(request.prompt[1:], scores, strict=True)
        ]

    def _request(
        self, prompt: str | Sequence[Mapping[str, Any]], sampling_params: SamplingParams
    ) -> Request:
        if isinstance(prompt, str):
            return Request((self.tokenizer.bos, *self.tokenizer.encode(prompt)), sampling_params)
        conversation = Conversation.from_dict({"messages": list(prompt)})
        return Request(tuple(render_prompt(self.tokenizer, conversation)), sampling_params)


def load_model(
    run: str | os.PathLike[str], stage: str | None = None, *, device: str = "cpu"
) -> GPT:
    """A run's finished model in float32: `model.logits(model(ids))` are logits (B, T, V)."""
    folder = RunFolder.open(run)
    return checkpoint.load_model(folder.model(folder.finished_stage(stage)), device=device)


def load_tokenizer(run: str | os.PathLike[str]) -> Tokenizer:
    """A run's tokenizer."""
    return Tokenizer.load(RunFolder.open(run).tokenizer)


def train_recipe(
    recipe: str, *, run: str | None = None, overrides: Mapping[str, object] | None = None
) -> Path:
    """Train what is left of a recipe, like `chatling run`; returns the run's folder.

    `recipe` is a ready recipe or a TOML file; `overrides` are recipe fields by their dotted names.
    Raises ChatlingError for a recipe that cannot be trained, before any training.
    """
    from chatling.config.recipe import load_recipe  # here: a chat needs no pipeline
    from chatling.pipeline.session import run_recipe

    words = []
    for name, value in (overrides or {}).items():
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name}", *(str(each) for each in values)]
    return run_recipe(load_recipe(recipe, words), run).path


def open_engine(
    run: RunFolder,
    stage: str,
    *,
    max_batch_size: int = 1,
    gpu: int | None = None,
    compile: bool | None = None,
) -> Engine:
    """An engine for a stage's model on this machine's device (of several GPUs: on number `gpu`);
    where a GPU's other processes leave it too little memory, on the processor, with a warning.

    It computes in the dtype that the model was trained in if that is fast here. Raises DataError
    when a file is damaged or the tokenizer is not the model's.
    """
    device: str = open_device(gpu or 0)
    runtime = run.read_state()["execution"]
    if device == "cuda":
        bf16 = runtime.get("dtype") == "bfloat16"
        shape = checkpoint.model_shape(run.model(stage))
        device = _with_room(
            gpu or 0, shape, torch.bfloat16 if bf16 else torch.float32, max_batch_size
        )
    in_bf16 = runtime.get("dtype") == "bfloat16" and (
        runtime.get("device") == device or device == "cuda"
    )
    model = checkpoint.load_model(
        run.model(stage),
        device=device if gpu is None or device != "cuda" else f"{device}:{gpu}",
        dtype=torch.bfloat16 if in_bf16 else torch.float32,
    )
    tokenizer = Tokenizer.load(run.tokenizer)
    if tokenizer.vocab_size != model.config.vocab_size:
        sizes = f"{model.config.vocab_size} tokens, its tokenizer {tokenizer.vocab_size}"
        raise DataError(f"The {stage} model of run {run.name!r} has {sizes}.")
    return Engine(model, tokenizer, max_batch_size=max_batch_size, compiled=compile)


def _with_room(gpu: int, shape: ModelConfig, dtype: torch.dtype, answers: int) -> str:
    """The device that has memory for a model and so many answers at once: the GPU, or the
    processor, which is said.
    """
    slot = bytes_per_slot(shape, shape.context, dtype, torch.device("cuda", gpu))
    weights = model_memory(shape, training=False, weight_bytes=dtype.itemsize)
    needed, left = weights + (answers + 1) * slot + GPU_OVERHEAD, memory_left(gpu)
    if needed <= LEFT_SHARE * left:
        return "cuda"
    warnings.warn(
        f"This model takes {size(needed)} with {answers} answers at once, and {size(left)} of the"
        " GPU's memory are free: it answers on the processor, which is slower. End what else uses"
        " the GPU, or take fewer at once.",
        stacklevel=3,
    )
    return "cpu"
