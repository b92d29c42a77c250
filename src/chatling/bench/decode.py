"""Decoding speed against `transformers` on the same weights in the same run, alone and 32 at once,
and against the memory's bandwidth.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable

import torch

from chatling.bench.peers import to_transformers
from chatling.inference.engine import Engine, Request, SamplingParams
from chatling.model.config import ModelRecipe, parameter_counts
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer

Rows = list[dict[str, str | float]]
Contestant = Callable[[int], list[list[int]]]  # a round's number to what was said
LENGTH = 40  # of the prompts


def bench_decode(
    recipe: ModelRecipe | None = None,
    vocab_size: int = 8192,
    *,
    tokens: int = 200,
    width: int = 32,
    repeats: int = 3,
    device: str = "cpu",
) -> Rows:
    """Rows {"measure", "value", "unit"}: tokens a second, greedy, best of `repeats` with the
    contestants taken in turn; 1 and `width` rows.

    Prompts of 40 tokens, new ones each time, are read inside the measured time by all. Weights are
    random. Defaults: depth-4 classic, width 256, context 512. Raises ChatlingError when
    `transformers` is not installed.
    """
    model, tokenizer = (
        random_model(recipe or ModelRecipe(depth=4, context=512), vocab_size, device),
        _any_tokenizer(vocab_size),
    )
    peers = {name: to_transformers(model, dtype) for name, dtype in DTYPES.items()}
    figures: Rows = []
    for rows in (1, width):
        contestants: dict[str, Contestant] = {}
        for name, dtype in DTYPES.items():
            contestants[f"{name}, transformers"] = functools.partial(
                _theirs, peers[name], tokens, rows, device
            )
            for kind in ("eager", "compiled"):
                engine = Engine(
                    model, tokenizer, dtype=dtype, max_batch_size=rows, compiled=kind == "compiled"
                )
                contestants[f"{name}, {kind}"] = functools.partial(_ours, engine, tokens, rows)
        speed, unlike = _race(contestants, tokens * rows, repeats)
        figures += _figures(f"decode, batch {rows}", speed)
        figures.append(
            {
                "measure": f"decode, batch {rows}, fp32 answers unlike transformers'",
                "value": unlike,
                "unit": "answers",
            }
        )
        if rows == 1:
            best = max((name for name in DTYPES), key=lambda name: speed[f"{name}, compiled"])
            counts = parameter_counts(model.config)
            # bytes of weights a second
            traffic = (
                (counts["matrices"] + counts["head"])
                * DTYPES[best].itemsize
                * speed[f"{best}, compiled"]
            )
            share = 100 * traffic / memory_bandwidth(device)
            figures.append(
                {
                    "measure": f"decode, batch 1, {best}, share of memory bandwidth",
                    "value": share,
                    "unit": "%",
                }
            )
    return figures


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _figures(title: str, speed: dict[str, float]) -> Rows:
    """Tokens a second of all contestants, and ours as multiples of theirs: the better of ours in
    each dtype, and the best of all.
    """
    rows: Rows = [
        {"measure": f"{title}, {name}", "value": value, "unit": "tokens/s"}
        for name, value in speed.items()
    ]
    ours = {name: max(speed[f"{name}, eager"], speed[f"{name}, compiled"]) for name in DTYPES}
    for name, value in ours.items():
        rows.append(
            {
                "measure": f"{title}, {name}, times transformers",
                "value": value / speed[f"{name}, transformers"],
                "unit": "x",
            }
        )
    best = max(ours.values()) / speed["fp32, transformers"]
    return [
        *rows,
        {"measure": f"{title}, best, times transformers fp32", "value": best, "unit": "x"},
    ]


def memory_bandwidth(device: str = "cpu", megabytes: int = 512) -> float:
    """Bytes a second of reading a tensor too large for any cache, best of five."""
    block = torch.ones(megabytes << 18, device=device)
    return block.nbytes / min(_seconds(lambda: block.sum().item())[0] for _ in range(5))


def _race(
    contestants: dict[str, Contestant], tokens: int, repeats: int
) -> tuple[dict[str, float], int]:
    """Tokens a second of each; and how many fp32 answers of our eager engine differ from theirs in
    the first round, which warms up.
    """
    said = {name: run(0) for name, run in contestants.items()}
    best = dict.fromkeys(contestants, float("inf"))
    for turn in range(1, repeats + 1):
        for name, run in contestants.items():
            best[name] = min(best[name], _seconds(functools.partial(run, turn))[0])
    unlike = sum(
        mine != theirs
        for mine, theirs in zip(said["fp32, eager"], said["fp32, transformers"], strict=True)
    )
    return {name: tokens / seconds for name, seconds in best.items()}, unlike


def _seconds(work: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _prompts(turn: int, rows: int) -> list[tuple[int, ...]]:
    """Prompts that share no beginning, with one another or with those of other turns."""
    return [(turn, row, *range(LENGTH - 2)) for row in range(rows)]


def _ours(engine: Engine, tokens: int, rows: int, turn: int) -> list[list[int]]:
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens)
    return [
        completion.ids
        for completion in engine.generate(
            [Request(prompt, sampling) for prompt in _prompts(turn, rows)]
        )
    ]


@torch.inference_mode()
def _theirs(
    peer: torch.nn.Module, tokens: int, rows: int, device: str, turn: int
) -> list[list[int]]:
    prompts = torch.tensor(_prompts(turn, rows), device=device)
    said = peer.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=tokens, do_sample=False
    )  # type: ignore[operator]
    ids: list[list[int]] = said[:, LENGTH:].tolist()
    return ids


def random_model(recipe: ModelRecipe, vocab_size: int, device: str) -> GPT:
    model = GPT(recipe.resolve(vocab_size))
    generator = torch.Generator().manual_seed(0)
    model.initialise(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            if (
                not parameter.any()
            ):  # fresh output projections and head are zero, which is no work to speak of
                parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
        model.lm_head.weight[-len(SPECIAL_TOKENS) :] = (
            0  # nothing ends the answer, nor calls the calculator
        )
    return model.to(device)


def _any_tokenizer(vocab_size: int) -> Tokenizer:
    """A tokenizer of the right size: all single bytes, then numbers of three bytes."""
    longer = map(bytes, itertools.product(range(256), repeat=3))
    pieces = [bytes([byte]) for byte in range(256)]
    return Tokenizer(
        [*pieces, *itertools.islice(longer, vocab_size - len(pieces) - len(SPECIAL_TOKENS))],
        digits=2,
    )
