"""Decoding speed against `transformers` on the same weights in the same run, alone and 32 at once,
and against the memory's bandwidth.
"""

import functools
from collections.abc import Callable

import torch

from chatling.bench.measure import (
    SMALL,
    Rows,
    byte_tokenizer,
    figure,
    race,
    random_model,
    seconds,
)
from chatling.bench.peers import to_transformers
from chatling.inference.engine import Engine, Request, SamplingParams
from chatling.model.config import ModelRecipe, parameter_counts

LENGTH = 40  # tokens of a prompt
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def bench_decode(
    recipe: ModelRecipe = SMALL,
    vocab_size: int = 8192,
    *,
    tokens: int = 200,
    max_batch_size: int = 32,
    repeats: int = 3,
    device: str = "cpu",
) -> Rows:
    """Rows {"measure", "value", "unit"}: tokens a second, greedy, best of `repeats` with the
    contestants taken in turn; 1 and `max_batch_size` rows.

    Prompts of 40 tokens, new ones each time, are read inside the measured time by all. Weights are
    random. Raises ChatlingError when `transformers` is not installed.
    """
    model, tokenizer = random_model(recipe, vocab_size, device), byte_tokenizer(vocab_size)
    peers = {name: to_transformers(model, dtype) for name, dtype in DTYPES.items()}
    figures: Rows = []
    for rows in (1, max_batch_size):
        contestants: dict[str, Callable[[int], list[list[int]]]] = {}
        for name, dtype in DTYPES.items():
            contestants[f"{name}, transformers"] = functools.partial(
                _theirs, peers[name], tokens, rows, device
            )
            for kind in ("eager", "compiled"):
                engine = Engine(
                    model, tokenizer, dtype=dtype, max_batch_size=rows, compiled=kind == "compiled"
                )
                contestants[f"{name}, {kind}"] = functools.partial(_ours, engine, tokens, rows)
        answers = {name: run(0) for name, run in contestants.items()}  # warms up, too
        pairs = zip(answers["fp32, eager"], answers["fp32, transformers"], strict=True)
        times = race(contestants, repeats)
        speed = {name: tokens * rows / time for name, time in times.items()}
        title = f"decode, batch {rows}"
        figures += _figures(title, speed)
        unlike = sum(ours != theirs for ours, theirs in pairs)
        figures.append(figure(f"{title}, fp32 answers unlike transformers'", unlike, "answers"))
        if rows == 1:
            best = max(DTYPES, key=lambda name: speed[f"{name}, compiled"])
            counts = parameter_counts(model.config)
            weights = (counts["matrices"] + counts["head"]) * DTYPES[best].itemsize  # bytes
            share = 100 * weights * speed[f"{best}, compiled"] / memory_bandwidth(device)
            figures.append(figure(f"{title}, {best}, share of memory bandwidth", share, "%"))
    return figures


def _figures(title: str, speed: dict[str, float]) -> Rows:
    """Tokens a second of all contestants, and ours as multiples of theirs: the better of ours in
    each dtype, and the best of all.
    """
    ours = {name: max(speed[f"{name}, eager"], speed[f"{name}, compiled"]) for name in DTYPES}
    ratios = {name: value / speed[f"{name}, transformers"] for name, value in ours.items()}
    best = max(ours.values()) / speed["fp32, transformers"]
    return [
        *(figure(f"{title}, {name}", value, "tokens/s") for name, value in speed.items()),
        *(figure(f"{title}, {name}, times transformers", x, "x") for name, x in ratios.items()),
        figure(f"{title}, best, times transformers fp32", best, "x"),
    ]


def memory_bandwidth(device: str = "cpu", megabytes: int = 512) -> float:
    """Bytes a second of reading a tensor too large for any cache, best of five."""
    block = torch.ones(megabytes << 18, device=device)
    return block.nbytes / min(seconds(lambda: block.sum().item()) for _ in range(5))


def _prompts(turn: int, rows: int) -> list[tuple[int, ...]]:
    """Prompts that share no beginning, with one another or with those of other turns."""
    return [(turn, row, *range(LENGTH - 2)) for row in range(rows)]


def _ours(engine: Engine, tokens: int, rows: int, turn: int) -> list[list[int]]:
    sampling = SamplingParams(temperature=0.0, max_tokens=tokens)
    requests = [Request(prompt, sampling) for prompt in _prompts(turn, rows)]
    return [completion.ids for completion in engine.generate(requests)]


@torch.inference_mode()
def _theirs(
    peer: torch.nn.Module, tokens: int, rows: int, device: str, turn: int
) -> list[list[int]]:
    prompts = torch.tensor(_prompts(turn, rows), device=device)
    answers = peer.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=tokens, do_sample=False
    )  # type: ignore[operator]
    ids: list[list[int]] = answers[:, LENGTH:].tolist()
    return ids
