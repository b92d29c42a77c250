"""Decoding speed at batch 1, against `transformers` on the same weights in the same run, and against the memory's bandwidth."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch

from chatling.bench.peers import to_transformers
from chatling.inference.engine import Engine, Request, Sampling
from chatling.model.config import ModelRecipe, parameter_counts
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer

Rows = list[dict[str, str | float]]
PROMPT = tuple(range(40))


def bench_decode(
    recipe: ModelRecipe | None = None, vocabulary: int = 8192, *, tokens: int = 200, width: int = 32, repeats: int = 3, device: str = "cpu"
) -> Rows:
    """Rows {"measure", "value", "unit"}: tokens a second, greedy, best of `repeats` with the contestants taken in turn.

    The prompt of 40 tokens is read inside the measured time, by both. Weights are random. Defaults: depth-4 classic, width 256,
    context 512. `width` is the batch of the last row. Raises ChatlingError when `transformers` is not installed.
    """
    model, tokenizer = _random_model(recipe or ModelRecipe(depth=4, context=512), vocabulary, device), _any_tokenizer(vocabulary)
    ours: dict[torch.dtype, float] = {}
    theirs: dict[torch.dtype, float] = {}
    unlike = 0
    for dtype in (torch.float32, torch.bfloat16):
        engine, peer = Engine(model, tokenizer, dtype=dtype), to_transformers(model, dtype)
        contestants = (lambda: _ours(engine, tokens)[0], lambda: _theirs(peer, tokens, device))  # noqa: B023 - called before the next turn
        (ours[dtype], ids), (theirs[dtype], expected) = _race(contestants, tokens, repeats)
        if dtype == torch.float32:
            unlike = sum(a != b for a, b in zip(ids, expected, strict=True))
    rows: Rows = []
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        rows.append({"measure": f"decode, {name}", "value": ours[dtype], "unit": "tokens/s"})
        rows.append({"measure": f"decode, {name}, transformers", "value": theirs[dtype], "unit": "tokens/s"})
        rows.append({"measure": f"decode, {name}, times transformers", "value": ours[dtype] / theirs[dtype], "unit": "x"})
    compiled: dict[torch.dtype, float] = {}
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        engine = Engine(model, tokenizer, dtype=dtype, compiled=True)
        ((compiled[dtype], _),) = _race((lambda: _ours(engine, tokens)[0],), tokens, repeats)  # noqa: B023 - called before the next turn
        rows.append({"measure": f"decode, {name}, compiled", "value": compiled[dtype], "unit": "tokens/s"})
    best = max(compiled, key=lambda dtype: compiled[dtype])
    counts = parameter_counts(model.config)
    traffic = (counts["matrices"] + counts["head"]) * best.itemsize * compiled[best]  # bytes of weights a second
    many = Engine(model, tokenizer, dtype=best, width=width)
    ((batched, _),) = _race((lambda: sum(_ours(many, tokens, width), []),), tokens * width, repeats)  # noqa: RUF017 - a few lists
    return [
        *rows,
        {"measure": "decode, best, times transformers fp32", "value": compiled[best] / theirs[torch.float32], "unit": "x"},
        {"measure": "decode, best, share of memory bandwidth", "value": 100 * traffic / memory_bandwidth(device), "unit": "%"},
        {"measure": "decode, fp32 tokens unlike transformers'", "value": unlike, "unit": "tokens"},
        {"measure": f"decode, best, batch {width}", "value": batched, "unit": "tokens/s"},
    ]


def memory_bandwidth(device: str = "cpu", megabytes: int = 512) -> float:
    """Bytes a second of reading a tensor too large for any cache, best of five."""
    block = torch.ones(megabytes << 18, device=device)
    return block.nbytes / min(_seconds(lambda: block.sum().item())[0] for _ in range(5))


def _race(contestants: tuple[Callable[[], list[int]], ...], tokens: int, repeats: int) -> list[tuple[float, list[int]]]:
    """Tokens a second of each, and what it said; a first round warms up."""
    ids = [run() for run in contestants]
    best = [float("inf")] * len(contestants)
    for _ in range(repeats):
        for i, run in enumerate(contestants):
            best[i] = min(best[i], _seconds(run)[0])
    return [(tokens / seconds, said) for seconds, said in zip(best, ids, strict=True)]


def _seconds(work: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _ours(engine: Engine, tokens: int, width: int = 1) -> list[list[int]]:
    request = Request(PROMPT, Sampling(temperature=0.0, max_tokens=tokens))
    return [completion.ids for completion in engine.generate([request] * width)]


@torch.inference_mode()
def _theirs(peer: torch.nn.Module, tokens: int, device: str) -> list[int]:
    prompt = torch.tensor([PROMPT], device=device)
    said = peer.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, do_sample=False)  # type: ignore[operator]
    ids: list[int] = said[0, len(PROMPT) :].tolist()
    return ids


def _random_model(recipe: ModelRecipe, vocabulary: int, device: str) -> GPT:
    model = GPT(recipe.resolve(vocabulary))
    generator = torch.Generator().manual_seed(0)
    model.initialise(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():  # fresh output projections and head are zero, which is no work to speak of
                parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
        model.lm_head.weight[-len(SPECIAL_TOKENS) :] = 0  # nothing ends the answer, nor calls the calculator
    return model.to(device)


def _any_tokenizer(vocabulary: int) -> Tokenizer:
    """A tokenizer of the right size: all single bytes, then numbers of three bytes."""
    longer = map(bytes, itertools.product(range(256), repeat=3))
    pieces = [bytes([byte]) for byte in range(256)]
    return Tokenizer([*pieces, *itertools.islice(longer, vocabulary - len(pieces) - len(SPECIAL_TOKENS))], digits=2)
