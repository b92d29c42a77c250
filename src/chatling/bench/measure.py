"""What the benchmarks share: figures as rows, the clock, and a model with random weights."""

import itertools
import time
from collections.abc import Callable, Mapping

import torch

from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer

Row = dict[str, str | float]
Rows = list[Row]
SMALL = ModelRecipe(depth=4, width=256, head_width=128, context=512)


def figure(measure: str, value: float, unit: str) -> Row:
    """A row of a benchmark's results."""
    return {"measure": measure, "value": value, "unit": unit}


def seconds(work: Callable[[], object], device: torch.device | None = None) -> float:
    """Wall time of `work`; where there is a device, it is waited for before and after."""
    wait = device is not None and device.type != "cpu"
    if device is not None and wait:
        getattr(torch, device.type).synchronize()
    start = time.perf_counter()
    work()
    if device is not None and wait:
        getattr(torch, device.type).synchronize()
    return time.perf_counter() - start


def race(contestants: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """The best seconds of each contestant; they take turns, and are given the round, from 1 on."""
    times = {name: [float("inf")] for name in contestants}
    for turn in range(1, rounds + 1):
        for name, run in contestants.items():
            times[name].append(seconds(lambda run=run, turn=turn: run(turn)))  # type: ignore[misc]
    return {name: min(found) for name, found in times.items()}


def random_model(recipe: ModelRecipe, vocab_size: int, device: str = "cpu") -> GPT:
    """A model with random weights, which never ends an answer or calls the calculator."""
    model = GPT(recipe.resolve(vocab_size))
    generator = torch.Generator().manual_seed(0)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            # Fresh output projections and head are zero: no work to speak of, all choices equal.
            if not parameter.any():
                parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
        model.lm_head.weight[-len(SPECIAL_TOKENS) :] = 0
    return model.to(device).eval()


def byte_tokenizer(vocab_size: int) -> Tokenizer:
    """A tokenizer of a given size, up to 65,801: all single bytes, then pairs of bytes."""
    longer = map(bytes, itertools.product(range(256), repeat=2))
    pieces = [bytes([byte]) for byte in range(256)]
    wanted = vocab_size - len(pieces) - len(SPECIAL_TOKENS)
    return Tokenizer([*pieces, *itertools.islice(longer, wanted)], digits=2)
